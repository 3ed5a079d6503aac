# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
FaceQnet: Hernandez-Ortega et al., "FaceQnet: Quality Assessment for Face Recognition based on Deep Learning", ICB 2019
(v0), and "Biometric Quality: Review and Application to Face Recognition with FaceQnet", 2020 (v1). A ResNet-50 that
was trained on VGGFace2 (the Keras form, strides in the first convolution of a block), and dense layers to one number.
"""

import torch
from torch import nn
from torch.nn.functional import max_pool2d, pad
from transformers import (
    AutoConfig,
    PreTrainedModel,  # noqa: F401 - diffusers looks for this name here to load a saved component
)
from transformers.modeling_layers import GradientCheckpointingLayer

from ..modeling_face import in_float32
from ..modeling_face_quality import AutoModelForFaceQuality, FaceQualityModel
from .configuration_faceqnet import FaceQnetConfig


_ACTIVATIONS = {"relu": nn.ReLU, "linear": nn.Identity, "sigmoid": nn.Sigmoid}


class FaceQnetConv(nn.Module):
    """Convolution without bias, batch normalisation and, unless it is linear, ReLU."""

    def __init__(
        self,
        config: FaceQnetConfig,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        padding: int = 0,
        linear: bool = False,
    ):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=config.bn_eps)
        self.act = nn.Identity() if linear else nn.ReLU()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.conv(hidden_states)))


class FaceQnetBlock(GradientCheckpointingLayer):
    """Bottleneck: reduce with 1x1 (where the stride is), 3x3, increase with 1x1."""

    def __init__(self, config: FaceQnetConfig, in_channels: int, width: int, first: bool, stride: int):
        super().__init__()
        self.stride = stride
        self.reduce = FaceQnetConv(config, in_channels, width)
        self.conv = FaceQnetConv(config, width, width, 3, padding=1)
        self.increase = FaceQnetConv(config, width, 4 * width, linear=True)
        self.proj = FaceQnetConv(config, in_channels, 4 * width, linear=True) if first else nn.Identity()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        # The stride of the two 1x1 convolutions, taken before them.
        hidden_states = hidden_states[:, :, :: self.stride, :: self.stride]
        return (self.increase(self.conv(self.reduce(hidden_states))) + self.proj(hidden_states)).relu()


class FaceQnetForFaceQuality(FaceQualityModel):
    """
    FaceQnet from canonical faces to quality.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf.models.faceqnet import FaceQnetConfig, FaceQnetForFaceQuality

    >>> config = FaceQnetConfig(depths=[1, 1], widths=[4, 8], head_widths=[16])
    >>> FaceQnetForFaceQuality(config).eval()(torch.zeros(2, 3, 112, 112)).scores.shape
    torch.Size([2])

    ```
    """

    config_class = FaceQnetConfig
    resizes_faces = True

    def __init__(self, config: FaceQnetConfig):
        super().__init__(config)
        width = config.stem_width
        self.stem = FaceQnetConv(config, 3, width, 7, 2)
        blocks = []
        for stage, (depth, channels) in enumerate(zip(config.depths, config.widths, strict=True)):
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                blocks.append(FaceQnetBlock(config, width, channels, first=i == 0, stride=stride))
                width = 4 * channels
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(config.dropout)
        sizes = [width, *config.head_widths, 1]
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        self.acts = nn.ModuleList(_ACTIVATIONS[name]() for name in config.head_acts)
        self.post_init()

    def score_faces(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor | None]:
        """
        `scores` of about 0 to 1, not clipped, and, as `embeddings`, the mean of the last feature map, `(batch_size,
        config.embedding_size)`.
        """
        # Keras' padding "same" of a 7x7 convolution of stride 2 on even sides.
        hidden_states = self.stem(pad(self.prepare_faces(pixel_values), (2, 3, 2, 3)))
        features = self.blocks(max_pool2d(hidden_states, 3, 2)).mean((2, 3))
        hidden_states = self.dropout(features)
        for dense, act in zip(self.dense, self.acts, strict=True):
            hidden_states = act(in_float32(dense, hidden_states))
        scores = hidden_states.squeeze(-1)
        return {"scores": scores, "embeddings": features}


AutoConfig.register(FaceQnetConfig.model_type, FaceQnetConfig, exist_ok=True)
AutoModelForFaceQuality.register(FaceQnetConfig, FaceQnetForFaceQuality, exist_ok=True)


__all__ = ["FaceQnetForFaceQuality"]
