# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
IResNet, the improved residual network of face recognition: Deng et al., "ArcFace", CVPR 2019, section 3.1
(BN-Conv-BN-PReLU-Conv-BN blocks without bias, BN-Dropout-FC-BN head). Module names are those of insightface's
arcface_torch, so that its files need no renaming. One class holds the published variants, ArcFace's, MagFace's,
AdaFace's and CurricularFace's (see the configuration).
"""

import torch
from torch import nn
from transformers import PreTrainedModel  # noqa: F401 - diffusers looks for this name here to load a saved component
from transformers.modeling_layers import GradientCheckpointingLayer

from ..modeling_face import FaceRecognitionModel
from .configuration_iresnet import IResNetConfig


class IResNetBlock(GradientCheckpointingLayer):
    def __init__(self, config: IResNetConfig, in_channels: int, channels: int, stride: int):
        super().__init__()
        eps = config.bn_eps
        self.stride = stride
        self.bn1 = nn.BatchNorm2d(in_channels, eps=eps)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels, eps=eps) if config.mid_norm else nn.Identity()
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels, eps=eps)
        self.downsample = None
        if in_channels != channels or (stride != 1 and config.shortcut == "conv"):
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels, eps=eps)
            )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        # The stride is taken before the 1x1 convolution, which is the same: oneDNN's gradient of the weights of a 1x1
        # convolution of stride 2 writes past its memory in channels-last order with under 16 channels (torch 2.13).
        residual = hidden_states[:, :, :: self.stride, :: self.stride]
        if self.downsample is not None:
            residual = self.downsample(residual)
        hidden_states = self.prelu(self.bn2(self.conv1(self.bn1(hidden_states))))
        return self.bn3(self.conv2(hidden_states)) + residual


class IResNetModel(FaceRecognitionModel):
    """
    IResNet from canonical faces to embeddings.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf import IResNetConfig, IResNetModel

    >>> model = IResNetModel(IResNetConfig(depths=[1, 1, 1, 1], widths=[8, 8, 8, 8])).eval()
    >>> model(torch.zeros(2, 3, 112, 112)).embeddings.shape
    torch.Size([2, 512])

    ```
    """

    config_class = IResNetConfig

    def __init__(self, config: IResNetConfig):
        super().__init__(config)
        width = config.widths[0]
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=config.bn_eps)
        self.prelu = nn.PReLU(width)
        for i, (depth, channels) in enumerate(zip(config.depths, config.widths, strict=True), start=1):
            blocks = [IResNetBlock(config, width, channels, stride=2)]
            blocks += [IResNetBlock(config, channels, channels, stride=1) for _ in range(depth - 1)]
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
            width = channels
        self.bn2 = nn.BatchNorm2d(width, eps=config.bn_eps)
        self.dropout = (nn.Dropout2d if config.dropout_channels else nn.Dropout)(config.dropout)
        shrink = 2 ** len(config.depths)
        height, width_ = (-(-side // shrink) for side in config.crop_size)
        self.fc = nn.Linear(width * height * width_, config.embedding_size)
        self.features = nn.BatchNorm1d(config.embedding_size, eps=config.bn_eps, affine=config.final_norm_affine)
        if config.final_norm_affine:
            # As in the original: the scale of the embedding stays as it is.
            self.features.weight.requires_grad = False
        self.post_init()

    def _init_convolution(self, weight: torch.Tensor):
        nn.init.normal_(weight, std=0.1)

    def pool_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        hidden_states = self.prelu(self.bn1(self.conv1(self.prepare_faces(pixel_values))))
        for i in range(1, len(self.config.depths) + 1):
            hidden_states = getattr(self, f"layer{i}")(hidden_states)
        return self.dropout(self.bn2(hidden_states)).flatten(1)

    def embed_features(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.features(self.fc(pooled))


__all__ = ["IResNetModel"]
