# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
FaceQgen: Hernandez-Ortega, Fierrez, Serna and Morales, "FaceQgen: Semi-Supervised Deep Learning for Face Image Quality
Assessment", FG 2021. A generator restores a face to a canonical one of high quality, which changes a good face little.

Neither code nor weights of it are public. The networks are those of Isola et al., "Image-to-Image Translation with
Conditional Adversarial Networks", CVPR 2017: a U-Net and a discriminator of patches.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import conv2d
from transformers import (
    AutoConfig,
    PreTrainedModel,  # noqa: F401 - diffusers looks for this name here to load a saved component
)

from ..modeling_face import at_least_float32
from ..modeling_face_quality import AutoModelForFaceQuality, FaceQualityModel, FaceQualityModelOutput
from .configuration_faceqgen import FaceQgenConfig


@dataclass
class FaceQgenModelOutput(FaceQualityModelOutput):
    """
    Output of a [`FaceQgenForFaceQuality`].

    Args:
        scores (`torch.FloatTensor` of shape `(batch_size,)`):
            The one of the three below that `config.measure` names, with the sign that makes higher better.
        restored (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`):
            The restored faces, in (-1, 1).
        ssim, mse, discriminator (`torch.FloatTensor` of shape `(batch_size,)`):
            Structural similarity and mean squared difference of the face and the restored one, on the [0, 1] scale;
            mean probability, over patches, that the restored one is a genuine image of high quality.
    """

    restored: torch.FloatTensor | None = None
    ssim: torch.FloatTensor | None = None
    mse: torch.FloatTensor | None = None
    discriminator: torch.FloatTensor | None = None


class FaceQgenConv(nn.Module):
    """4x4 convolution that halves the resolution, or doubles it (`up`), normalisation and activation."""

    def __init__(
        self, config: FaceQgenConfig, in_channels: int, out_channels: int, up: bool = False, norm: bool = True
    ):
        super().__init__()
        conv = nn.ConvTranspose2d if up else nn.Conv2d
        self.conv = conv(in_channels, out_channels, 4, 2, 1, bias=not norm)
        self.norm = nn.BatchNorm2d(out_channels, eps=config.bn_eps) if norm else nn.Identity()
        self.act = nn.ReLU() if up else nn.LeakyReLU(0.2)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.conv(hidden_states)))


class FaceQgenGenerator(nn.Module):
    """U-Net: faces `(B, 3, H, W)` in [-1, 1] to restored faces of the same form."""

    def __init__(self, config: FaceQgenConfig):
        super().__init__()
        widths = [3, *config.generator_widths]
        self.down = nn.ModuleList(
            FaceQgenConv(config, widths[i], widths[i + 1], norm=i > 0) for i in range(len(widths) - 1)
        )
        # From the deepest on; all but the first read what the encoder had at that resolution as well.
        up = [
            FaceQgenConv(config, widths[i + 1] * (1 if i == len(widths) - 2 else 2), widths[i], up=True)
            for i in range(len(widths) - 2, 0, -1)
        ]
        self.up = nn.ModuleList(up)
        self.out = nn.ConvTranspose2d(widths[1] * (2 if up else 1), 3, 4, 2, 1)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        encoded = []
        hidden_states = faces
        for layer in self.down:
            hidden_states = layer(hidden_states)
            encoded.append(hidden_states)
        encoded.pop()
        for layer in self.up:
            hidden_states = torch.cat([layer(hidden_states), encoded.pop()], 1)
        return self.out(hidden_states).tanh()


class FaceQgenDiscriminator(nn.Module):
    """Faces `(B, 3, H, W)` to a logit for each patch, `(B, h, w)`: is it of a genuine image of high quality?"""

    def __init__(self, config: FaceQgenConfig):
        super().__init__()
        widths = [3, *config.discriminator_widths]
        self.layers = nn.Sequential(
            *(FaceQgenConv(config, widths[i], widths[i + 1], norm=i > 0) for i in range(len(widths) - 1))
        )
        self.out = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return self.out(self.layers(faces)).squeeze(1)


class FaceQgenForFaceQuality(FaceQualityModel):
    """
    FaceQgen from canonical faces to quality: `generator` and `discriminator`.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf.models.faceqgen import FaceQgenConfig, FaceQgenForFaceQuality

    >>> config = FaceQgenConfig(generator_widths=[4, 8], discriminator_widths=[4, 8])
    >>> FaceQgenForFaceQuality(config).eval()(torch.zeros(2, 3, 112, 112)).restored.shape
    torch.Size([2, 3, 112, 112])

    ```
    """

    config_class = FaceQgenConfig
    output_class = FaceQgenModelOutput
    supports_gradient_checkpointing = False

    def __init__(self, config: FaceQgenConfig):
        super().__init__(config)
        self.generator = FaceQgenGenerator(config)
        self.discriminator = FaceQgenDiscriminator(config)
        self.post_init()

    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):  # as Isola et al. have it
            nn.init.normal_(module.weight, std=0.02)

    def score_faces(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor | None]:
        faces = self.prepare_faces(pixel_values)
        restored = self.generator(faces)
        exact = [at_least_float32(image) for image in (faces, restored)]
        measures = {
            "ssim": ssim(*((image + 1) / 2 for image in exact)),
            "mse": (exact[0] - exact[1]).square().mean((1, 2, 3)) / 4,
            "discriminator": at_least_float32(self.discriminator(restored)).sigmoid().mean((1, 2)),
        }
        scores = measures[self.config.measure]
        if self.config.measure == "mse":
            scores = -scores
        return {"scores": scores, "restored": restored, **measures}


def ssim(images_a: torch.Tensor, images_b: torch.Tensor) -> torch.Tensor:
    """
    Structural similarity, Wang et al., IEEE TIP 2004: Gaussian window of 11x11 pixels with a standard deviation of
    1.5, K1 = 0.01, K2 = 0.03, over the places where the window fits, averaged over these and the channels.

    Args:
        images_a, images_b: `(B, C, H, W)` in [0, 1], H and W at least 11.

    Returns:
        `(B,)` in [-1, 1].
    """
    channels = images_a.shape[1]
    window = torch.exp(-((torch.arange(11, dtype=images_a.dtype, device=images_a.device) - 5) ** 2) / (2 * 1.5**2))
    window = window / window.sum()
    window = (window[:, None] * window).expand(channels, 1, 11, 11)

    def mean(images: torch.Tensor) -> torch.Tensor:
        return conv2d(images, window, groups=channels)

    mean_a, mean_b = mean(images_a), mean(images_b)
    var_a, var_b = mean(images_a**2) - mean_a**2, mean(images_b**2) - mean_b**2
    covariance = mean(images_a * images_b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return similarity.mean((1, 2, 3))


AutoConfig.register(FaceQgenConfig.model_type, FaceQgenConfig, exist_ok=True)
AutoModelForFaceQuality.register(FaceQgenConfig, FaceQgenForFaceQuality, exist_ok=True)


__all__ = ["FaceQgenForFaceQuality", "FaceQgenModelOutput", "ssim"]
