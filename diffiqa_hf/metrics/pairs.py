# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the modules for `evaluate` share: the columns that they take, and how their arguments change a protocol."""

from typing import Any

import datasets

from ..evaluation import EDCProtocol


def pair_features() -> datasets.Features:
    """The columns: a row is a pair of images."""
    columns = {"similarities": "float64", "mated": "bool", "qualities_a": "float64", "qualities_b": "float64"}
    return datasets.Features({name: datasets.Value(dtype) for name, dtype in columns.items()})


def changed_protocol(
    name: str,
    fmr: float | None,
    threshold: float | None,
    starting_fnmr: float | None,
    nan_quality: str | None,
    **changes: Any,
) -> EDCProtocol:
    """A protocol by its name, at another operating point where one is given."""
    if any(value is not None for value in (fmr, threshold, starting_fnmr)):
        changes.update(fmr=fmr, threshold=threshold, starting_fnmr=starting_fnmr)
    if nan_quality is not None:
        changes["nan_quality"] = nan_quality
    return EDCProtocol.from_preset(name, **changes)


__all__ = ["changed_protocol", "pair_features"]
