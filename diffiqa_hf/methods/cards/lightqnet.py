# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""LightQNet (dm025, dm050, dm100): the card."""

from .card import MethodCard
from .words import ON_LFW, OUR_CLIPPING, REGRESSION


CARD = MethodCard(
    name="lightqnet",
    title="LightQNet (dm025, dm050, dm100)",
    paper="Chen, Yi and Lv, LightQNet: Lightweight Deep Face Quality Assessment for Risk-Controlled Face "
    "Recognition, IEEE Signal Processing Letters 2021",
    formula="sigmoid of one linear layer on the mean of the last feature map of a minimalistic MobileNetV3-Small",
    input="96x96 of the same crop, RGB, (x - 128) / 128; other sizes are resized",
    raw_range="(0, 1); the published weights gave .52 to .65 on 16 faces of LFW",
    code_license="MIT",
    weights_license="MIT",
    weights_source="lightqnet-dm100.pb, -dm050.pb and -dm025.pb in https://github.com/KaenChan/lightqnet; "
    "`weights` takes such a file as it is",
    checked_against="the scores of the three published graphs on 16 faces of LFW, to 2e-7 "
    "(tests/methods/test_lightqnet.py, where the files are there), and the graph in NumPy and float64",
    notes=(
        "trained on RGB; the authors' demo feeds BGR, which is not copied here: on 200 faces of LFW it moves the "
        "scores of dm100 by .006 on average, at most .071, where their standard deviation is .018 (Spearman "
        ".91; benchmarks/bug_effects.py)",
        "in the training code the minimum is of two columns, the second not transposed, so that each pair has its "
        "first face's score and the loss no minimum at all: of one free number for each of 400 faces "
        f"{ON_LFW} those with the least of that loss and of the paper's differ by .035 on average (standard "
        "deviation .16) with a Spearman correlation of .82, and the paper's loss is .248 at the former, .231 at "
        "the latter",
        "the authors align by three points to a square of 160 pixels; those points are the ArcFace template's "
        "(eyes and the middle of the mouth), so the crop is the same at another size",
    ),
    training=(
        "`training/train_quality.py --recipe lightqnet`",
        "rate, steps, batch, lambda = 10, s, m and soft labels are the paper's; the authors' training code has "
        "lambda = 20, hard labels and 48,000 steps of 100 faces, 2 a person",
        "the paper leaves the width of the branch open: 256 is that of their code",
        OUR_CLIPPING,
    ),
    networks=("LightQNetForFaceQuality",),
    dialect="lightqnet",
    **{**REGRESSION, "method": "lightqnet:LightQNetMethod"},
)

__all__ = ["CARD"]
