# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Image degradations: d(x) of DifFIQA's training, its blend with the clean face, and named fixed strengths."""

from .blend import blend, blend_weight
from .bsrgan import BSRGANDegradation, degrade_face
from .imaging_chain import Shot, draw_shot, photograph
from .strengths import STRENGTHS, degrade_at


__all__ = [
    "BSRGANDegradation",
    "STRENGTHS",
    "Shot",
    "blend",
    "blend_weight",
    "degrade_at",
    "degrade_face",
    "draw_shot",
    "photograph",
]
