# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""CR-FIQA (S, L): the card."""

from .card import MethodCard
from .words import CANONICAL, IRESNET_HEAD, ON_LFW, REGRESSION, TRAP_COLOUR


CARD = MethodCard(
    name="cr-fiqa",
    title="CR-FIQA (S, L)",
    paper="Boutros, Fang, Klemt, Fu and Damer, CR-FIQA: Face Image Quality Assessment by Learning Sample Relative "
    "Classifiability, CVPR 2023",
    formula="one linear layer on the embedding of an FR network, trained with it on the ratio of the similarity "
    "to the own class centre and to the nearest other one",
    input=CANONICAL,
    raw_range="unbounded",
    code_license="CC BY-NC 4.0",
    weights_license="CC BY-NC 4.0",
    weights_source="181952backbone.pth (L) and 32572backbone.pth (S), linked by https://github.com/fdbtrs/CR-FIQA",
    checked_against="the authors' networks S and L on synthetic weights (fixtures crfiqa_* in "
    "tests/models/test_face_quality.py); the published weights were not at hand",
    notes=(
        TRAP_COLOUR,
        "the authors' README says RGB, but their recipe for LFW-like sets writes BGR files and passes "
        "`--color_channel BGR`, and the one for XQLFW writes BGR files without it; RGB is what goes in here",
        "it is the FR network itself that was trained: on the benchmark of that network it is at home",
        "the authors' code trains on CCS / NNCCS, the paper on CCS / (NNCCS + 1 + eps), as here "
        "(`certainty_ratio='official'` does the other): on 400 faces of 76 people "
        f"{ON_LFW}, the people's mean embeddings being the class centres, the Spearman correlation of the two is "
        ".76; theirs lie between 1.5 and 6.8, the paper's between .35 and .78",
    ),
    training=(
        "`training/train_quality.py --recipe cr-fiqa`",
        "the options are those of the authors' config.py for MS1MV2 (L); for CASIA-WebFace (S) it has 34 epochs",
        "the norm of the gradient is clipped at 5 as in their code, but together with the class centres, which "
        "they leave out",
        "their backbone has a dropout of .4, ours none unless `--model_config` says so",
    ),
    dialect="cr-fiqa",
    networks=IRESNET_HEAD,
    head="linear",
    **(REGRESSION | {"kind": "model-based"}),
)

__all__ = ["CARD"]
