# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
MobileFaceNet: Chen et al., "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile
Devices", CCBR 2018. One class holds the published variants, which differ in widths, activation and input (see the
configuration).
"""

import torch
from torch import nn
from transformers import PreTrainedModel  # noqa: F401 - diffusers looks for this name here to load a saved component
from transformers.modeling_layers import GradientCheckpointingLayer

from ..modeling_face import FaceRecognitionModel
from .configuration_mobilefacenet import MobileFaceNetConfig


class MobileFaceNetConv(nn.Module):
    """Convolution, batch normalisation and, unless it is linear, activation."""

    def __init__(
        self,
        config: MobileFaceNetConfig,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        activation: str | None = None,
    ):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=config.bn_eps)
        if activation == "prelu":
            self.act = nn.PReLU(out_channels)
        else:
            self.act = {"relu": nn.ReLU(), "relu6": nn.ReLU6(), None: nn.Identity()}[activation]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.conv(hidden_states)))


class MobileFaceNetBottleneck(GradientCheckpointingLayer):
    """Inverted residual: widen, depthwise 3x3, project."""

    def __init__(self, config: MobileFaceNetConfig, in_channels: int, hidden: int, out_channels: int, stride: int):
        super().__init__()
        act = config.hidden_act
        self.residual = stride == 1 and in_channels == out_channels
        self.expand = MobileFaceNetConv(config, in_channels, hidden, activation=act)
        self.depthwise = MobileFaceNetConv(config, hidden, hidden, 3, stride, 1, groups=hidden, activation=act)
        self.project = MobileFaceNetConv(config, hidden, out_channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        out = self.project(self.depthwise(self.expand(hidden_states)))
        return hidden_states + out if self.residual else out


class MobileFaceNetModel(FaceRecognitionModel):
    """
    MobileFaceNet from canonical faces to embeddings.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf import MobileFaceNetConfig, MobileFaceNetModel

    >>> model = MobileFaceNetModel(MobileFaceNetConfig()).eval()
    >>> model(torch.zeros(2, 3, 112, 112)).embeddings.shape
    torch.Size([2, 128])

    ```
    """

    config_class = MobileFaceNetConfig

    def __init__(self, config: MobileFaceNetConfig):
        super().__init__(config)
        act = config.hidden_act
        width = config.stem_width
        stem = [
            MobileFaceNetConv(config, 3, width, 3, 2, 1, activation=act),
            MobileFaceNetConv(
                config,
                width,
                width,
                3,
                1,
                1,
                groups=config.stem_groups,
                activation="relu" if config.stem_pointwise else act,
            ),
        ]
        if config.stem_pointwise:
            stem.append(MobileFaceNetConv(config, width, width, activation="relu"))
        self.stem = nn.Sequential(*stem)
        blocks = []
        for hidden, out_channels, depth, stride in config.stages:
            for i in range(depth):
                blocks.append(MobileFaceNetBottleneck(config, width, hidden, out_channels, stride if i == 0 else 1))
                width = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.feature = MobileFaceNetConv(config, width, config.feature_width, activation=act)
        # Global depthwise convolution: one learned weight for each place in place of average pooling. It stands where
        # the input has been halved four times.
        height, width = (-(-side // 16) for side in config.crop_size)
        self.pool = MobileFaceNetConv(
            config, config.feature_width, config.feature_width, (height, width), groups=config.feature_width
        )
        self.embed = nn.Linear(config.feature_width, config.embedding_size, bias=config.embedding_bias)
        self.norm = nn.BatchNorm1d(config.embedding_size, eps=config.bn_eps)
        self.post_init()

    def pool_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.pool(self.feature(self.blocks(self.stem(self.prepare_faces(pixel_values))))).flatten(1)

    def embed_features(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.norm(self.embed(pooled))


__all__ = ["MobileFaceNetModel"]
