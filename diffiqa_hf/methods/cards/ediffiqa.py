# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""eDifFIQA (T, S, M, L): the card."""

from .card import MethodCard
from .words import CANONICAL, IRESNET_HEAD, REGRESSION


CARD = MethodCard(
    name="ediffiqa",
    title="eDifFIQA (T, S, M, L)",
    paper="Babnik, Peer and Štruc, eDifFIQA: Towards Efficient Face Image Quality Assessment Based on Denoising "
    "Diffusion Probabilistic Models, IEEE TBIOM 2024",
    formula="two linear layers with GELU between on the embedding of an FR network, trained on scores of DifFIQA "
    "that were moved towards the similarity to the centre of the identity",
    input=CANONICAL,
    raw_range="about [0, 1], not confined to it",
    code_license="none stated",
    weights_license="none stated by the repository; CC-BY-4.0 for the copies of M on the Hub and of T in OpenCV's zoo",
    weights_source="linked by https://github.com/LSIbabnikz/eDifFIQA",
    checked_against="the authors' networks T and S on synthetic weights (fixtures ediffiqa_* in "
    "tests/models/test_face_quality.py); the published weights were not at hand",
    notes=("T scales its embedding to unit length before the head, S, M and L do not; the configuration knows",),
    training=(
        "`training/train_diffiqa_r.py --preset ediffiqa`",
        "the options are those of the authors' code, but the constants that scale the labels are taken from the "
        "faces trained on alone",
        "the labels are DifFIQA's, by `training/label_quality.py` and a pipeline of one's own",
    ),
    dialect="ediffiqa",
    networks=IRESNET_HEAD,
    head="mlp",
    **REGRESSION,
)

__all__ = ["CARD"]
