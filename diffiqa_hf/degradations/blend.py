# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The blend of a face with its degraded copy, Equation 6 of DifFIQA (Babnik et al., 2023)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    import torch


def blend_weight(timesteps: torch.Tensor, max_timesteps: int) -> torch.Tensor:
    """Weight of the degraded image, sin(t / T * pi / 2), as float32 of the shape of `timesteps`.

    Args:
        timesteps: Time steps t from 0 to T, of any shape.
        max_timesteps: The T at which the weight is 1. The authors' code has T = 100, the last step it trains
            (weights .0785 at t = 5, .707 at 50, .99988 at 99); the text of the paper has T = 1000.
    """
    if max_timesteps <= 0:
        raise ValueError(f"max_timesteps must be positive, not {max_timesteps}.")
    return (timesteps.float() * (math.pi / (2 * max_timesteps))).sin()


def blend(clean: torch.Tensor, degraded: torch.Tensor, timesteps: torch.Tensor, max_timesteps: int) -> torch.Tensor:
    """x'_t = (1 - w_t) x + w_t d(x) with w_t of [`blend_weight`].

    Args:
        clean: (B, 3, H, W) faces x.
        degraded: (B, 3, H, W) degraded faces d(x).
        timesteps: (B,) time steps, or one for all (shape ()).
        max_timesteps: T of [`blend_weight`].

    Returns:
        (B, 3, H, W) in the dtype of `clean`.
    """
    if clean.shape != degraded.shape:
        raise ValueError(f"clean {tuple(clean.shape)} and degraded {tuple(degraded.shape)} differ in shape.")
    weight = blend_weight(timesteps, max_timesteps).to(clean.dtype)
    weight = weight.reshape(weight.shape + (1,) * (clean.ndim - 1))
    return clean + weight * (degraded - clean)
