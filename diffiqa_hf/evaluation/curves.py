# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Errors and pairs that are left at each fraction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .orders import mean_over_orders
from .protocol import EDCProtocol, measured_kind
from .thresholds import leading_scores, rank_threshold


@dataclass(frozen=True)
class Trace:
    fractions: np.ndarray
    errors: np.ndarray
    pairs: np.ndarray
    thresholds: np.ndarray
    end: float  # the fraction at which the last pair leaves
    nonmated: np.ndarray | None = None  # how many are left, where the threshold is recomputed


def trace_curve(data, keys, protocol, threshold, weights=None) -> Trace:
    if protocol.threshold_update == "recomputed":
        return _trace_recomputed(data, keys, protocol, weights)
    kind = measured_kind(protocol)
    errors = data.mated < threshold if kind == "mated" else data.nonmated >= threshold
    own = None if weights is None else weights.of(kind)
    levels = _Levels.count(keys, protocol, errors, own, weights)

    if protocol.step is None and protocol.ties == "together" and protocol.interpolation == "step":
        # One point for each level that has left: no search is needed.
        fractions = np.concatenate(([0], levels.end[:-1])) / levels.total
        left_pairs = levels.pairs_before[-1] - levels.pairs_before[:-1]
        left_errors = levels.errors_before[-1] - levels.errors_before[:-1]
    else:
        fractions, units = grid_of(levels.total, protocol, levels)
        left_pairs, left_errors = levels.left(units, protocol.ties == "random")
        some = left_pairs > 0
        fractions, left_pairs, left_errors = fractions[some], left_pairs[some], left_errors[some]
    thresholds = np.broadcast_to(threshold, fractions.shape)
    return Trace(fractions, left_errors, left_pairs, thresholds, float(levels.end[-1] / levels.total))


@dataclass(frozen=True)
class _Levels:
    """The distinct keys of the measured pairs in ascending order: how many units leave before each and up to it."""

    start: np.ndarray
    end: np.ndarray
    total: float
    pairs_before: np.ndarray  # one longer: the last is the sum
    errors_before: np.ndarray
    pair_doubles: np.ndarray | None
    error_doubles: np.ndarray | None

    @classmethod
    def count(cls, keys, protocol, errors, own, weights) -> _Levels:
        measured = measured_kind(protocol)
        key = keys.of(measured)
        if key.dtype.kind == "f":
            ordered = np.sort(key)
            changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
            pairs_before = np.concatenate(([0], changes, [len(ordered)]))
            values = ordered[pairs_before[:-1]]
            # Only the errors are looked up, so that the pairs need a sort and no argsort.
            errors_before = running_sum(
                np.bincount(np.searchsorted(values, np.sort(key[errors])), minlength=len(values))
            )
        else:
            size = int(key.max()) + 1
            pair_counts, error_counts = bincount(key, own, size), bincount(key, own, size, errors)
            values = np.flatnonzero(pair_counts)
            pairs_before, errors_before = running_sum(pair_counts[values]), running_sum(error_counts[values])

        if protocol.discard == measured:
            start, end = pairs_before[:-1], pairs_before[1:]
            total = pairs_before[-1]
        elif protocol.discard == "all":
            other = "nonmated" if measured == "mated" else "mated"
            others = running_sum(
                bincount(keys.of(other), None if weights is None else weights.of(other), values[-1] + 1)
            )
            start, end = pairs_before[:-1] + others[values], pairs_before[1:] + others[values + 1]
            total = pairs_before[-1] + others[-1]
        else:
            images = running_sum(bincount(keys.images, None if weights is None else weights.images, values[-1] + 1))
            start, end, total = images[values], images[values + 1], images[-1]
        pair_doubles = error_doubles = None
        if keys.doubles_of(measured) is not None:
            doubles = keys.doubles_of(measured)
            pair_doubles = bincount(key, own, values[-1] + 1, doubles)[values]
            error_doubles = bincount(key, own, values[-1] + 1, doubles & errors)[values]
        return cls(start, end, total, pairs_before, errors_before, pair_doubles, error_doubles)

    def left(self, units: np.ndarray, random: bool) -> tuple[np.ndarray, np.ndarray]:
        """Pairs and errors that are left when `units` have been discarded; by expectation where `random`."""
        # The first level of which not all units fit: the ones before it have left.
        level = np.searchsorted(self.end, units, side="right")
        pairs = (self.pairs_before[-1] - self.pairs_before[level]).astype(float)
        errors = (self.errors_before[-1] - self.errors_before[level]).astype(float)
        if random:
            partly = np.flatnonzero(level < len(self.end))
            level, size = level[partly], (self.end - self.start)[level[partly]]
            gone = np.clip(units[partly] - self.start[level], 0, size)
            counts = ((pairs, self.pairs_before, self.pair_doubles), (errors, self.errors_before, self.error_doubles))
            for left, before, doubles in counts:
                here = np.diff(before)[level]
                left[partly] -= here * gone / size
                if doubles is not None:
                    left[partly] += doubles[level] * (_kept_double(gone, size) - (1 - gone / size))
        return pairs, errors


