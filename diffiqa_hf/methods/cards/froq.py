# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""FROQ: the card."""

from .card import MethodCard
from .words import DETERMINISTIC, ON_LFW, PROBING


CARD = MethodCard(
    name="froq",
    title="FROQ",
    paper="Babnik, Jain, Peer and Štruc, FROQ: Observing Face Recognition Models for Efficient Quality "
    "Assessment, IJCB 2025",
    kind="analytical",
    formula="mean over chosen layers of the L2 norm of what the FR model gives there; the layers are chosen once, "
    "greedily, by Spearman's correlation with the mean similarity to the mirrored, the noisy and the partly black "
    "face",
    raw_range="above 0, scale set by the FR model",
    determinism=DETERMINISTIC,
    code_license="MIT",
    checked_against="norms, pseudo quality and choice of layers in NumPy and float64 "
    "(tests/methods/test_formulas_more.py); the authors' calibration set and the layers that they found were not "
    "at hand",
    notes=(
        "`layers` (names of modules) or `calibration` (images of all qualities, or a folder of them) has to be "
        "given; the authors take a part of Glint360K and AdaFace IR-101",
        "norms are not scaled before they are averaged, so the layers with the largest ones decide",
        "the authors' code gives modules that the model never runs (AdaFace's `body`) random numbers; here such "
        "modules, and those run more than once, are left out. One that wins a place among the candidates ends "
        f"their second pass with an error, else nothing changes: on 200 faces {ON_LFW} the best of 200 such "
        "draws has a rank correlation of .17 with the quality (here the similarity to the mean of the person's "
        "other faces), the tenth candidate one of .46",
        "the authors' configuration gives AdaFace the channels in the order blue, red, green ([2, 0, 1]), while "
        "AdaFace reads BGR; here the FR model's own configuration is followed. With red and green "
        "exchanged like that the scores of these 200 faces have a Spearman correlation of .92 with ours",
        "the repository says a discard fraction of 0.3 in one place and 0.2 in the next",
    ),
    needs_one_of=("layers", "calibration"),
    options=("layers", "calibration", "num_candidates"),
    method="froq:FROQ",
    **PROBING,
)

__all__ = ["CARD"]
