# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The published face quality networks. All but SDD-FIQA are a backbone, whose names the other modules here know for the
most part, and a head.
"""

import re
from collections.abc import Callable

import torch

from ...models import IResNetConfig, MobileFaceNetConfig
from ...models.modeling_face_quality import SDDFIQAConfig
from .iresnet import _outputs, convert_insightface_iresnet
from .mobilefacenet import _config


_Converted = tuple[IResNetConfig | MobileFaceNetConfig, dict[str, torch.Tensor]]


def convert_diffiqa_r(state_dict: dict[str, torch.Tensor]) -> tuple[IResNetConfig, dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: A bare state dict of DifFIQA(R): arcface_torch's iresnet100 under `base.`, and `linear`. RGB,
            (x / 255 - 0.5) / 0.5.

    Returns:
        The configuration and the state dict of an [`IResNetForFaceQuality`].

    Raises:
        ValueError: A tensor is not expected, or one that the sizes are read off is missing; it is named.
    """
    head = {"linear.weight": "score.weight", "linear.bias": "score.bias"}
    # The authors start from insightface's CosFace network.
    return _convert(state_dict, "base.", head, convert_insightface_iresnet, training_data="Glint360K, VGGFace2")


def convert_ediffiqa(state_dict: dict[str, torch.Tensor]) -> _Converted:
    """
    Args:
        state_dict: A bare state dict of eDifFIQA: under `base_model.` an IResNet of arcface_torch (S, M, L) or a
            MobileFaceNet (T), and `mlp.l1`, `mlp.l2`. RGB, (x / 255 - 0.5) / 0.5.

    Returns:
        The configuration and the state dict of an [`IResNetForFaceQuality`] or a [`MobileFaceNetForFaceQuality`].

    Raises:
        ValueError: A tensor is not expected; it is named.
        KeyError: One that the sizes are read off is missing.
    """
    head = {"l1": "hidden", "l2": "score"}
    head = {f"mlp.{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in head.items() for kind in ("weight", "bias")}
    is_mobilefacenet = any(name.startswith("base_model.conv_6_dw.") for name in state_dict)
    convert = _convert_conv_23_mobilefacenet if is_mobilefacenet else convert_insightface_iresnet
    return _convert(state_dict, "base_model.", head, convert)


def convert_cr_fiqa(state_dict: dict[str, torch.Tensor]) -> tuple[IResNetConfig, dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: A bare state dict of CR-FIQA: iresnet50 (S) or iresnet100 (L) with `qs`, which reads the embedding
            after its last normalisation. RGB, (x / 255 - 0.5) / 0.5.

    Returns:
        The configuration and the state dict of an [`IResNetForFaceQuality`].

    Raises:
        ValueError: A tensor is not expected, or one that the sizes are read off is missing; it is named.
    """
    head = {"qs.weight": "score.weight", "qs.bias": "score.bias"}
    return _convert(state_dict, "", head, convert_insightface_iresnet, dropout=0.4)


def convert_sdd_fiqa(state_dict: dict[str, torch.Tensor]) -> tuple[SDDFIQAConfig, dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: A bare state dict of SDD-FIQA's `R50(use_type="Qua")` (RGB, (x / 255 - 0.5) / 0.5).

    Returns:
        The configuration and the state dict of an [`SDDFIQAForFaceQuality`].

    Raises:
        ValueError: A tensor is not expected, or one that the sizes are read off is missing; it is named.
    """
    outside = {"input_layer.0": "conv1", "input_layer.1": "bn1", "input_layer.2": "prelu"}
    outside |= {"quality.1": "head_prelu", "quality.3": "score"}
    layers = ("bn1", "conv1", "prelu", "conv2", "bn3")
    converted = {}
    for name, tensor in state_dict.items():
        module, _, kind = name.rpartition(".")
        if m := re.fullmatch(r"body\.(\d+)\.res_layer\.([0-4])", module):
            ours = f"blocks.{m[1]}.{layers[int(m[2])]}"
        elif m := re.fullmatch(r"body\.(\d+)\.shortcut_layer\.([01])", module):
            ours = f"blocks.{m[1]}.downsample.{m[2]}"
        elif module in outside:
            ours = outside[module]
        else:
            raise ValueError(f"unexpected tensors: {name}")
        converted[f"{ours}.{kind}"] = tensor
    depth = 1 + max((int(name.split(".")[1]) for name in converted if name.startswith("blocks.")), default=-1)
    # A stage begins where the width changes, which takes a convolution in the shortcut. The first keeps the width.
    starts = [i for i in range(depth) if i == 0 or f"blocks.{i}.downsample.0.weight" in converted]
    config = SDDFIQAConfig(
        depths=[end - start for start, end in zip(starts, [*starts[1:], depth], strict=True)],
        widths=[_outputs(converted, f"blocks.{i}.conv1.weight") for i in starts],
    )
    return config, converted


def _convert(
    state_dict: dict[str, torch.Tensor],
    backbone_prefix: str,
    head: dict[str, str],
    convert_backbone: Callable[[dict[str, torch.Tensor]], _Converted],
    **config_values,
) -> _Converted:
    """`head` gives for their name of a tensor ours; what begins with `backbone_prefix` is `convert_backbone`'s."""
    backbone, converted = {}, {}
    for name, tensor in state_dict.items():
        if name in head:
            converted[f"head.{head[name]}"] = tensor
        elif name.startswith(backbone_prefix):
            backbone[name.removeprefix(backbone_prefix)] = tensor
        else:
            raise ValueError(f"unexpected tensors: {name}")
    config, backbone = convert_backbone(backbone)
    hidden = converted.get("head.hidden.weight")
    config.quality_hidden_size = None if hidden is None else hidden.shape[0]
    for name, value in config_values.items():
        setattr(config, name, value)
    converted.update({f"backbone.{name}": tensor for name, tensor in backbone.items()})
    return config, converted


def _convert_conv_23_mobilefacenet(
    state_dict: dict[str, torch.Tensor],
) -> tuple[MobileFaceNetConfig, dict[str, torch.Tensor]]:
    """The MobileFaceNet of eDifFIQA(T), whose blocks are `conv_23`, `conv_3.model.0`, ...; unit embeddings."""
    outside = {"conv1": "stem.0", "conv2_dw": "stem.1", "conv_6_sep": "feature", "conv_6_dw": "pool"}
    parts = {"conv": "expand", "conv_dw": "depthwise", "project": "project"}
    layers = {"conv": "conv", "bn": "norm", "prelu": "act"}
    last = {"linear": "embed", "bn": "norm"}
    block = re.compile(r"conv_(\d+)(?:\.model\.(\d+))?\.(conv|conv_dw|project)")
    # conv_23 leads from the second stage to the third, at half the resolution; conv_3 is the residual blocks there.
    # As text, the names are in the order of the network.
    modules = {name.rsplit(".", 2)[0] for name in state_dict}
    found = sorted({(m[1], int(m[2] or 0), m[2] is None) for module in modules if (m := block.fullmatch(module))})
    order = {key[:2]: i for i, key in enumerate(found)}
    converted = {}
    for name, tensor in state_dict.items():
        module, _, kind = name.rpartition(".")
        part, _, layer = module.rpartition(".")
        if module in last:
            ours = last[module]
        elif part in outside and layer in layers:
            ours = f"{outside[part]}.{layers[layer]}"
        elif (m := block.fullmatch(part)) and layer in layers:
            ours = f"blocks.{order[m[1], int(m[2] or 0)]}.{parts[m[3]]}.{layers[layer]}"
        else:
            raise ValueError(f"unexpected tensors: {name}")
        converted[f"{ours}.{kind}"] = tensor
    strides = [2 if alone else 1 for _, _, alone in found]
    return _config(converted, strides, normalize_embedding=True), converted
