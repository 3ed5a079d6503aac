# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""SDD-FIQA: the card."""

from .card import MethodCard
from .words import CANONICAL, ON_LFW, OUR_CLIPPING, REGRESSION, TRAP_COLOUR


CARD = MethodCard(
    name="sdd-fiqa",
    title="SDD-FIQA",
    paper="Ou et al., SDD-FIQA: Unsupervised Face Image Quality Assessment with Similarity Distribution Distance, "
    "CVPR 2021",
    formula="PReLU and one linear layer on the last feature map of an IR-50 network, trained on the Wasserstein "
    "distance between mated and non-mated similarities",
    input=CANONICAL,
    raw_range="about 0 to 100",
    code_license="Tencent's own (License.txt of the repository)",
    weights_license="Tencent's own (License.txt of the repository)",
    weights_source="the IR-50 on Google Drive, linked by quality/README.md of https://github.com/Tencent/TFace",
    checked_against="the authors' network on synthetic weights (fixture sddfiqa_r50 in "
    "tests/models/test_face_quality.py); the published weights were not at hand",
    notes=(
        TRAP_COLOUR,
        "the authors' code scales the labels of each of the 12 rounds to 0 .. 100 and averages then, here the "
        f"averages are scaled: on 400 faces {ON_LFW} the order is the same (Spearman 1.0000), and the labels "
        "differ by 1.0 on average, at most 1.9, where their standard deviation is 17",
    ),
    training=(
        "`training/train_quality.py --recipe sdd-fiqa`",
        "the options are those of the authors' train_config.py, which is set to a MobileFaceNet; here it is the "
        "published IR-50",
        "theirs starts from an FR model: `--model_name_or_path` does that, without it the network is new",
        "Adam's eps is torch's 1e-8, theirs 1e-6",
        OUR_CLIPPING,
    ),
    dialect="sdd-fiqa",
    networks=("SDDFIQAForFaceQuality",),
    **REGRESSION,
)

__all__ = ["CARD"]
