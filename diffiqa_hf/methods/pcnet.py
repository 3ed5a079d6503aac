# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""PCNet: Xie, Byrne and Zisserman, "Inducing Predictive Uncertainty Estimation for Face Recognition", BMVC 2020."""

from ..models import pcnet  # noqa: F401 - makes it known to AutoModelForFaceQuality
from .lightqnet import LightQNetMethod


class PCNetMethod(LightQNetMethod):
    """PCNet's confidence. Its faces are made at its own size at once, not resized from 112x112."""


__all__ = ["PCNetMethod"]
