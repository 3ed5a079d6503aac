# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""PFE's TensorFlow checkpoints (`ckpt-N.index` with `ckpt-N.data-00000-of-00001` beside it)."""

import re

import torch

from ...models.pfe import PFEConfig, SphereNetConfig


# What a training keeps beside the network's tensors.
_TRAINING = re.compile(r"global_step|.*/(Momentum|Adam|Adam_1|ExponentialMovingAverage)")
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def convert_pfe(tensors: dict[str, torch.Tensor]) -> tuple[PFEConfig, dict[str, torch.Tensor]]:
    """
    Args:
        tensors: What [`read_tensor_bundle`] gives of a published file: SphereNet-64 and its uncertainty module (RGB,
            112x96, (x - 127.5) / 128), 146 tensors.

    Returns:
        The configuration and the state dict of a [`PFEForFaceQuality`].

    Raises:
        ValueError: A tensor is not expected; it is named.
        KeyError: One that the sizes are read off is missing.
    """
    outside = {"SphereNet/Bottleneck": ("backbone.fc", "backbone.features")}
    outside["UncertaintyModule/fc1"] = ("uncertainty.fc1", "uncertainty.norm1")
    outside["UncertaintyModule/fc_log_sigma_sq"] = ("uncertainty.fc2", "uncertainty.norm2")
    # The variables of the scale and the shift are called after the letters next to theirs.
    outside_scalars = {"alpha": "uncertainty.scale", "gamma": "uncertainty.shift"}
    converted = {}
    for name, tensor in tensors.items():
        if _TRAINING.fullmatch(name):
            continue
        module, _, kind = name.rpartition("/")
        if m := re.fullmatch(r"SphereNet/conv(\d+)/Conv(?:_(\d+))?(/p_re_lu)?", module):
            stage, number = int(m[1]) - 1, int(m[2] or 0)
            ours = "down" if number == 0 else f"blocks.{(number - 1) // 2}.conv{(number - 1) % 2 + 1}"
            ours = f"backbone.stages.{stage}.{ours}"
            if m[3] and kind == "alpha":
                converted[f"{ours}.act.weight"] = tensor.flatten()
                continue
            if not m[3] and kind in ("weights", "biases"):
                # From height, width, in, out.
                value = tensor.permute(3, 2, 0, 1) if kind == "weights" else tensor
                converted[f"{ours}.conv.{'weight' if kind == 'weights' else 'bias'}"] = value
                continue
        elif module in outside and kind == "weights":
            converted[f"{outside[module][0]}.weight"] = tensor.t()
            continue
        elif module.removesuffix("/BatchNorm") in outside and kind in _NORM:
            norm = outside[module.removesuffix("/BatchNorm")][1]
            converted[f"{norm}.{_NORM[kind]}"] = tensor
            converted[f"{norm}.num_batches_tracked"] = torch.tensor(0)
            continue
        elif module == "UncertaintyModule/scale_and_shift" and kind in outside_scalars:
            converted[outside_scalars[kind]] = tensor.reshape(())
            continue
        raise ValueError(f"unexpected tensors: {name}")
    # The original's last normalisation shifts and does not scale.
    converted["backbone.features.weight"] = torch.ones_like(converted["backbone.features.bias"])

    depths: list[int] = []
    widths: list[int] = []
    while f"backbone.stages.{len(depths)}.down.conv.weight" in converted:
        prefix = f"backbone.stages.{len(depths)}"
        widths.append(converted[f"{prefix}.down.conv.weight"].shape[0])
        blocks = {name.split(".")[4] for name in converted if name.startswith(f"{prefix}.blocks.")}
        depths.append(len(blocks))
    backbone = SphereNetConfig(depths=depths, widths=widths, embedding_size=converted["backbone.fc.weight"].shape[0])
    height, width = (side >> len(depths) for side in backbone.crop_size)
    for name in ("backbone.fc.weight", "uncertainty.fc1.weight"):
        # What is read there is flattened from height, width, channels.
        rows = converted[name].unflatten(1, (height, width, widths[-1]))
        converted[name] = rows.permute(0, 3, 1, 2).flatten(1)
    return PFEConfig(backbone_config=backbone), converted


__all__ = ["convert_pfe"]
