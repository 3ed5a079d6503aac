# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The UNet of DifFIQA's authors (https://github.com/LSIbabnikz/DifFIQA), which is the one of an early
denoising-diffusion-pytorch. diffusers' `UNet2DModel` cannot hold its weights: the convolutions are
weight-standardised, the attention is linear, and the layers come in another order. Module names follow the published
checkpoint, so that its keys, without the prefix `model.`, load as they are.
"""

import math
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin  # diffusers looks for ModelMixin here to load a saved component
from diffusers.configuration_utils import FrozenDict, register_to_config
from diffusers.utils import BaseOutput
from torch import nn
from torch.nn import functional as F


@dataclass
class DifFIQAUNetOutput(BaseOutput):
    """
    Output of [`DifFIQAUNetModel`].

    Args:
        sample (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
            What the UNet predicts: the clean image, in [-1, 1] up to its error.
    """

    sample: torch.Tensor


class StandardizedConv2d(nn.Conv2d):
    """Convolution with each filter brought to mean 0 and variance 1 (Qiao et al., arXiv:1903.10520)."""

    def standardized_weight(self) -> torch.Tensor:
        # What a layer normalisation does, and that takes mean and variance in float32 whatever the dtype. So half
        # precision keeps the epsilon that the weights were trained with; the original, which stays in half precision
        # there, raises it to 1e-3.
        filters = self.weight.flatten(1)
        return F.layer_norm(filters, filters.shape[1:], eps=1e-5).view(self.weight.shape)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(hidden_states, self.standardized_weight(), self.bias)


class ChannelLayerNorm(nn.Module):
    """Layer normalisation over the channels of each pixel, with a gain `g` and no offset."""

    def __init__(self, channels: int):
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        # In channels-last order (see the model's `forward`) the channels of a pixel lie side by side: this is a view.
        pixels = hidden_states.permute(0, 2, 3, 1)
        return F.layer_norm(pixels, pixels.shape[-1:], self.g.flatten(), eps=1e-5).permute(0, 3, 1, 2)


class PreNorm(nn.Module):
    def __init__(self, channels: int, fn: nn.Module):
        super().__init__()
        self.norm = ChannelLayerNorm(channels)
        self.fn = fn

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fn(self.norm(hidden_states))


class Residual(nn.Module):
    def __init__(self, fn: nn.Module):
        super().__init__()
        self.fn = fn

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states + self.fn(hidden_states)


class LinearAttention(nn.Module):
    """Attention whose cost is linear in the number of pixels (Shen et al., arXiv:1812.01243)."""

    def __init__(self, channels: int, heads: int = 4, head_dim: int = 32):
        super().__init__()
        self.heads = heads
        self.head_dim = head_dim
        self.to_qkv = nn.Conv2d(channels, 3 * heads * head_dim, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(heads * head_dim, channels, 1), ChannelLayerNorm(channels))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = hidden_states.shape
        # Each (batch, heads, head_dim, pixels).
        qkv = self.to_qkv(hidden_states).view(batch, 3, self.heads, self.head_dim, height * width)
        query, key, value = qkv.unbind(1)
        query = query.softmax(dim=-2) * self.head_dim**-0.5
        key = key.softmax(dim=-1)
        value = value / (height * width)
        context = value @ key.transpose(-1, -2)
        out = (context @ query).reshape(batch, -1, height, width)
        return self.to_out(out)


class Attention(nn.Module):
    """
    Full attention. As in the original, queries and keys get unit length along the pixels, not along the channels, and
    the softmax has a fixed scale.
    """

    def __init__(self, channels: int, heads: int = 4, head_dim: int = 32, scale: float = 10.0):
        super().__init__()
        self.heads = heads
        self.head_dim = head_dim
        self.scale = scale
        self.to_qkv = nn.Conv2d(channels, 3 * heads * head_dim, 1, bias=False)
        self.to_out = nn.Conv2d(heads * head_dim, channels, 1)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = hidden_states.shape
        qkv = self.to_qkv(hidden_states).view(batch, 3, self.heads, self.head_dim, height * width)
        query, key, value = qkv.unbind(1)
        weights = F.normalize(query, dim=-1).transpose(-1, -2) @ F.normalize(key, dim=-1)
        weights = (weights * self.scale).softmax(dim=-1)
        out = (value @ weights.transpose(-1, -2)).reshape(batch, -1, height, width)
        return self.to_out(out)


class Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, groups: int = 8):
        super().__init__()
        self.proj = StandardizedConv2d(in_channels, out_channels, 3, padding=1)
        self.norm = nn.GroupNorm(groups, out_channels)

    def forward(
        self, hidden_states: torch.Tensor, scale_shift: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> torch.Tensor:
        hidden_states = self.norm(self.proj(hidden_states))
        if scale_shift is not None:
            scale, shift = scale_shift
            hidden_states = torch.addcmul(shift, hidden_states, scale + 1)  # in one pass
        return F.silu(hidden_states)


class ResnetBlock(nn.Module):
    """Two blocks, the first of them scaled and shifted by the time embedding, and a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, time_dim: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time_dim, 2 * out_channels))
        self.block1 = Block(in_channels, out_channels)
        self.block2 = Block(out_channels, out_channels)
        self.res_conv = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, hidden_states: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        scale_shift = self.mlp(time)[:, :, None, None].chunk(2, dim=1)
        out = self.block2(self.block1(hidden_states, scale_shift))
        return out + self.res_conv(hidden_states)


