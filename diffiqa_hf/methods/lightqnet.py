# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""LightQNet: Chen, Yi and Lv, IEEE Signal Processing Letters 2021."""

from torch import nn

from ..image_processing_face import FaceImageProcessor
from .cards import MethodCard
from .regression import QualityModelMethod


class LightQNetMethod(QualityModelMethod):
    """LightQNet's confidence. Its faces are made at its own size at once, not resized from 112x112."""

    def __init__(self, card: MethodCard, model: nn.Module, image_processor: FaceImageProcessor | None = None):
        height, width = model.config.crop_size
        super().__init__(card, model, image_processor or FaceImageProcessor(size={"height": height, "width": width}))


__all__ = ["LightQNetMethod"]
