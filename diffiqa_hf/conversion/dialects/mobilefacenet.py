# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The MobileFaceNets that are in use: insightface's `mbf`, Xiaoccer's MobileFaceNet_Pytorch and foamliu's MobileFaceNet.
They hold the same layers under other names, so what is written down here is each one's naming.
"""

import re

import torch

from ...models import MobileFaceNetConfig


# (pattern of a foreign name, ours); a bottleneck's three parts are told apart by `_PARTS`.
_INSIGHTFACE = [
    (r"layers\.0\.layers\.", "stem.0."),
    (r"layers\.1\.layers\.", "stem.1."),
    (r"conv_sep\.layers\.", "feature."),
    (r"features\.layers\.0\.layers\.", "pool."),
    (r"features\.layers\.2\.", "embed."),
    (r"features\.layers\.3\.", "norm."),
]
_PARTS = ("expand", "depthwise", "project")
_CONV = ("conv", "norm", "act")


def _rename(name: str, rules: list[tuple[str, str]]) -> str:
    for pattern, ours in rules:
        if match := re.match(pattern, name):
            return ours + name[match.end() :]
    raise KeyError(f"unexpected tensor {name!r}")


def convert_insightface_mbf(
    state_dict: dict[str, torch.Tensor],
) -> tuple[MobileFaceNetConfig, dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: A bare state dict of arcface_torch's `get_mbf` (RGB, (x / 255 - 0.5) / 0.5).

    Returns:
        The configuration and the state dict of a [`MobileFaceNetModel`].
    """
    # layers.N is a bottleneck, or a sequence of residual ones: layers.N.layers.I. Number them all in a row.
    found = {}
    for name in state_dict:
        if match := re.match(r"layers\.(\d+)\.layers\.(?:(\d+)\.layers\.)?\d\.layers\.\d\.", name):
            found[int(match[1]), int(match[2] or 0)] = match[2] is not None
    order = {key: i for i, key in enumerate(sorted(found))}
    converted = {}
    for name, tensor in state_dict.items():
        match = re.match(r"layers\.(\d+)\.layers\.(?:(\d+)\.layers\.)?(\d)\.layers\.(\d)\.(\w+)$", name)
        if match:
            block = order[int(match[1]), int(match[2] or 0)]
            ours = f"blocks.{block}.{_PARTS[int(match[3])]}.{_CONV[int(match[4])]}.{match[5]}"
        else:
            ours = _rename(name, _INSIGHTFACE)
            if not ours.startswith(("embed", "norm")):
                ours = re.sub(r"\.(\d)\.(\w+)$", lambda m: f".{_CONV[int(m[1])]}.{m[2]}", ours)
        converted[ours] = tensor
    # The first block of a stage is the one that stands alone there.
    strides = [1 if found[key] else 2 for key in sorted(found)]
    return _config(converted, strides), converted


