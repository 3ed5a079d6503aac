# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
FaceQnet: Hernandez-Ortega et al., "FaceQnet: Quality Assessment for Face Recognition based on Deep Learning", ICB 2019
(v0), and "Biometric Quality: Review and Application to Face Recognition with FaceQnet", 2020 (v1). A ResNet-50 that
was trained on VGGFace2 (the Keras form, strides in the first convolution of a block), and dense layers to one number.
"""

import torch
from torch import nn
from torch.nn.functional import interpolate, max_pool2d, pad
from transformers import (
    AutoConfig,
    PreTrainedModel,  # noqa: F401 - diffusers looks for this name here to load a saved component
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import can_return_tuple

from ..modeling_face import FacePreTrainedModel, in_float32
from ..modeling_face_quality import AutoModelForFaceQuality, FaceQualityModelOutput, quality_loss
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


class FaceQnetForFaceQuality(FacePreTrainedModel):
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

    def prepare_faces(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        Canonical faces to `config.crop_size`, channel order and scale. The whole face is resized.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`):
                Canonical faces: RGB in [-1, 1].

        Returns:
            `torch.FloatTensor` of shape `(batch_size, 3, *config.crop_size)`, differentiable in the pixels.
        """
        return super().prepare_faces(resize_faces(pixel_values, self.config.crop_size))

    @can_return_tuple
    def forward(
        self, pixel_values: torch.FloatTensor, labels: torch.FloatTensor | None = None
    ) -> FaceQualityModelOutput | tuple[torch.FloatTensor, ...]:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`):
                Canonical faces: RGB in [-1, 1].
            labels (`torch.FloatTensor` of shape `(batch_size,)`, *optional*):
                Qualities that the scores are to come to, for `loss`; a NaN is a face without one.
            return_dict (`bool`, *optional*, defaults to `config.return_dict`):
                `False` gives a plain tuple.

        Returns:
            [`FaceQualityModelOutput`] with `scores` of shape `(batch_size,)`, about 0 to 1 and not clipped, and, as
            `embeddings`, the mean of the last feature map, `(batch_size, config.embedding_size)`.
        """
        # Keras' padding "same" of a 7x7 convolution of stride 2 on even sides.
        hidden_states = self.stem(pad(self.prepare_faces(pixel_values), (2, 3, 2, 3)))
        features = self.blocks(max_pool2d(hidden_states, 3, 2)).mean((2, 3))
        hidden_states = self.dropout(features)
        for dense, act in zip(self.dense, self.acts, strict=True):
            hidden_states = act(in_float32(dense, hidden_states))
        scores = hidden_states.squeeze(-1)
        return FaceQualityModelOutput(loss=quality_loss(scores, labels), scores=scores, embeddings=features)


def resize_faces(pixel_values: torch.Tensor, size: list[int] | tuple[int, ...]) -> torch.Tensor:
    """
    Canonical faces `(B, 3, H, W)` at another size (height, width), bilinear with antialiasing.

    Raises:
        ValueError: The tensor is of another shape.
    """
    if pixel_values.ndim != 4 or pixel_values.shape[1] != 3:
        raise ValueError(f"faces have the shape (batch, 3, height, width), got {tuple(pixel_values.shape)}")
    if tuple(pixel_values.shape[2:]) == tuple(size):
        return pixel_values
    return interpolate(pixel_values.float(), size=tuple(size), mode="bilinear", align_corners=False, antialias=True)


AutoConfig.register(FaceQnetConfig.model_type, FaceQnetConfig, exist_ok=True)
AutoModelForFaceQuality.register(FaceQnetConfig, FaceQnetForFaceQuality, exist_ok=True)


__all__ = ["FaceQnetForFaceQuality"]
