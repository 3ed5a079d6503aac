# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
insightface's MXNet IResNets (`model-0000.params`), the network of SER-FIQ's authors among them. The names in the file
and the facts that leave no trace in it are those of insightface's recognition/arcface_mxnet/symbol/fresnet.py and
symbol_utils.py.
"""

import re

import torch

from ...models import IResNetConfig
from .iresnet import match_iresnet


_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
_OUTSIDE = {"conv1": "conv0", "bn1": "bn0", "prelu": "relu0", "bn2": "bn1", "fc": "pre_fc1", "features": "fc1"}
_INSIDE = {"prelu": "relu1", "downsample.0": "conv1sc", "downsample.1": "sc"}


def convert_insightface_mxnet(
    tensors: dict[str, torch.Tensor],
) -> tuple[IResNetConfig, dict[str, torch.Tensor]]:
    """
    Args:
        tensors: What [`read_params`] gives of a file of insightface's `fresnet` (RGB, (x - 127.5) * 0.0078125), of the
            version that `LResNet50E-IR` and `LResNet100E-IR` are: input 1, unit 3, PReLU, output E. Outputs FC and I,
            which are without dropout, have the same tensors. A classifier (`fc7`) is left out.

    Returns:
        The configuration and the state dict of an [`IResNetModel`].

    Raises:
        ValueError: A tensor is missing, is not expected or has another shape, or the network is of another version;
            it is named.
        KeyError: One that the sizes are read off is missing.
    """
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc7_")}
    if version := _unsupported(tensors):
        raise ValueError(f"a network of {version}; input 1, unit 3, act prelu, output E without se are known")
    units = [int(m[1]) for name in tensors if (m := re.fullmatch(r"stage(\d+)_unit\d+_conv1_weight", name))]
    stages = sorted(set(units))
    config = IResNetConfig(
        depths=[units.count(stage) for stage in stages],
        widths=[tensors[f"stage{stage}_unit1_conv1_weight"].shape[0] for stage in stages],
        embedding_size=tensors["pre_fc1_weight"].shape[0],
        image_std=(128 / 255,) * 3,  # the symbol itself makes (x - 127.5) / 128 of the pixels
        bn_eps=2e-5,
        dropout=0.4,
    )
    # MXNet counts no batches.
    norms = [name.removesuffix("_moving_mean") for name in tensors if name.endswith("_moving_mean")]
    tensors |= {f"{norm}_num_batches_tracked": torch.tensor(0) for norm in norms}
    converted = match_iresnet(config, tensors, _foreign_name)
    # The last normalisation, and it alone, has fix_gamma: MXNet computes with 1, whatever the file has.
    converted["features.weight"] = torch.ones_like(converted["features.weight"])
    return config, converted


def _unsupported(tensors: dict[str, torch.Tensor]) -> str | None:
    """What other version of `fresnet` the tensors are of, in the words of its configuration."""
    if tensors["conv0_weight"].shape[2:] != (3, 3):
        return "another input (conv0 is not 3x3)"
    if "bn_data_moving_mean" in tensors:
        return "another input (bn_data)"
    if any("_se_conv1_" in name for name in tensors):
        return "se (squeeze and excitation)"
    if "stage1_unit1_conv3_weight" in tensors:
        return "bottlenecks (500 layers or more)"
    if "stage1_unit1_bn3_gamma" not in tensors:
        return "another unit (no bn3)"
    if "relu0_gamma" not in tensors:
        return "another act (no slopes)"
    if not {"bn1_gamma", "pre_fc1_weight", "fc1_beta"} <= tensors.keys():
        return "another output (without bn1, pre_fc1 and fc1)"
    return None


def _foreign_name(name: str) -> str:
    """Theirs for our name of a tensor."""
    module, _, kind = name.rpartition(".")
    if m := re.fullmatch(r"layer(\d+)\.(\d+)\.(.+)", module):
        theirs = f"stage{m[1]}_unit{int(m[2]) + 1}_{_INSIDE.get(m[3], m[3])}"
    else:
        theirs = _OUTSIDE[module]
    if "conv" in theirs or theirs == "pre_fc1":
        return f"{theirs}_{kind}"
    return f"{theirs}_{_NORM.get(kind, kind)}"


__all__ = ["convert_insightface_mxnet"]
