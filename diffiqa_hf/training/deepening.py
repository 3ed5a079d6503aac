# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""A trained MobileFaceNet with more blocks, which gives what it gave before and has more to learn with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel


def deepen(model: PreTrainedModel, added: Sequence[int]) -> PreTrainedModel:
    """
    Args:
        model: A `MobileFaceNetModel` or `MobileFaceNetForFaceQuality`.
        added: For each stage of the network, how many blocks come after those that it has.

    Returns:
        A new model of the same class. A new block begins as the identity: the scale of its last normalisation is 0,
        so that its residual adds nothing (as in Goyal et al., "Accurate, Large Minibatch SGD", 2017).

    Raises:
        ValueError: `added` doesn't fit the stages.
    """
    stages = model.config.stages
    if len(added) != len(stages) or min(added) < 0:
        raise ValueError(f"{len(stages)} numbers of blocks to add are needed, one for each stage, not {list(added)}")
    settings = model.config.to_dict()
    settings["stages"] = [
        [hidden, width, depth + more, stride]
        for (hidden, width, depth, stride), more in zip(stages, added, strict=True)
    ]
    deeper = type(model)(type(model.config).from_dict(settings))
    # Where each block stands in the new network; those in between are new.
    places: list[int] = []
    new: list[int] = []
    for (_, _, depth, _), more in zip(stages, added, strict=True):
        start = len(places) + len(new)
        places += range(start, start + depth)
        new += range(start + depth, start + depth + more)
    before, after = (
        next(part for name, part in found.named_modules() if name.endswith("blocks")) for found in (model, deeper)
    )
    for number, block in zip(places, before, strict=True):
        after[number].load_state_dict(block.state_dict())
    for number in new:
        nn.init.zeros_(after[number].project.norm.weight)
    others = {name: value for name, value in model.state_dict().items() if "blocks." not in name}
    deeper.load_state_dict(others, strict=False)
    return deeper


__all__ = ["deepen"]