class SinusoidalEmbedding(nn.Module):
    """Times `(B,)` to `(B, dim)`: sines, then cosines, of `dim / 2` frequencies from 1 to 1 / 10000."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        half = self.dim // 2
        exponents = torch.arange(half, device=time.device, dtype=torch.float32) / (half - 1)
        angles = time.float()[:, None] * torch.exp(-math.log(10000) * exponents)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class DownLevel(nn.ModuleList):
    """Two residual blocks, attention and the halving of the resolution, in this order, as in the checkpoint."""

    def forward(
        self, hidden_states: torch.Tensor, time: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What goes on, and the two that go to the other side."""
        block1, block2, attention, downsample = self
        first = block1(hidden_states, time)
        second = attention(block2(first, time))
        return downsample(second), first, second


class UpLevel(nn.ModuleList):
    """Two residual blocks, attention and the doubling of the resolution, in this order, as in the checkpoint."""

    def forward(
        self, hidden_states: torch.Tensor, first: torch.Tensor, second: torch.Tensor, time: torch.Tensor
    ) -> torch.Tensor:
        block1, block2, attention, upsample = self
        hidden_states = block1(torch.cat([hidden_states, second], dim=1), time)
        hidden_states = block2(torch.cat([hidden_states, first], dim=1), time)
        return upsample(attention(hidden_states))


