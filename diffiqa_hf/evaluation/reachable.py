# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What an order of images could reach.

The floor is that of any order of the discarded pairs, and scores order images: the error that goes takes along the
other pairs of one of its images. Where images recur in many pairs, the best order of images stays well above the
floor. To find it is a knapsack problem; here are a bound from below and an order that was found.
"""

from __future__ import annotations

import numpy as np

from .areas import area_below
from .curves import running_sum, trace_curve
from .protocol import EDCProtocol, measured_kind
from .qualities import quality_keys
from .thresholds import PairSet


_ROUNDS = 4


def reachable_areas(
    data: PairSet, protocol: EDCProtocol, threshold: float, floor: dict[float, float]
) -> dict[float, tuple[float, float]] | None:
    """
    By limit, a lower and an upper bound of the least area that an order of images could have. `None` where the
    protocol or the input has no such order, the threshold changes with it, or each image is in one pair.

    Args:
        floor: Areas by limit below which no order of pairs comes.
    """
    kind = measured_kind(protocol)
    if data.pairs is None or protocol.pair_quality != "min" or protocol.threshold_update != "fixed":
        return None
    scores = data.mated if kind == "mated" else data.nonmated
    wrong = scores < threshold if kind == "mated" else scores >= threshold
    ends = data.ends(kind)
    size = len(data.occurring)
    errors = sum(np.bincount(end[wrong], minlength=size) for end in ends)
    if protocol.discard == "all":
        costs = sum(np.bincount(data.pairs[:, side], minlength=size) for side in (0, 1))
    else:
        costs = sum(np.bincount(end, minlength=size) for end in ends)
    if not wrong.any() or (costs <= 1).all():
        return None
    lower = floor
    if protocol.discard != "images" and protocol.interpolation == "step":
        total = len(scores) if protocol.discard == kind else data.count
        curve = _least_curve(errors, costs, int(wrong.sum()), len(scores), total)
        lower = {limit: max(area_below(*curve, limit, "step"), floor[limit]) for limit in protocol.limits}
    upper = dict.fromkeys(protocol.limits, np.inf)
    for qualities in _orders(ends, wrong, errors, np.ones(size, int) if protocol.discard == "images" else costs):
        trace = trace_curve(data, quality_keys(data, qualities, protocol), protocol, threshold)
        rates = trace.errors / trace.pairs
        for limit in protocol.limits:
            upper[limit] = min(upper[limit], area_below(trace.fractions, rates, limit, protocol.interpolation))
    return {limit: (float(lower[limit]), float(upper[limit])) for limit in protocol.limits}


def _least_curve(errors, costs, count: int, pairs: int, total: int) -> tuple[np.ndarray, np.ndarray]:
    """
    The lower bound, as a curve. Images with e errors or more between them (each counted at both of its ends) have
    some pairs without an error; at least half as many of those go as their ends are counted. The fewest ends for each
    e are those of the images with the most errors for each, the last of them in part.
    """
    some = np.flatnonzero(errors)
    order = some[np.argsort((costs[some] - errors[some]) / errors[some], kind="stable")]
    reached = running_sum(errors[order])
    others = running_sum(costs[order] - errors[order])
    removed = np.arange(1, count + 1)
    companions = np.ceil(np.interp(removed, reached, others) / 2 - 1e-9)
    units = np.maximum.accumulate(np.concatenate([[0], removed + companions]))
    left = np.append(count, count - removed)
    # Of what goes along without an error all may be of the other kind, where both leave.
    gone = np.concatenate([[0], removed + (companions if total == pairs else 0)])
    rates = np.minimum.accumulate(left / np.maximum(pairs - gone, 1))
    keep = np.append(np.diff(units) > 0, True)
    return units[keep] / total, rates[keep]


def _orders(ends, wrong, errors, costs):
    """Qualities of images: those with most errors for their pairs first, then by what is left for each to take."""
    size = len(errors)
    first, second = ends
    ratio = errors / np.maximum(costs, 1)
    for _ in range(_ROUNDS):
        # Of images alike the one with more errors first.
        rank = np.empty(size, int)
        rank[np.lexsort((-errors, -ratio))] = np.arange(size)
        yield rank.astype(float)
        taken_by = np.where(rank[first] < rank[second], first, second)
        own = np.bincount(taken_by[wrong], minlength=size)
        of = np.maximum(np.bincount(taken_by, minlength=size), 1)
        ratio = own / of


__all__ = ["reachable_areas"]
