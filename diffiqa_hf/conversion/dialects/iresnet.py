# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
insightface's arcface_torch IResNets (ArcFace, CosFace) and MagFace's. Our module names are theirs; the sizes are read
off. Also what the IResNets of every dialect share: a strict comparison of a file with our model, and the names of the
"IR" networks (AdaFace, CurricularFace), which hold the same layers.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch

from ...models import IResNetConfig, IResNetModel


def convert_insightface_iresnet(
    state_dict: dict[str, torch.Tensor],
) -> tuple[IResNetConfig, dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: A bare state dict of arcface_torch's `iresnet*` (RGB, (x / 255 - 0.5) / 0.5).

    Returns:
        The configuration and the state dict of an [`IResNetModel`].

    Raises:
        ValueError: A tensor is missing, is not expected or has another shape; it is named.
    """
    return _convert(state_dict)


def convert_magface(state_dict: dict[str, torch.Tensor]) -> tuple[IResNetConfig, dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: A bare state dict of MagFace's `iresnet*` (BGR, x / 255). It has the names and shapes of
            arcface_torch's, so no tensor tells the two apart. The L2 norm of the embedding is MagFace's quality.

    Returns:
        The configuration and the state dict of an [`IResNetModel`].

    Raises:
        ValueError: A tensor is missing, is not expected or has another shape; it is named.
    """
    return _convert(
        state_dict,
        channel_order="bgr",
        image_mean=(0.0, 0.0, 0.0),
        image_std=(1.0, 1.0, 1.0),
        bn_eps=2e-5,
        dropout=0.4,
        dropout_channels=True,
    )


def _convert(
    state_dict: dict[str, torch.Tensor], **config_values: Any
) -> tuple[IResNetConfig, dict[str, torch.Tensor]]:
    blocks = {tuple(name.split(".")[:2]) for name in state_dict if re.match(r"layer\d+\.\d+\.", name)}
    stages = sorted({stage for stage, _ in blocks}, key=lambda stage: int(stage.removeprefix("layer")))
    config = IResNetConfig(
        depths=[sum(stage == name for name, _ in blocks) for stage in stages],
        widths=[_outputs(state_dict, f"{stage}.0.conv1.weight") for stage in stages],
        embedding_size=_outputs(state_dict, "fc.weight"),
        **config_values,
    )
    return config, match_iresnet(config, state_dict)


def convert_ir(
    state_dict: dict[str, torch.Tensor], block: Iterable[str], **config_values: Any
) -> tuple[IResNetConfig, dict[str, torch.Tensor]]:
    """
    A network of three parts, `input_layer`, `body` (the blocks of all stages in a row) and `output_layer`.

    Args:
        state_dict: The bare state dict.
        block: Our names of the layers of a block, in the order of its `res_layer`.
        config_values: What else the [`IResNetConfig`] says.

    Returns:
        The configuration and the state dict of an [`IResNetModel`].

    Raises:
        ValueError: A tensor is missing, is not expected or has another shape; it is named.
    """
    block = list(block)
    numbers = {int(match[1]) for name in state_dict if (match := re.match(r"body\.(\d+)\.", name))}
    # A stage begins where the width changes, which takes a convolution in the shortcut. The first keeps the width.
    starts = sorted({0, *(i for i in numbers if f"body.{i}.shortcut_layer.0.weight" in state_dict)})
    ends = [*starts[1:], len(numbers)]
    config = IResNetConfig(
        depths=[end - start for start, end in zip(starts, ends, strict=True)],
        widths=[_outputs(state_dict, f"body.{i}.res_layer.{block.index('conv1')}.weight") for i in starts],
        embedding_size=_outputs(state_dict, "output_layer.3.weight"),
        **config_values,
    )
    outside = {"conv1": "input_layer.0", "bn1": "input_layer.1", "prelu": "input_layer.2"}
    outside |= {"bn2": "output_layer.0", "fc": "output_layer.3", "features": "output_layer.4"}

    def foreign_name(name: str) -> str:
        match = re.match(r"layer(\d+)\.(\d+)\.(\w+)\.(.+)", name)
        if not match:
            module, _, tensor = name.partition(".")
            return f"{outside[module]}.{tensor}"
        prefix = f"body.{starts[int(match[1]) - 1] + int(match[2])}"
        if match[3] == "downsample":
            return f"{prefix}.shortcut_layer.{match[4]}"
        return f"{prefix}.res_layer.{block.index(match[3])}.{match[4]}"

    return config, match_iresnet(config, state_dict, foreign_name)


def match_iresnet(
    config: IResNetConfig, state_dict: dict[str, torch.Tensor], foreign_name: Callable[[str], str] = str
) -> dict[str, torch.Tensor]:
    """
    The tensors of a foreign state dict under our names, every one of them and no other.

    Args:
        config: Configuration of the [`IResNetModel`] to fill.
        state_dict: The foreign state dict.
        foreign_name: Gives for our name of a tensor theirs.

    Returns:
        The state dict of the model.

    Raises:
        ValueError: A tensor is missing, is not expected or has another shape; it is named.
    """
    with torch.device("meta"):  # shapes without memory
        expected = IResNetModel(config).state_dict()
    theirs = {name: foreign_name(name) for name in expected}
    missing = [name for name in theirs.values() if name not in state_dict]
    unexpected = sorted(state_dict.keys() - set(theirs.values()))
    if missing or unexpected:
        raise ValueError("; ".join(filter(None, (_listed("missing", missing), _listed("unexpected", unexpected)))))
    for ours, name in theirs.items():
        if state_dict[name].shape != expected[ours].shape:
            raise ValueError(
                f"tensor {name} has the shape {tuple(state_dict[name].shape)}, not {tuple(expected[ours].shape)}"
            )
    return {ours: state_dict[name] for ours, name in theirs.items()}


def _outputs(state_dict: dict[str, torch.Tensor], name: str) -> int:
    if name not in state_dict:
        raise ValueError(f"missing tensors: {name}")
    return state_dict[name].shape[0]


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{what} tensors: {', '.join(names[:5])}{more}"
