# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Quality labels in the columns of a dataset, and what a network learns of them."""

import argparse

import numpy as np


RANK_LEVELS = 101  # quantiles that a rank normalisation keeps


def fit_normalization(labels: np.ndarray, kind: str) -> dict:
    """
    The constants of a normalisation, as they stand in `config.quality_normalization`.

    Args:
        labels (`np.ndarray` of shape `(N,)`): Finite labels.
        kind (`str`): `"minmax"`: `min` goes to 0 and `max` to 1. `"rank"`: the rank among the labels, given by
            `values` and the `levels` in [0, 1] that they go to, linear between them. `"none"`.
    """
    if kind == "none":
        return {"kind": kind}
    if labels.min() == labels.max():
        raise ValueError(f"all {len(labels)} labels are {labels.min()}: there is nothing to learn")
    if kind == "minmax":
        return {"kind": kind, "min": float(labels.min()), "max": float(labels.max())}
    levels = np.linspace(0, 1, RANK_LEVELS)
    values, place = np.unique(np.quantile(labels, levels), return_inverse=True)
    # Many equal labels fill several quantiles, and go to their middle.
    means = np.bincount(place, levels) / np.bincount(place)
    return {"kind": kind, "values": values.tolist(), "levels": means.tolist()}


def normalize(labels: np.ndarray, constants: dict) -> np.ndarray:
    """Labels `(N,)` by the constants of [`fit_normalization`], float32; to [0, 1] unless the kind is `"none"`."""
    if constants["kind"] == "minmax":
        labels = np.clip((labels - constants["min"]) / (constants["max"] - constants["min"]), 0, 1)
    elif constants["kind"] == "rank":
        labels = np.interp(labels, constants["values"], constants["levels"])
    return labels.astype(np.float32)


def fit_labels(labels: np.ndarray, args: argparse.Namespace) -> dict:
    """
    `config.quality_normalization` for columns of labels `(N, C)`: of one what [`fit_normalization`] gives, of several
    the kind `"weighted_mean"`, whose `columns` have that for each of them, with its `column` and `weight`.
    """
    parts = [fit_normalization(column, args.label_normalization) for column in labels.T]
    if len(parts) == 1:
        return parts[0]
    named = zip(args.label_column, args.label_weights, parts, strict=True)
    columns = [{"column": column, "weight": weight, **part} for column, weight, part in named]
    return {"kind": "weighted_mean", "columns": columns}


def make_targets(labels: np.ndarray, constants: dict) -> np.ndarray:
    """What is learnt, `(N,)` float32: the columns `(N, C)` by the constants of [`fit_labels`]."""
    parts = constants.get("columns", [{"weight": 1.0, **constants}])
    return sum(part["weight"] * normalize(column, part) for part, column in zip(parts, labels.T, strict=True))


def read_labels(dataset, columns: list[str]) -> np.ndarray:
    """The columns `(N, C)`, float64."""
    for column in columns:
        if column not in dataset.column_names:
            raise ValueError(f"the dataset has no column {column!r}; it has {dataset.column_names}")
    return np.stack([np.array(dataset[column], dtype=np.float64) for column in columns], axis=1)


__all__ = ["RANK_LEVELS", "fit_labels", "fit_normalization", "make_targets", "normalize", "read_labels"]
