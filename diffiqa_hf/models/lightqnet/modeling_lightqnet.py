# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
LightQNet: Chen, Yi and Lv, "LightQNet: Lightweight Deep Face Quality Assessment for Risk-Controlled Face Recognition",
IEEE Signal Processing Letters 2021 (https://github.com/KaenChan/lightqnet). The network is the minimalistic
MobileNetV3-Small (Howard et al., "Searching for MobileNetV3", ICCV 2019): 3x3 kernels and ReLU only, no squeeze and
excitation. Its first convolution keeps the resolution.
"""

import torch
from torch import nn
from torch.nn.functional import pad
from transformers import (
    AutoConfig,
    PreTrainedModel,  # noqa: F401 - diffusers looks for this name here to load a saved component
)

from ..modeling_face import in_float32
from ..modeling_face_quality import AutoModelForFaceQuality, FaceQualityModel
from .configuration_lightqnet import LightQNetConfig


class LightQNetConv(nn.Module):
    """Convolution padded as TensorFlow's SAME, batch normalisation and, unless it is linear, ReLU."""

    def __init__(
        self,
        config: LightQNetConfig,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=config.bn_eps)
        self.act = nn.Identity() if linear else nn.ReLU()
        # SAME puts the odd row and column below and to the right: at stride 2 and even sizes there is nothing else.
        before, after = (kernel_size - stride) // 2, (kernel_size - stride + 1) // 2
        self.padding = (before, after, before, after) if kernel_size > 1 else None

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.padding is not None:
            hidden_states = pad(hidden_states, self.padding)
        return self.act(self.norm(self.conv(hidden_states)))


class LightQNetBlock(nn.Module):
    """Inverted residual: widen, depthwise 3x3, project."""

    def __init__(self, config: LightQNetConfig, in_channels: int, hidden: int, out_channels: int, stride: int):
        super().__init__()
        self.residual = stride == 1 and in_channels == out_channels
        self.expand = LightQNetConv(config, in_channels, hidden) if hidden != in_channels else nn.Identity()
        self.depthwise = LightQNetConv(config, hidden, hidden, 3, stride, groups=hidden)
        self.project = LightQNetConv(config, hidden, out_channels, linear=True)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        out = self.project(self.depthwise(self.expand(hidden_states)))
        return hidden_states + out if self.residual else out


class LightQNetForFaceQuality(FaceQualityModel):
    """
    LightQNet from canonical faces to quality.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf import LightQNetConfig, LightQNetForFaceQuality

    >>> model = LightQNetForFaceQuality(LightQNetConfig()).eval()
    >>> model(torch.zeros(2, 3, 112, 112)).scores.shape
    torch.Size([2])

    ```
    """

    config_class = LightQNetConfig
    # Its own crop (three points on a square of 160 pixels) is the ArcFace crop at another size.
    resizes_faces = True
    supports_gradient_checkpointing = False

    def __init__(self, config: LightQNetConfig):
        super().__init__(config)
        width = config.stem_width
        self.stem = LightQNetConv(config, 3, width, 3)
        blocks = []
        for hidden, out_channels, stride in config.blocks:
            blocks.append(LightQNetBlock(config, width, hidden, out_channels, stride))
            width = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.feature = LightQNetConv(config, width, config.feature_width)
        self.score = nn.Linear(config.feature_width, 1)
        self.post_init()

    def score_faces(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor | None]:
        """
        `scores` in (0, 1) and, as `embeddings`, the features that they are made of, `(batch_size,
        config.feature_width)`. They are not meant to tell faces apart.
        """
        features = self.feature(self.blocks(self.stem(self.prepare_faces(pixel_values)))).mean((2, 3))
        scores = in_float32(self.score, features).squeeze(-1).sigmoid()
        return {"scores": scores, "embeddings": features}


AutoConfig.register(LightQNetConfig.model_type, LightQNetConfig, exist_ok=True)
AutoModelForFaceQuality.register(LightQNetConfig, LightQNetForFaceQuality, exist_ok=True)


__all__ = ["LightQNetForFaceQuality"]
