# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""DifFIQA(R): the card."""

from .card import MethodCard
from .words import CANONICAL, IRESNET_HEAD, REGRESSION


CARD = MethodCard(
    name="diffiqa-r",
    title="DifFIQA(R)",
    paper="Babnik, Peer and Štruc, DifFIQA, IJCB 2023, section 3.6",
    formula="one linear layer on the embedding of an FR network, trained on the scores of DifFIQA",
    input=CANONICAL,
    raw_range="about [0, 1], not confined to it: the labels were scaled to [0, 1], the output is linear",
    code_license="MIT",
    weights_license="the network in this package is for research only (its model card); of the authors' none is "
    "stated, and its backbone began as insightface's, which is for non-commercial research only",
    weights_source="the small network in this package, diffiqa(r).pth, linked by "
    "https://github.com/LSIbabnikz/DifFIQA, or your own training (`training/train_diffiqa_r.py`)",
    checked_against="the authors' network on synthetic weights (fixture diffiqa_r_iresnet100 in "
    "tests/models/test_face_quality.py); the published weights were not at hand",
    dialect="diffiqa-r",
    networks=IRESNET_HEAD,
    training=(
        "`training/train_diffiqa_r.py --preset diffiqa-r`",
        "the options are those of the authors' code, but the constants that scale the labels are taken from the "
        "faces trained on alone",
    ),
    head="linear",
    **(REGRESSION | {"needs": ()}),
)

__all__ = ["CARD"]
