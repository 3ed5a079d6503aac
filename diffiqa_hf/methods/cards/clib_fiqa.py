# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""CLIB-FIQA: the card."""

from .card import MethodCard
from .words import REGRESSION


CARD = MethodCard(
    name="clib-fiqa",
    title="CLIB-FIQA",
    paper="Ou, Li, Wang and Kwong, CLIB-FIQA: Face Image Quality Assessment with Confidence Calibration, CVPR 2024",
    formula="expected quality, .1, .3, .5, .7 or .9, under CLIP's probabilities of 360 sentences that name blur, "
    "occlusion, pose, expression, illumination and quality of the face",
    input="224x224 of the same crop, RGB, CLIP's mean and standard deviation; other sizes are resized",
    raw_range="[.1, .9]",
    code_license="MIT",
    weights_license="MIT (none is stated for the file apart from the code)",
    weights_source="CLIB-FIQA_R50.pth, linked by https://github.com/oufuzhao/CLIB-FIQA; `weights` takes it as it "
    "is, and CLIP's own RN50.pt is not needed",
    checked_against="both encoders in NumPy and float64 on synthetic weights in the file's names "
    "(tests/conversion/dialects/test_clib_fiqa.py); the published file was not at hand",
    notes=(
        "the sentences never change, so a converted network holds what the text encoder gives for them in place "
        "of that encoder",
        "the authors' code runs in float16 and counts on CUDA; here it is float32",
        "the authors' script fills tensors that the file lacks with CLIP's without a word; here they are an error",
        "the terms are the probabilities of a clear, unobstructed, frontal face with typical expression and "
        "normal lighting",
    ),
    training=(
        "none in this package",
        "the authors' takes CLIP's RN50 and labels of five properties of each face beside those of quality",
    ),
    dialect="clib-fiqa",
    networks=("CLIBFIQAForFaceQuality",),
    **{**REGRESSION, "method": "clib_fiqa:CLIBFIQA"},
)

__all__ = ["CARD"]