def running_sum(counts: np.ndarray) -> np.ndarray:
    """[k]: the sum of the first k counts."""
    before = np.zeros(len(counts) + 1, counts.dtype)
    np.cumsum(counts, out=before[1:])
    return before


def bincount(keys, weights, size, mask=None) -> np.ndarray:
    if mask is not None:
        keys, weights = keys[mask], None if weights is None else weights[mask]
    return np.bincount(keys, weights, minlength=int(size))


def _kept_double(gone: ArrayLike, size: ArrayLike) -> np.ndarray:
    """Probability that neither of two images is among the `gone` that are drawn out of `size`."""
    kept = np.asarray(size - gone, dtype=float)
    return np.maximum(kept * (kept - 1), 0) / np.maximum(size * (size - 1.0), 1)


def grid_of(total: float, protocol: EDCProtocol, levels: _Levels | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Discard fractions, and how many units have left at each."""
    if protocol.step is not None:
        # The nominal fractions, as the published scripts have them, though a whole number of units leaves.
        fractions = np.arange(math.ceil(1 / protocol.step - 1e-9)) * protocol.step
        return fractions, np.floor(fractions * total + 1e-9)
    if protocol.ties == "random" or levels is None:
        units = np.arange(int(total), dtype=float)
    else:
        # Where other units than the measured pairs leave between two levels, a line is flat before it falls.
        units = np.unique(np.concatenate(([0], levels.start, levels.end)))
        units = units[units < total]
    return units / total, units


def _trace_recomputed(data, keys, protocol, weights) -> Trace:
    size = int(max(part.max() for part in (keys.mated, keys.nonmated, keys.images) if part is not None)) + 1
    mated_weights, nonmated_weights, image_weights = (
        (None, None, None) if weights is None else (weights.mated, weights.nonmated, weights.images)
    )
    mated, nonmated = bincount(keys.mated, mated_weights, size), bincount(keys.nonmated, nonmated_weights, size)
    mated_doubles = nonmated_doubles = np.zeros(size)
    if keys.nonmated_doubles is not None:
        mated_doubles = bincount(keys.mated, mated_weights, size, keys.mated_doubles)
        nonmated_doubles = bincount(keys.nonmated, nonmated_weights, size, keys.nonmated_doubles)
    counts = bincount(keys.images, image_weights, size) if protocol.discard == "images" else mated + nonmated
    before = running_sum(counts)
    total = before[-1]

    if protocol.step is None and protocol.ties == "together":
        units = np.unique(before)[:-1]
        fractions = units / total
    else:
        fractions, units = grid_of(total, protocol)
    if weights is not None:
        # A replicate is an area alone: of the points past the last limit a line needs the first one.
        shown = np.searchsorted(fractions, max(protocol.limits)) + 1
        fractions, units = fractions[:shown], units[:shown]
    # The key at which not all units fit; those below it have left, of those at it a part (of random ones).
    key = np.searchsorted(before[1:], units, side="right")
    gone = np.minimum(units - before[key], counts[key]) if protocol.ties == "random" else np.zeros(len(key))
    single, double = 1 - gone / counts[key], _kept_double(gone, counts[key])

    def left_of(all_of, doubles_of):
        after = np.cumsum(all_of[::-1])[::-1] - all_of
        return after[key] + (all_of[key] - doubles_of[key]) * single + doubles_of[key] * double

    pairs, nonmated_left = left_of(mated, mated_doubles), left_of(nonmated, nonmated_doubles)
    some = (pairs > 0) & (nonmated_left > 0)
    end = len(some) if some.all() else int(np.argmin(some))
    errors, thresholds = np.zeros(end), np.zeros(end)
    higher = np.cumsum(nonmated[::-1])[::-1] - nonmated
    for at in range(end):
        level = key[at]
        if gone[at]:
            split = int(higher[level]), int(nonmated[level])
            kept, share = int(counts[level] - gone[at]), counts[level] / (total - before[level])
            errors[at], thresholds[at] = mean_over_orders(data, keys, protocol, weights, level, kept, split, share)
            continue

        def weigh_nonmated(size, level=level):
            kept = keys.nonmated[:size] >= level
            return kept if nonmated_weights is None else kept * nonmated_weights[:size]

        left = keys.mated >= level
        left = left if mated_weights is None else left * mated_weights
        scores, sums = leading_scores(data.nonmated, weigh_nonmated, protocol.target_fmr * nonmated_left[at])
        present = data.mated[left > 0] if protocol.fmr_rule == "nearest" else data.mated
        thresholds[at] = rank_threshold(scores, sums, nonmated_left[at], present, protocol)
        errors[at] = np.sum(left * (data.mated < thresholds[at]))
    last = float(fractions[end]) if end < len(fractions) else 1.0
    return Trace(fractions[:end], errors, pairs[:end], thresholds, last, nonmated_left[:end])