class DifFIQAUNetModel(ModelMixin, ConfigMixin):
    r"""
    The UNet of DifFIQA's authors, for checkpoints that were trained with their code.

    Args:
        dim (`int`, *optional*, defaults to 128):
            Width of the first level, a multiple of 8. The published network has 128: 142.9 million parameters.
        dim_mults (`tuple[int, ...]`, *optional*, defaults to `(1, 2, 4, 8)`):
            Width of each level in units of `dim`. Every level but the last halves the resolution.
        channels (`int`, *optional*, defaults to 3):
            Channels of the images.
        sample_size (`int`, *optional*, defaults to 112):
            Height and width of the images in pixels. The network itself takes any size that can be halved
            `len(dim_mults) - 1` times.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf import DifFIQAUNetModel

    >>> unet = DifFIQAUNetModel(dim=8, dim_mults=(1, 2))
    >>> unet(torch.zeros(2, 3, 112, 112), 4).sample.shape
    torch.Size([2, 3, 112, 112])

    ```
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["DownLevel", "UpLevel", "ResnetBlock", "Residual"]

    @register_to_config
    def __init__(
        self, dim: int = 128, dim_mults: tuple[int, ...] = (1, 2, 4, 8), channels: int = 3, sample_size: int = 112
    ):
        super().__init__()
        if dim < 8 or dim % 8:
            raise ValueError(f"dim has to be a multiple of 8, the groups of the normalisation, got {dim}")
        widths = [dim * multiple for multiple in dim_mults]
        time_dim = 4 * dim
        self.init_conv = nn.Conv2d(channels, dim, 7, padding=3)
        self.time_mlp = nn.Sequential(
            SinusoidalEmbedding(dim), nn.Linear(dim, time_dim), nn.GELU(), nn.Linear(time_dim, time_dim)
        )

        inputs = [dim, *widths[:-1]]
        self.downs = nn.ModuleList()
        for i, (narrow, wide) in enumerate(zip(inputs, widths, strict=True)):
            last = i == len(widths) - 1
            self.downs.append(
                DownLevel(
                    [
                        ResnetBlock(narrow, narrow, time_dim),
                        ResnetBlock(narrow, narrow, time_dim),
                        Residual(PreNorm(narrow, LinearAttention(narrow))),
                        nn.Conv2d(narrow, wide, 3, padding=1) if last else nn.Conv2d(narrow, wide, 4, 2, 1),
                    ]
                )
            )

        self.mid_block1 = ResnetBlock(widths[-1], widths[-1], time_dim)
        self.mid_attn = Residual(PreNorm(widths[-1], Attention(widths[-1])))
        self.mid_block2 = ResnetBlock(widths[-1], widths[-1], time_dim)

        self.ups = nn.ModuleList()
        for i, (narrow, wide) in reversed(list(enumerate(zip(inputs, widths, strict=True)))):
            conv = nn.Conv2d(wide, narrow, 3, padding=1)
            self.ups.append(
                UpLevel(
                    [
                        ResnetBlock(wide + narrow, wide, time_dim),
                        ResnetBlock(wide + narrow, wide, time_dim),
                        Residual(PreNorm(wide, LinearAttention(wide))),
                        conv if i == 0 else nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv),
                    ]
                )
            )

        self.final_res_block = ResnetBlock(2 * dim, dim, time_dim)
        self.final_conv = nn.Conv2d(dim, channels, 1)
        self.gradient_checkpointing = False

    @property
    def config(self) -> FrozenDict:
        """
        What was registered. As an attribute and no entry, so that it is neither saved nor handed to `from_config`,
        it has `block_out_channels`: the widths under the name that diffusers' UNets have for them.
        """
        config = FrozenDict(super().config)
        widths = tuple(config["dim"] * multiple for multiple in config["dim_mults"])
        object.__setattr__(config, "block_out_channels", widths)
        return config

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor | float | int, return_dict: bool = True
    ) -> DifFIQAUNetOutput | tuple[torch.Tensor]:
        r"""
        Args:
            sample (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
                Noisy images on the [-1, 1] scale.
            timestep (`torch.Tensor` of shape `()`, `(1,)` or `(batch_size,)`, or a number):
                Index of the noise level, counted from 0.
            return_dict (`bool`, *optional*, defaults to `True`):
                `False` gives a plain tuple.

        Returns:
            [`DifFIQAUNetOutput`] with `sample` of the shape of the input.
        """
        halvings = 2 ** (len(self.downs) - 1)
        if sample.shape[-2] % halvings or sample.shape[-1] % halvings:
            got = "x".join(map(str, sample.shape[-2:]))
            raise ValueError(f"height and width have to be multiples of {halvings}, got {got}")
        time = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(sample.shape[0])
        embedding, *layers = self.time_mlp
        # The angles need float32: a time above 256 has no exact value in bfloat16.
        time = embedding(time).to(sample.dtype)
        for layer in layers:
            time = layer(time)

        # In channels-last order, which all that follows keeps: oneDNN and cuDNN convolve faster in it, and the
        # normalisation over the channels is several times as fast.
        first = hidden_states = self.init_conv(sample.contiguous(memory_format=torch.channels_last))
        skips = []
        for level in self.downs:
            hidden_states, *both = self._run(level, hidden_states, time)
            skips.append(both)

        hidden_states = self.mid_attn(self.mid_block1(hidden_states, time))
        hidden_states = self.mid_block2(hidden_states, time)

        for level in self.ups:
            hidden_states = self._run(level, hidden_states, *skips.pop(), time)

        hidden_states = self.final_res_block(torch.cat([hidden_states, first], dim=1), time)
        out = self.final_conv(hidden_states).contiguous()
        return DifFIQAUNetOutput(sample=out) if return_dict else (out,)

    def _run(self, level: DownLevel | UpLevel, *args: torch.Tensor):
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(level, *args)
        return level(*args)


__all__ = ["DifFIQAUNetModel", "DifFIQAUNetOutput"]
