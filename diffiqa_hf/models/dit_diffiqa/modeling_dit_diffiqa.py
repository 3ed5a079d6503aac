# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
A diffusion transformer in the place of DifFIQA's UNet, which the paper names as future work (section 6.2): Peebles and
Xie, "Scalable Diffusion Models with Transformers", ICCV 2023, without classes, its modulation shared by all blocks as
in PixArt-alpha (Chen et al., ICLR 2024, section 2.3). The parts are diffusers'.
"""

from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin  # diffusers looks for ModelMixin here to load a saved component
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.embeddings import PatchEmbed
from diffusers.models.normalization import AdaLayerNormSingle
from diffusers.utils import BaseOutput
from torch import nn


@dataclass
class DifFIQADiTOutput(BaseOutput):
    """
    Output of [`DifFIQADiTModel`].

    Args:
        sample (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
            What the network predicts: the clean image, in [-1, 1] up to its error.
    """

    sample: torch.Tensor


class DifFIQADiTModel(ModelMixin, ConfigMixin):
    r"""
    A small diffusion transformer that restores faces, called as a UNet is. Before any training it gives back what goes
    in: the last layer begins with zeros, and the input is added to what it gives.

    Args:
        hidden_size (`int`, *optional*, defaults to 192):
            Width of the tokens, a multiple of 4 and of `num_attention_heads`.
        num_layers (`int`, *optional*, defaults to 8):
            Transformer blocks. The defaults have 3.9 million parameters, like the default UNet of
            `training/train_ddpm.py`.
        num_attention_heads (`int`, *optional*, defaults to 6):
            Heads of each block's attention.
        patch_size (`int`, *optional*, defaults to 8):
            Side of the square that becomes one token, in pixels.
        channels (`int`, *optional*, defaults to 3):
            Channels of the images.
        sample_size (`int`, *optional*, defaults to 112):
            Height and width of the images in pixels. The network itself takes any size that is a multiple of
            `patch_size`; its places are then between those that it has learnt.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf import DifFIQADiTModel

    >>> dit = DifFIQADiTModel(hidden_size=32, num_layers=2, num_attention_heads=2)
    >>> dit(torch.zeros(2, 3, 112, 112), 4).sample.shape
    torch.Size([2, 3, 112, 112])

    ```
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["BasicTransformerBlock"]
    _skip_layerwise_casting_patterns = ["pos_embed", "norm", "time"]

    @register_to_config
    def __init__(
        self,
        hidden_size: int = 192,
        num_layers: int = 8,
        num_attention_heads: int = 6,
        patch_size: int = 8,
        channels: int = 3,
        sample_size: int = 112,
    ):
        super().__init__()
        if hidden_size % 4 or hidden_size % num_attention_heads:
            raise ValueError(
                f"hidden_size has to be a multiple of 4 and of num_attention_heads, got {hidden_size} and "
                f"{num_attention_heads}"
            )
        if sample_size % patch_size:
            raise ValueError(f"sample_size has to be a multiple of patch_size, got {sample_size} and {patch_size}")
        self.pos_embed = PatchEmbed(sample_size, sample_size, patch_size, channels, hidden_size)
        self.time = AdaLayerNormSingle(hidden_size)
        self.blocks = nn.ModuleList(
            BasicTransformerBlock(
                hidden_size,
                num_attention_heads,
                hidden_size // num_attention_heads,
                attention_bias=True,
                activation_fn="gelu-approximate",
                norm_type="ada_norm_single",
                norm_elementwise_affine=False,
                norm_eps=1e-6,
            )
            for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.scale_shift_table = nn.Parameter(torch.zeros(2, hidden_size))
        self.proj_out = nn.Linear(hidden_size, channels * patch_size**2)
        self.gradient_checkpointing = False
        # The adaLN-zero of DiT: every block, and with the last layer the whole, begins as the identity.
        for layer in (self.time.linear, self.proj_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for block in self.blocks:
            nn.init.zeros_(block.scale_shift_table)

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor | float | int, return_dict: bool = True
    ) -> DifFIQADiTOutput | tuple[torch.Tensor]:
        r"""
        Args:
            sample (`torch.Tensor` of shape `(batch_size, channels, height, width)`):
                Noisy images on the [-1, 1] scale.
            timestep (`torch.Tensor` of shape `()`, `(1,)` or `(batch_size,)`, or a number):
                Index of the noise level, counted from 0.
            return_dict (`bool`, *optional*, defaults to `True`):
                `False` gives a plain tuple.

        Returns:
            [`DifFIQADiTOutput`] with `sample` of the shape of the input.
        """
        size = self.config.patch_size
        rows, columns = (side // size for side in sample.shape[-2:])
        if (rows * size, columns * size) != sample.shape[-2:]:
            got = "x".join(map(str, sample.shape[-2:]))
            raise ValueError(f"height and width have to be multiples of {size}, got {got}")
        time = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(sample.shape[0])
        modulation, embedded = self.time(time, hidden_dtype=sample.dtype)
        hidden_states = self.pos_embed(sample)
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden_states = self._gradient_checkpointing_func(block, hidden_states, None, None, None, modulation)
            else:
                hidden_states = block(hidden_states, timestep=modulation)
        shift, scale = (self.scale_shift_table + embedded[:, None]).chunk(2, dim=1)
        pixels = self.proj_out(self.norm_out(hidden_states) * (1 + scale) + shift)
        pixels = pixels.view(sample.shape[0], rows, columns, size, size, -1).permute(0, 5, 1, 3, 2, 4)
        out = sample + pixels.reshape(sample.shape)
        return DifFIQADiTOutput(sample=out) if return_dict else (out,)


__all__ = ["DifFIQADiTModel", "DifFIQADiTOutput"]
