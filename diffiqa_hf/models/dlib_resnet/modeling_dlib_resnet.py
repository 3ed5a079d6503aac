# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
dlib's ResNet for faces (https://github.com/davisking/dlib-models): 29 convolutions, after ResNet-34 of He et al.,
"Deep Residual Learning for Image Recognition", CVPR 2016, with half the filters and a few layers less, trained with a
pairwise hinge loss. The layers are those of the network that `dnn_face_recognition_ex.cpp` of dlib declares.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel  # noqa: F401 - diffusers looks for this name here to load a saved component
from transformers.modeling_layers import GradientCheckpointingLayer

from ..modeling_face import FaceRecognitionModel
from .configuration_dlib_resnet import DlibResNetConfig


# From a pixel of a canonical face (112x112) to that of dlib's chip (150x150): chip = scale * face + shift, x and y.
# This is the least-squares fit, without rotation, of the ArcFace template's five points to the same points of the mean
# face that dlib's get_face_chip_details aligns to with a padding of 0.25: the centres of the six points of each eye
# (47.549, 46.599) and (100.476, 46.599), the tip of the nose (74.013, 76.563), the corners of the mouth
# (50.415, 103.023) and (97.610, 103.023). With rotation the fit would turn by 0.3 degrees.
_CANONICAL_SIZE, _CHIP_SIZE = 112, 150
_SCALE, _SHIFT = 1.44945, (-7.19446, -29.05516)


class Affine(nn.Module):
    """dlib's `affine_`: a batch normalisation with its statistics frozen into a scale and a shift of each channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self.bias[:, None, None], hidden_states, self.weight[:, None, None])


class DlibResNetBlock(GradientCheckpointingLayer):
    """Two convolutions and a residual; with `down` it halves the resolution, its first convolution unpadded."""

    def __init__(self, in_channels: int, channels: int, down: bool):
        super().__init__()
        self.down = down
        stride, padding = (2, 0) if down else (1, 1)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding)
        self.norm1 = Affine(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = Affine(channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual = F.avg_pool2d(hidden_states, 2) if self.down else hidden_states
        hidden_states = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(hidden_states)))))
        if residual.shape != hidden_states.shape:
            # dlib's add_prev takes what one of the two lacks, channels or a last row and column, as zero.
            sizes = [max(pair) for pair in zip(residual.shape, hidden_states.shape, strict=True)]
            residual, hidden_states = (_padded(part, sizes) for part in (residual, hidden_states))
        return F.relu(hidden_states + residual)


def _padded(features: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    if list(features.shape) == sizes:
        return features
    _, channels, height, width = (new - old for new, old in zip(sizes, features.shape, strict=True))
    return F.pad(features, (0, width, 0, height, 0, channels))


def _resampling(size: int, source_size: int, axis: int, like: torch.Tensor) -> torch.Tensor:
    """
    The matrix (size, source_size) of a bilinear resampling from canonical faces to chips along x (0) or y (1). Beyond
    the face its last row or column goes on.
    """
    # Other sizes than the published ones are those, scaled about pixel centres.
    scale = _SCALE * (size / _CHIP_SIZE) / (source_size / _CANONICAL_SIZE)
    shift = (_SHIFT[axis] + 0.5 - 0.5 * _SCALE) * size / _CHIP_SIZE
    # On the CPU, for not every device has float64.
    positions = torch.arange(size, dtype=torch.float64)
    positions = ((positions + 0.5 - shift) / scale - 0.5).clamp(0, source_size - 1)
    pixels = torch.arange(source_size, dtype=torch.float64)
    # A tent over each position, as wide as a pixel of the coarser of the two, so that none is skipped.
    weights = (1 - (positions[:, None] - pixels).abs() * min(1.0, scale)).clamp(min=0)
    return (weights / weights.sum(1, keepdim=True)).to(like)


class DlibResNetModel(FaceRecognitionModel):
    """
    dlib's ResNet from canonical faces to embeddings of 128 values. dlib compares them by their Euclidean distance
    (one person below 0.6); as all embeddings here they are compared by cosine similarity.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf import DlibResNetConfig, DlibResNetModel

    >>> model = DlibResNetModel(DlibResNetConfig()).eval()
    >>> model(torch.zeros(2, 3, 112, 112)).embeddings.shape
    torch.Size([2, 128])

    ```
    """

    config_class = DlibResNetConfig

    def __init__(self, config: DlibResNetConfig):
        super().__init__(config)
        width = config.widths[0]
        self.conv = nn.Conv2d(3, width, 7, stride=2)
        self.norm = Affine(width)
        for i, (depth, channels) in enumerate(zip(config.depths, config.widths, strict=True), start=1):
            blocks = [DlibResNetBlock(width, channels, down=i > 1)]
            blocks += [DlibResNetBlock(channels, channels, down=False) for _ in range(depth - 1)]
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
            width = channels
        self.fc = nn.Linear(width, config.embedding_size, bias=False)
        self.post_init()

    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, Affine):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    def prepare_faces(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        Canonical faces to dlib's chips in its channel order and scale. A chip reaches about 11 pixels (of the
        canonical 112) below the face, where the face's last row goes on.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`):
                Canonical faces: RGB in [-1, 1], at least as large as `config.crop_size`; chips, likewise in [-1, 1],
                where `config.chip_size` is `None`.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, 3, chip_size, chip_size)`, differentiable in the pixels.
        """
        faces = super().prepare_faces(pixel_values)
        if self.config.chip_size is None:
            return faces
        rows, columns = (
            _resampling(self.config.chip_size, size, axis, faces)
            for size, axis in zip(faces.shape[2:], (1, 0), strict=True)
        )
        return rows @ faces @ columns.mT

    def pool_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        hidden_states = F.relu(self.norm(self.conv(self.prepare_faces(pixel_values))))
        hidden_states = F.max_pool2d(hidden_states, 3, stride=2)
        for i in range(1, len(self.config.depths) + 1):
            hidden_states = getattr(self, f"layer{i}")(hidden_states)
        return hidden_states.mean((2, 3))

    def embed_features(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.fc(pooled)


__all__ = ["DlibResNetModel"]
