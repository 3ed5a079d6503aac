# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Areas below a curve, and the best curve that there could be."""

from __future__ import annotations

import math

import numpy as np

from .curves import grid_of, running_sum
from .protocol import EDCProtocol, measured_kind
from .thresholds import PairSet


def area_below(fractions, rates, limit: float, interpolation: str) -> float:
    """Area under a curve from 0 to `limit`; past its last point a curve stays as it is."""
    inside = np.searchsorted(fractions, limit, side="left")
    x = np.append(fractions[:inside], limit)
    if interpolation == "step":
        return float(rates[:inside] @ np.diff(x))
    y = np.append(rates[:inside], np.interp(limit, fractions, rates))
    return float(np.diff(x) @ (y[1:] + y[:-1]) / 2)


def paucs_of(fractions, rates, protocol: EDCProtocol, start: float) -> dict[float, float]:
    """Areas by limit, divided as the protocol says."""
    areas = {limit: area_below(fractions, rates, limit, protocol.interpolation) for limit in protocol.limits}
    return {limit: divided(area, limit, start, protocol) for limit, area in areas.items()}


def divided(area: float, limit: float, start: float, protocol: EDCProtocol) -> float:
    if protocol.divide_by_limit:
        area /= limit
    if protocol.divide_by_start:
        area = area / start if start > 0 else math.nan
    return area


def best_curve(data: PairSet, protocol: EDCProtocol, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The curve below which no quality can come.

    Where pairs leave, the best that d discarded ones can be is d errors: (E - d) / (P - d) for E errors in P pairs.
    A recomputed threshold falls as well with each of the highest non-mated scores that leaves; of d pairs the best
    split between these and the errors is taken at each point by itself, so this is a bound that no single order need
    reach. Where images leave, d of them take no more errors with them than the d images with most errors have, each
    error counted twice: a bound again.
    """
    kind = measured_kind(protocol)
    scores = data.mated if kind == "mated" else data.nonmated
    wrong = scores < threshold if kind == "mated" else scores >= threshold
    pairs, errors = len(scores), int(wrong.sum())
    if protocol.discard == "images":
        total = int(data.occurring.sum())
        removable = _most_removed(data, kind, wrong)
    else:
        total = len(scores) if protocol.discard == kind else data.count
        removable = np.arange(errors + 1)
    if protocol.step is None:
        units = np.arange(min(len(removable), math.ceil(max(protocol.limits) * total) + 1))
        fractions = units / total
    else:
        fractions, units = grid_of(total, protocol)
        units = units.astype(int)
    removed = np.minimum(removable[np.minimum(units, len(removable) - 1)], errors)
    if protocol.threshold_update == "fixed":
        return fractions, (errors - removed) / np.maximum(pairs - removed, 1)

    mated = np.sort(data.mated)
    reach = _most_removed(data, "nonmated", slice(None)) if protocol.discard == "images" else None
    rates = np.zeros(len(units))
    for point, (unit, take) in enumerate(zip(units, removed, strict=True)):
        if take >= errors:
            break
        if reach is None:
            highest = np.arange(min(unit, len(data.nonmated) - 1) + 1)
            take = unit - highest
        else:
            highest = np.array([min(reach[min(unit, len(reach) - 1)], len(data.nonmated) - 1)])
        rejected = np.searchsorted(mated, _highest_rejected(data.nonmated, highest, protocol), side="right")
        take = np.minimum(take, rejected)
        rates[point] = np.min((rejected - take) / np.maximum(pairs - take, 1))
        if rates[point] == 0:
            break
    return fractions, rates


def _most_removed(data: PairSet, kind: str, which) -> np.ndarray:
    """[d]: the most pairs of `which` that d images can have, d = 0, 1, ... up to all of the pairs."""
    degrees = sum(np.bincount(end[which], minlength=len(data.occurring)) for end in data.ends(kind))
    removed = running_sum(np.sort(degrees)[::-1])
    everything = removed[-1] // 2
    return np.minimum(removed, everything)[: np.searchsorted(removed, everything) + 1]


def _highest_rejected(descending: np.ndarray, removed: np.ndarray, protocol: EDCProtocol) -> np.ndarray:
    """The score below the threshold that is set when the `removed` highest non-mated ones are gone: mated pairs at or
    below it are rejected."""
    left = len(descending) - removed
    if protocol.fmr_rule != "nearest":
        accepted = np.floor(protocol.fmr * (left - (protocol.fmr_rule == "index")) + 1e-9).astype(int)
        return descending[np.minimum(removed + np.maximum(accepted, 0), len(descending) - 1)]
    ascending = descending[::-1]
    score = descending[np.minimum(removed + np.floor(protocol.fmr * left).astype(int), len(descending) - 1)]
    below = np.maximum(len(ascending) - np.searchsorted(ascending, score, side="right") - removed, 0)
    after = len(ascending) - np.searchsorted(ascending, score, side="left")
    lower = np.append(descending, -np.inf)[after]
    nearer = np.abs((after - removed) / left - protocol.fmr) <= np.abs(below / left - protocol.fmr)
    return np.where(nearer, lower, score)