def convert_xiaoccer(state_dict: dict[str, torch.Tensor]) -> tuple[MobileFaceNetConfig, dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: The `net_state_dict` of a checkpoint of MobileFaceNet_Pytorch: RGB, 112 high and 96 wide (the
            middle of the canonical face), (x - 127.5) / 128.

    Returns:
        The configuration and the state dict of a [`MobileFaceNetModel`].
    """
    positions = [(part, layer) for part in _PARTS for layer in _CONV]
    converted = {}
    for name, tensor in state_dict.items():
        ours = re.sub(
            r"^blocks\.(\d+)\.conv\.(\d)\.", lambda m: "blocks.{}.{}.{}.".format(m[1], *positions[int(m[2])]), name
        )
        ours = re.sub(r"\.bn\.", ".norm.", re.sub(r"\.prelu\.", ".act.", ours))
        ours = re.sub(r"^conv1\.", "stem.0.", re.sub(r"^dw_conv1\.", "stem.1.", re.sub(r"^conv2\.", "feature.", ours)))
        ours = re.sub(r"^linear7\.", "pool.", ours)
        ours = re.sub(r"^linear1\.conv\.", "embed.", re.sub(r"^linear1\.norm\.", "norm.", ours))
        converted[ours] = tensor.flatten(1) if ours == "embed.weight" else tensor
    config = _config(
        converted,
        _strides(converted),
        crop_size=(112, 96),
        image_std=(128 / 255,) * 3,
        training_data="CASIA-WebFace",
    )
    return config, converted


def convert_foamliu(state_dict: dict[str, torch.Tensor]) -> tuple[MobileFaceNetConfig, dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: A bare state dict of foamliu's MobileFaceNet: RGB, ImageNet's mean and standard deviation, ReLU6.

    Returns:
        The configuration and the state dict of a [`MobileFaceNetModel`].
    """
    rules = [
        (r"conv1\.0\.", "stem.0.conv."),
        (r"conv1\.1\.", "stem.0.norm."),
        (r"dw_conv\.depthwise\.", "stem.1.conv."),
        (r"dw_conv\.bn1\.", "stem.1.norm."),
        (r"dw_conv\.pointwise\.", "stem.2.conv."),
        (r"dw_conv\.bn2\.", "stem.2.norm."),
        (r"conv2\.0\.", "feature.conv."),
        (r"conv2\.1\.", "feature.norm."),
        (r"gdconv\.depthwise\.", "pool.conv."),
        (r"gdconv\.bn\.", "pool.norm."),
        (r"conv3\.", "embed."),
        (r"bn\.", "norm."),
    ]
    parts = {"0.0": "expand.conv", "0.1": "expand.norm", "1.0": "depthwise.conv", "1.1": "depthwise.norm"}
    parts |= {"2": "project.conv", "3": "project.norm"}
    converted = {}
    for name, tensor in state_dict.items():
        if match := re.match(r"features\.(\d+)\.conv\.([\d.]+)\.(\w+)$", name):
            ours = f"blocks.{match[1]}.{parts[match[2]]}.{match[3]}"
        else:
            ours = _rename(name, rules)
        converted[ours] = tensor.flatten(1) if ours == "embed.weight" else tensor
    config = _config(
        converted,
        _strides(converted),
        stem_pointwise=True,
        hidden_act="relu6",
        image_mean=(0.485, 0.456, 0.406),
        image_std=(0.229, 0.224, 0.225),
    )
    return config, converted


def _strides(converted: dict[str, torch.Tensor]) -> list[int]:
    # Strides leave no trace in the weights. In the paper's network a stage begins where the width changes, at
    # the first block, and where the hidden width is the largest (the last stage keeps its width).
    depth = 1 + max(int(name.split(".")[1]) for name in converted if name.startswith("blocks."))
    widths = [converted[f"blocks.{i}.project.conv.weight"].shape[0] for i in range(depth)]
    hidden = [converted[f"blocks.{i}.expand.conv.weight"].shape[0] for i in range(depth)]
    return [2 if i == 0 or widths[i] != widths[i - 1] or hidden[i] == max(hidden) else 1 for i in range(len(widths))]


def _config(converted: dict[str, torch.Tensor], strides: list[int], **kwargs) -> MobileFaceNetConfig:
    stages: list[list[int]] = []
    for i, stride in enumerate(strides):
        project = converted[f"blocks.{i}.project.conv.weight"]
        stage = [project.shape[1], project.shape[0], 1, stride]
        if stages and stride == 1 and stages[-1][:2] == stage[:2]:
            stages[-1][2] += 1
        else:
            stages.append(stage)
    second = converted["stem.1.conv.weight"]
    return MobileFaceNetConfig(
        stem_width=second.shape[0],
        stem_groups=second.shape[0] // second.shape[1],
        stages=stages,
        feature_width=converted["feature.conv.weight"].shape[0],
        embedding_size=converted["embed.weight"].shape[0],
        embedding_bias="embed.bias" in converted,
        **kwargs,
    )
