# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""MagFace: the card."""

from .card import MethodCard
from .words import DETERMINISTIC, OUR_CLIPPING


CARD = MethodCard(
    name="magface",
    title="MagFace",
    paper="Meng, Zhao, Huang and Zhou, MagFace: A Universal Representation for Face Recognition and Quality "
    "Assessment, CVPR 2021",
    kind="model-based",
    formula="L2 norm of the embedding of an FR network that was trained with MagFace's loss",
    takes=("weights",),
    needs=("weights",),
    input="112x112 on the ArcFace template, BGR, [0, 1] (the network's configuration does that)",
    raw_range="above 0; 10 to 110 in training",
    determinism=DETERMINISTIC,
    code_license="Apache-2.0",
    weights_license="Apache-2.0",
    weights_source="magface_epoch_00025.pth (iresnet100), linked by https://github.com/IrvingMeng/MagFace",
    checked_against="the authors' networks on synthetic weights (fixtures magface_* in tests/models); the "
    "published weights were not at hand",
    notes=(
        "norms of different networks can't be compared",
        "the published network reads BGR in [0, 1]: converted with another dialect's settings it gives numbers "
        "that look right and are not",
        "OFIQ, the reference software of ISO/IEC 29794-5, has an IResNet-50 of it and gives "
        "round(100 sigmoid((norm - 23) / 2.6))",
    ),
    training=(
        "`training/train_quality.py --recipe magface`",
        "the options are those of the authors' run.sh, which trains an IResNet-50; the default here is an "
        "IResNet-100 that reads RGB in [-1, 1] and has no dropout, and `--model_config` makes it theirs (BGR in "
        "[0, 1], a dropout of .4 of channels, eps 2e-5)",
        OUR_CLIPPING,
    ),
    method="embedding_norm:EmbeddingNorm",
    dialect="magface",
    one_pass=True,
)

__all__ = ["CARD"]
