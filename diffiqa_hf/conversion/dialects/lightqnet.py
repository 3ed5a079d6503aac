# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""LightQNet's frozen TensorFlow graphs (`lightqnet-dm100.pb`, `-dm050.pb`, `-dm025.pb`)."""

import re

import torch

from ...models import LightQNetConfig


_TRUNK = "UncertaintyModule/MobilenetV3"
_HEAD = "UncertaintyModule/Bottleneck"


def convert_lightqnet(tensors: dict[str, torch.Tensor]) -> tuple[LightQNetConfig, dict[str, torch.Tensor]]:
    """
    Args:
        tensors: What [`read_frozen_graph`] gives of a published file (RGB, (x - 128) / 128).

    Returns:
        The configuration and the state dict of a [`LightQNetForFaceQuality`].

    Raises:
        ValueError: A tensor is not expected; it is named.
        KeyError: One that the sizes are read off is missing.
    """
    norms = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    outside = {"Conv": "stem", "Conv_1": "feature"}
    converted, strides = {}, {}
    for name, tensor in tensors.items():
        path = name.removeprefix(f"{_TRUNK}/").split("/")
        if name == f"{_HEAD}/weights":
            converted["score.weight"] = tensor.t()
            continue
        if name == f"{_HEAD}/biases":
            converted["score.bias"] = tensor
            continue
        if name == "UncertaintyModule/Reshape/shape":
            continue
        if m := re.fullmatch(r"expanded_conv(?:_(\d+))?", path[0]):
            ours, path = f"blocks.{m[1] or 0}.{path[1]}", path[2:]
        elif path[0] in outside:
            ours, path = outside[path[0]], path[1:]
        else:
            raise ValueError(f"unexpected tensors: {name}")
        if path[-1] == "strides":
            strides[ours] = tensor.tolist()
        elif path == ["weights"]:
            converted[f"{ours}.conv.weight"] = tensor.permute(3, 2, 0, 1)  # from height, width, in, out
        elif path == ["depthwise_weights"]:
            converted[f"{ours}.conv.weight"] = tensor.permute(2, 3, 0, 1)  # from height, width, channels, 1
        elif len(path) == 2 and path[0] == "BatchNorm" and path[1] in norms:
            converted[f"{ours}.norm.{norms[path[1]]}"] = tensor
            converted[f"{ours}.norm.num_batches_tracked"] = torch.tensor(0)
        else:
            raise ValueError(f"unexpected tensors: {name}")
    blocks: list[list[int]] = []
    while f"blocks.{len(blocks)}.project.conv.weight" in converted:
        project = converted[f"blocks.{len(blocks)}.project.conv.weight"]
        stride = strides.pop(f"blocks.{len(blocks)}.depthwise")
        if stride not in ([1, 1], [2, 2]):
            raise ValueError(f"block {len(blocks)} has strides {stride}")
        blocks.append([project.shape[1], project.shape[0], stride[0]])
    if any(stride != [1, 1] for stride in strides.values()):
        raise ValueError(f"strides where LightQNet has none: {strides}")
    config = LightQNetConfig(
        stem_width=converted["stem.conv.weight"].shape[0],
        blocks=blocks,
        feature_width=converted["feature.conv.weight"].shape[0],
    )
    return config, converted


__all__ = ["convert_lightqnet"]
