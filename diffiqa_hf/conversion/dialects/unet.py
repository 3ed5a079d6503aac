# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The UNet of DifFIQA's authors. Our module names are theirs; the sizes are read off. Their `model.pt` holds the trained
weights under `model` and an ema_pytorch state dict under `ema`.
"""

from collections.abc import Mapping
from typing import Any

import torch

from ..errors import CheckpointError


def choose_weights(checkpoint: Any, weights: str | None = None) -> tuple[Any, str | None]:
    """
    One of the two sets of weights of a training checkpoint.

    Args:
        checkpoint: What the file holds.
        weights (`str`, *optional*): `"ema"`, the average that the paper uses, or `"model"`, the last weights, which
            the authors' inference uses. `None` takes the average where there is one.

    Returns:
        The part of the checkpoint, and which it is; the checkpoint itself and `None` where it has no such parts.

    Raises:
        CheckpointError: The part that was asked for is not there.
    """
    checkpoint_has = checkpoint if isinstance(checkpoint, Mapping) else {}
    parts = {}
    if isinstance(checkpoint_has.get("model"), Mapping):
        parts["model"] = checkpoint_has["model"]
    if isinstance(checkpoint_has.get("ema"), Mapping):
        prefix = "ema_model."
        parts["ema"] = {
            name[len(prefix) :]: value
            for name, value in checkpoint_has["ema"].items()
            if isinstance(name, str) and name.startswith(prefix)
        }
    if weights is None:
        if not parts.get("ema"):
            return checkpoint, None
        weights = "ema"
    if not parts.get(weights):
        raise CheckpointError(f"no {weights!r} weights in it" + (f", only {', '.join(parts)}" if parts else ""))
    return parts[weights], weights


def convert_diffiqa_unet(state_dict: dict[str, torch.Tensor]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: The state dict of the authors' `Unet`, without the schedule's buffers.

    Returns:
        The arguments and the state dict of a [`DifFIQAUNetModel`]. The size of the images leaves no trace in the
        weights; it is the 112 pixels of the published training.
    """
    dim, channels = state_dict["init_conv.weight"].shape[:2]
    levels = len({name.split(".")[1] for name in state_dict if name.startswith("downs.")})
    widths = [state_dict[f"downs.{i}.3.weight"].shape[0] for i in range(levels)]
    config = {"dim": dim, "dim_mults": tuple(width // dim for width in widths), "channels": channels}
    return config, dict(state_dict)
