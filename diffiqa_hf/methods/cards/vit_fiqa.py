# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""ViT-FIQA: the card."""

from .card import MethodCard
from .words import CANONICAL, REGRESSION, TRAP_COLOUR


CARD = MethodCard(
    name="vit-fiqa",
    title="ViT-FIQA",
    paper="Atzori, Boutros and Damer, ViT-FIQA: Assessing Face Image Quality using Vision Transformers, ICCVW 2025",
    formula="a normalisation and one linear layer on a learnt token that goes through the blocks of a vision "
    "transformer beside the patches; both learn at once, the patches to recognise faces",
    input=CANONICAL,
    raw_range="unbounded",
    code_license="CC BY-NC 4.0",
    weights_license="CC BY-NC 4.0",
    weights_source="model.pt, linked by "
    "https://github.com/atzoriandrea/ViT-FIQA-Assessing-Face-Image-Quality-using-Vision-Transformers",
    checked_against="the authors' network in its three modes on synthetic weights (fixture face_vit in "
    "tests/models/test_face_vit.py); the published weights were not at hand",
    notes=(
        TRAP_COLOUR,
        "the authors' script for scores reads with OpenCV and passes BGR on unless `--color_channel RGB` is given, "
        "while their training decodes to RGB; RGB is what goes in here",
        "the number of heads stands in no file; 8 is taken, as in all of the authors' configurations",
        "`full` and `crfiqa`, the modes of their ablation, are converted as well: there the score is read from the "
        "embedding",
    ),
    training=(
        "`training/train_quality.py --recipe vit-fiqa`",
        "the options are those of the authors' configuration for MS1MV2, with CosFace's margin of .4; their batch of "
        "256 is that of each of their processes",
        "their augmentation by affine maps, colours, blur and cut-outs is not there, nor the fall of their learning "
        "rate to 0 along a line after two epochs of its rise (`--warmup_steps` has the rise)",
        "a patch that training leaves out is drawn from the patches alone; theirs may leave out the quality token",
    ),
    dialect="vit-fiqa",
    networks=("FaceViTForFaceQuality",),
    **(REGRESSION | {"kind": "model-based"}),
)

__all__ = ["CARD"]
