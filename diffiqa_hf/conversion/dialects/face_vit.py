# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The vision transformers of insightface's arcface_torch, CVLface and ViT-FIQA. All have the names of the first. What no
tensor tells, the number of heads, is that of the published configurations.
"""

import re

import torch

from ...models import FaceViTConfig
from .iresnet import _outputs


_OUTSIDE = {
    "patch_embed.proj": "embeddings.projection",
    "norm": "norm",
    "feature.0": "pool",
    "feature.1": "pool_norm",
    "feature.2": "embed",
    "feature.3": "embed_norm",
    "keypoint_linear": "keypoints.linear",
}
_PARAMETERS = {"pos_embed": "embeddings.positions", "qs_token": "embeddings.quality_token", "mask_token": "mask_token"}
_BLOCK = {
    "norm1": "norm1",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.proj",
    "norm2": "norm2",
    "mlp.fc1": "fc1",
    "mlp.fc2": "fc2",
}
_HEAD = {"head_qs.0": "norm", "head_qs.1": "score"}
_MASK_RATIO, _DROP_PATH_RATE = 0.1, 0.1  # of the published configurations
_CLASSES = 49  # of relative positions, in KP-RPE


def convert_insightface_vit(state_dict: dict[str, torch.Tensor]) -> tuple[FaceViTConfig, dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: A bare state dict of arcface_torch's `vit_*` (RGB, (x / 255 - 0.5) / 0.5); all have 8 heads.

    Returns:
        The configuration and the state dict of a [`FaceViTModel`].

    Raises:
        ValueError: A tensor is not expected, or one that the sizes are read off is missing; it is named.
    """
    return _config(state_dict, 8), _renamed(state_dict)


def convert_cvlface_vit(state_dict: dict[str, torch.Tensor]) -> tuple[FaceViTConfig, dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: A bare state dict of CVLface's `vit` or `vit_kprpe`, small (8 heads, a block of 5 times the width)
            or base (16 heads, 3 times the width). RGB, (x / 255 - 0.5) / 0.5.

    Returns:
        The configuration and the state dict of a [`FaceViTModel`].

    Raises:
        ValueError: A tensor is not expected, one that the sizes are read off is missing, or the network is neither of
            the two; what it is is named.
    """
    ratio = _outputs(state_dict, "blocks.0.mlp.fc1.weight") / _outputs(state_dict, "patch_embed.proj.weight")
    heads = {5.0: 8, 3.0: 16}.get(ratio)
    if heads is None:
        raise ValueError(f"blocks of {ratio:g} times the width are neither CVLface's small nor its base network")
    config = _config(state_dict, heads)
    keypoints = state_dict.get("keypoint_linear.weight")
    if keypoints is not None:
        if len(keypoints) != _CLASSES * heads * config.num_hidden_layers:
            raise ValueError(
                f"keypoint_linear.weight has {len(keypoints)} rows, not {_CLASSES} for each of {heads} heads of each "
                f"of {config.num_hidden_layers} blocks"
            )
        config.relative_keypoints = True
    return config, _renamed(state_dict)


def convert_vit_fiqa(state_dict: dict[str, torch.Tensor]) -> tuple[FaceViTConfig, dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: A bare state dict of ViT-FIQA, in its three modes: `token` (the published one), `full`, whose
            embedding is made of the quality token as well, and `crfiqa`, which has none. 8 heads. RGB,
            (x / 255 - 0.5) / 0.5.

    Returns:
        The configuration and the state dict of a [`FaceViTForFaceQuality`].

    Raises:
        ValueError: A tensor is not expected, or one that the sizes are read off is missing; it is named.
    """
    head, rest = {}, {}
    for name, tensor in state_dict.items():
        module, _, kind = name.rpartition(".")
        if module in _HEAD:
            head[f"head.{_HEAD[module]}.{kind}"] = tensor
        else:
            rest[name] = tensor
    config = _config(rest, 8)
    return config, head | {f"backbone.{name}": tensor for name, tensor in _renamed(rest).items()}


def _config(state_dict: dict[str, torch.Tensor], heads: int) -> FaceViTConfig:
    for name in ("patch_embed.proj.weight", "pos_embed", "feature.0.weight"):
        if name not in state_dict:
            raise ValueError(f"missing tensors: {name}")
    width, _, patch_size, _ = state_dict["patch_embed.proj.weight"].shape
    with_token = "qs_token" in state_dict
    config = FaceViTConfig(
        patch_size=patch_size,
        hidden_size=width,
        num_hidden_layers=len({match[1] for name in state_dict if (match := re.match(r"blocks\.(\d+)\.", name))}),
        num_attention_heads=heads,
        intermediate_size=_outputs(state_dict, "blocks.0.mlp.fc1.weight"),
        embedding_size=_outputs(state_dict, "feature.2.weight"),
        quality_token=with_token,
        mask_ratio=_MASK_RATIO if "mask_token" in state_dict else None,
        drop_path_rate=_DROP_PATH_RATE,
    )
    config.embed_quality_token = with_token and state_dict["feature.0.weight"].shape[1] == width * (
        config.num_patches + 1
    )
    return config


def _renamed(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    converted = {}
    for name, tensor in state_dict.items():
        module, _, kind = name.rpartition(".")
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", module)
        if name in _PARAMETERS:
            ours = _PARAMETERS[name]
        elif module in _OUTSIDE:
            ours = f"{_OUTSIDE[module]}.{kind}"
        elif block and block[2] in _BLOCK:
            ours = f"blocks.{block[1]}.{_BLOCK[block[2]]}.{kind}"
        else:
            raise ValueError(f"unexpected tensors: {name}")
        converted[ours] = tensor
    return converted


__all__ = ["convert_cvlface_vit", "convert_insightface_vit", "convert_vit_fiqa"]
