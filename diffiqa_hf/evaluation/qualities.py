# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""In which order comparisons and images leave."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from .protocol import EDCProtocol, EDCWarning, measured_kind
from .thresholds import PairSet


@dataclass(frozen=True)
class Keys:
    """What pairs and images leave in ascending order of: qualities, or (integers) their ranks among all of them.

    `doubles`: pairs, both of whose images have the pair's key; only for images that leave in random order.
    """

    mated: np.ndarray | None
    nonmated: np.ndarray | None
    images: np.ndarray | None = None
    mated_doubles: np.ndarray | None = None
    nonmated_doubles: np.ndarray | None = None

    def of(self, kind: str) -> np.ndarray:
        return self.mated if kind == "mated" else self.nonmated

    def doubles_of(self, kind: str) -> np.ndarray | None:
        return self.mated_doubles if kind == "mated" else self.nonmated_doubles


def equal_keys(data: PairSet, protocol: EDCProtocol) -> Keys:
    """One key for all pairs and images."""
    mated, nonmated = np.zeros(len(data.mated), np.int32), np.zeros(len(data.nonmated), np.int32)
    if protocol.discard != "images":
        return Keys(mated, nonmated)
    return Keys(mated, nonmated, np.zeros(int(data.occurring.sum()), np.int32), mated == 0, nonmated == 0)


def _missing(mask: np.ndarray, what: str, protocol: EDCProtocol) -> None:
    message = f"{mask.sum():,} of {len(mask):,} {what} have no quality (NaN)"
    if protocol.nan_quality == "raise":
        raise ValueError(f"{message}; score them, take them out, or let them leave first by nan_quality='lowest'.")
    warnings.warn(f"{message} and leave first.", EDCWarning, stacklevel=5)


def quality_keys(data: PairSet, qualities, protocol: EDCProtocol, ranks: bool = False) -> Keys:
    """`ranks`: the keys must be integers. They are where more than the measured pairs must be put in order."""
    kinds = [measured_kind(protocol)]
    if protocol.discard == "all" or protocol.threshold_update == "recomputed":
        kinds = ["mated", "nonmated"]
    by_image = data.pairs is not None and protocol.pair_quality != "given"
    if protocol.pair_quality == "given" or by_image:
        values = np.asarray(qualities, dtype=np.float64)
        if values.ndim != 1 or (not by_image and len(values) != data.count):
            wanted = "one for each image" if by_image else f"one for each of the {data.count} pairs"
            raise ValueError(f"qualities must be {wanted}, not of shape {values.shape}.")
        if by_image and len(values) < len(data.occurring):
            raise ValueError(f"pairs has position {len(data.occurring) - 1}, and there are {len(values)} qualities.")
    else:
        if not isinstance(qualities, (tuple, list)) or len(qualities) != 2:
            raise ValueError("qualities must be two arrays, of the first and the second images; or give pairs.")
        values = tuple(np.asarray(side, dtype=np.float64) for side in qualities)
        if any(side.shape != (data.count,) for side in values):
            raise ValueError(
                f"qualities must be two arrays of shape {(data.count,)}, not {[v.shape for v in values]}."
            )

    if by_image and protocol.pair_quality == "min":
        return _image_ranks(data, values, kinds, protocol)

    keys = {}
    for kind in kinds:
        at = data.mated_at if kind == "mated" else data.nonmated_at
        if protocol.pair_quality == "given":
            quality = values[at]
        elif by_image:
            first, second = data.ends(kind)
            quality = _combine(values[first], values[second], protocol.pair_quality)
        else:
            quality = _combine(values[0][at], values[1][at], protocol.pair_quality)
        missing = np.isnan(quality)
        if missing.any():
            _missing(missing, "pairs", protocol)
            quality[missing] = -np.inf
        keys[kind] = quality
    if ranks or len(kinds) > 1:
        _, inverse = np.unique(np.concatenate([keys[kind] for kind in kinds]), return_inverse=True)
        parts = np.split(inverse.astype(np.int32), [len(keys[kinds[0]])])
        keys = dict(zip(kinds, parts, strict=False))
    return Keys(keys.get("mated"), keys.get("nonmated"))


def _combine(first: np.ndarray, second: np.ndarray, rule: str) -> np.ndarray:
    if rule == "min":
        return np.minimum(first, second)
    if rule == "mean":
        return (first + second) / 2
    if (first < 0).any() or (second < 0).any():
        raise ValueError(
            "pair_quality 'product' needs qualities of at least 0: two negative ones have a high product."
        )
    return first * second


def _image_ranks(data: PairSet, qualities: np.ndarray, kinds: list[str], protocol: EDCProtocol) -> Keys:
    """A pair's rank is the lower of its images': a minimum of two integers out of a short table, and no sort."""
    qualities = qualities[: len(data.occurring)]
    missing = np.isnan(qualities)
    if (missing & data.occurring).any():
        _missing(missing[data.occurring], "images", protocol)
    if missing.any():
        qualities = np.where(missing, -np.inf, qualities)
    ranks = np.unique(qualities, return_inverse=True)[1].astype(np.int32)
    keys, doubles = {}, {}
    for kind in kinds:
        first, second = (ranks[end] for end in data.ends(kind))
        keys[kind] = np.minimum(first, second)
        if protocol.discard == "images" and protocol.ties == "random":
            doubles[kind] = first == second
    images = ranks[data.occurring] if protocol.discard == "images" else None
    return Keys(keys.get("mated"), keys.get("nonmated"), images, doubles.get("mated"), doubles.get("nonmated"))
