# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Errors at a recomputed threshold where units of equal quality leave in random order, of which a part has left.

Which of them stay changes the threshold, and the errors with it, so that the expectation is none of expected counts:
it is the mean over what can stay. Where that is `EXACT` sets of units or fewer, over all of them; elsewhere over
seeded draws, 2 to `EXACT`, the more of them the more hangs on the order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .protocol import EDCProtocol
from .qualities import Keys
from .thresholds import PairSet, Weights, accepted_pairs


EXACT = 256
_NUMBERS = 200_000  # random numbers at a point, beyond those of two draws


def mean_over_orders(
    data: PairSet,
    keys: Keys,
    protocol: EDCProtocol,
    weights: Weights | None,
    level: int,
    kept: int,
    nonmated: tuple[int, int],
    share: float,
) -> tuple[float, float]:
    """
    Errors and threshold.

    Args:
        level: The key of the units in question.
        kept: How many of them stay.
        nonmated: Non-mated pairs of higher keys, and of this one.
        share: Part of the units left that have this key.
    """
    units = (_Images if protocol.discard == "images" else _Pairs)(data, keys, weights, level, kept, nonmated[1])
    # How many of the highest non-mated scores are looked at: those left of them reach the rank but for rare draws.
    needed = protocol.target_fmr * sum(nonmated)
    target = needed + 8 * math.sqrt(needed) + 16
    while True:
        at, whole = _highest(data, keys, weights, level, target, units.expectation)
        places = units.look_at(at)
        # What hangs on the order: the part of those left that it is about, and less, the more pairs may match.
        draws = units.draw(share * min(1, 32 / max(needed, 1)), protocol.fmr_rule == "nearest")
        positions = np.concatenate([at[whole > 0], places])
        order = np.argsort(positions, kind="stable")
        fixed = np.broadcast_to(whole[whole > 0], (len(draws.left), np.count_nonzero(whole)))
        sums = np.cumsum(np.concatenate([fixed, draws.here], axis=1)[:, order], axis=1)
        total = nonmated[0] + draws.left
        everything = len(at) == len(data.nonmated)
        if everything or (len(order) and (sums[:, -1] > protocol.target_fmr * total).all()):
            break
        target *= 2

    ascending, rank = data.mated_in_order
    higher = (np.asarray(keys.mated) > level)[rank]
    higher = running(higher if weights is None else higher * weights.mated[rank])
    thresholds = _thresholds(data.nonmated[positions[order]], sums, total, protocol, ascending, higher, units, draws)
    wrong = np.searchsorted(ascending, thresholds, side="left")
    own = np.searchsorted(units.mated, thresholds, side="left")
    if draws.mated is None:
        stay = (kept - draws.left) / max(len(units.mated), 1)
        errors = higher[wrong] + own * stay
    else:
        errors = higher[wrong] + (draws.mated * (np.arange(len(units.mated)) < own[:, None])).sum(1)
    return float(errors.mean()), float(thresholds.mean())


def running(counts: np.ndarray) -> np.ndarray:
    """[k]: the sum of the first k counts."""
    return np.concatenate([[0], np.cumsum(counts)])


def _highest(data, keys, weights, level, target, expectation) -> tuple[np.ndarray, np.ndarray]:
    """
    Positions of the highest non-mated scores, of which more than `target` are left in expectation, down to the last
    one of equal ones; and how often each of them that has a higher key counts.
    """
    size = 2 * int(target) + 64
    while True:
        size = min(size, len(data.nonmated))
        key = keys.nonmated[:size]
        own = 1 if weights is None else weights.nonmated[:size].astype(np.int64)
        whole = (key > level) * own
        sums = np.cumsum(whole + expectation * (key == level) * own)
        end = int(np.searchsorted(sums, target, side="right"))
        if end < size:
            scores = data.nonmated[:size]
            end = size - int(np.searchsorted(scores[::-1], scores[end], side="left"))
        if end < size or size == len(data.nonmated):
            return np.arange(min(end, size)), np.broadcast_to(whole, (size,))[:end]
        size *= 4


def _thresholds(scores, sums, total, protocol, ascending, higher, units, draws) -> np.ndarray:
    """
    (N,) thresholds of N draws. `scores`: descending non-mated ones; `sums`: (N, ...) how many of each draw are at and
    before each of them; see `rank_threshold`, which has the same rules for one.
    """
    if not len(scores):
        return np.full(len(total), -math.inf)
    rows = np.arange(len(total))
    infinite = scores.dtype.type(np.inf)
    padded = np.append(scores, -infinite)  # where nothing is reached
    if protocol.fmr_rule != "nearest":
        accepted = np.array([accepted_pairs(count, protocol) for count in total.tolist()])
        reached = sums > accepted[:, None]
        rejected = padded[np.where(reached.any(1), reached.argmax(1), len(scores))]
        return np.where(np.isfinite(rejected), np.nextafter(rejected, infinite), -infinite).astype(float)

    reached = sums > (protocol.target_fmr * total)[:, None]
    position = reached.argmax(1)
    if not (found := reached.any(1)).all():
        position = np.where(found, position, (sums == sums[:, -1:]).argmax(1))
    score = scores[position]
    first = len(scores) - np.searchsorted(scores[::-1], score, side="right")
    after = len(scores) - np.searchsorted(scores[::-1], score, side="left")
    before = np.where(first > 0, sums[rows, first - 1], 0)
    at = sums[rows, after - 1]
    above_own = (draws.mated * (units.mated > score[:, None])).sum(1)
    occurs = (before > 0) | (higher[-1] - higher[np.searchsorted(ascending, score, side="right")] + above_own > 0)
    rates = np.stack([at, before]) / np.maximum(total, 1)
    lower_one = ~occurs | (np.abs(rates[0] - protocol.fmr) <= np.abs(rates[1] - protocol.fmr))
    # The next score below, of those that are left, and the one above.
    beyond = sums > at[:, None]
    following = padded[np.where(beyond.any(1), beyond.argmax(1), len(scores))]
    preceding = np.where(before > 0, scores[(sums >= before[:, None]).argmax(1)], infinite)
    lower, own = np.where(lower_one, following, score), np.where(lower_one, score, preceding)
    # The lowest mated score above `lower` that is left.
    start = higher[np.searchsorted(ascending, lower, side="right")]
    place = np.searchsorted(higher, start, side="right") - 1  # of the first one that counts
    next_higher = np.append(ascending, infinite)[place]
    left = np.where((draws.mated > 0) & (units.mated > lower[:, None]), units.mated, infinite)
    rejected = np.minimum(np.minimum(next_higher, left.min(1, initial=infinite)), own)
    # Of whom nobody non-mated is left there is no threshold to set.
    return np.where(total > 0, np.nextafter(rejected, infinite), -infinite).astype(float)


@dataclass(frozen=True)
class _Draws:
    """
    N draws of who stays.

    Args:
        here (`np.ndarray` of shape `(N, c)`): How often each of the non-mated pairs that are looked at.
        left (`np.ndarray` of shape `(N,)`): How many non-mated pairs in all.
        mated (`np.ndarray` of shape `(N, a)`, *optional*): How often each mated one; `None` where only the expectation
            is needed, which is the same for each.
    """

    here: np.ndarray
    left: np.ndarray
    mated: np.ndarray | None


def _number(weight: float, numbers: int) -> int:
    # The variance of a draw goes with the weight, so that with these numbers that of their mean does not.
    return int(min(EXACT, max(2, math.ceil(4 * EXACT * weight)), max(2, _NUMBERS // max(numbers, 1))))


def _sets(count: int, kept: int) -> np.ndarray | None:
    """(N, count) all that can stay, where they are few."""
    if count > EXACT or math.comb(count, kept) > EXACT:
        return None
    chosen = np.array(list(combinations(range(count), kept)), dtype=int).reshape(-1, kept)
    flags = np.zeros((len(chosen), count), np.int64)
    np.put_along_axis(flags, chosen, 1, axis=1)
    return flags


def _chosen(rng: np.random.Generator, count: int, stay: np.ndarray) -> np.ndarray:
    """(N, count) of which `stay`, (N,), are 1."""
    order = rng.random((len(stay), count)).argsort(axis=1)
    flags = np.zeros((len(stay), count), np.int64)
    np.put_along_axis(flags, order, (np.arange(count) < stay[:, None]).astype(np.int64), axis=1)
    return flags


class _Pairs:
    """Pairs that leave one by one; `mated` are the ascending scores of the mated ones."""

    def __init__(self, data, keys, weights, level, kept, nonmated: int):
        own = None if weights is None else weights.mated
        here = keys.mated == level
        # In the order of their scores: the order in which pairs are given is no part of a draw.
        self.mated = np.sort(data.mated[here] if own is None else np.repeat(data.mated[here], own[here]))
        self.key, self.weights, self.level, self.kept, self.nonmated = keys.nonmated, weights, level, kept, nonmated
        self.count = len(self.mated) + nonmated
        self.expectation = kept / self.count
        self.seen = 0

    def look_at(self, at: np.ndarray) -> np.ndarray:
        """The positions, out of `at`, of those with the key, copies one by one."""
        here = at[self.key[at] == self.level]
        here = here if self.weights is None else np.repeat(here, self.weights.nonmated[here])
        self.seen = len(here)
        return here

    def draw(self, weight: float, with_mated: bool) -> _Draws:
        mated, seen = len(self.mated), self.seen
        if (sets := _sets(self.count, self.kept)) is not None:
            return _Draws(sets[:, mated : mated + seen], sets[:, mated:].sum(1), sets[:, :mated])
        rng = np.random.default_rng((self.count, self.kept))
        number = _number(weight, seen + mated * with_mated)
        left = rng.hypergeometric(self.nonmated, mated, self.kept, number)
        here = _chosen(rng, seen, rng.hypergeometric(seen, self.nonmated - seen, left))
        return _Draws(here, left, _chosen(rng, mated, self.kept - left) if with_mated else None)


class _Images:
    """
    Images that leave one by one, and their pairs with them. Copies of a person's images (bootstrap) are images of
    their own: pairs of one person are within a copy, others between all copies.
    """

    def __init__(self, data, keys, weights, level, kept, nonmated: int):
        images = np.flatnonzero(data.occurring)
        self.times = np.zeros(len(data.occurring), np.int64)
        self.times[images] = 1 if weights is None else weights.images
        here = images[keys.images == level]
        self.slot = np.full(len(data.occurring), -1)
        self.slot[here] = np.arange(len(here))
        self.copies = self.times[here]
        self.count, self.kept = int(self.copies.sum()), kept
        self.expectation = (kept / self.count) ** 2  # of a pair both of whose images have the key; more of others
        mated = np.flatnonzero(keys.mated == level)
        mated = mated[np.argsort(data.mated[mated], kind="stable")]
        self.mated, self.mated_ends = data.mated[mated], [end[mated] for end in data.ends("mated")]
        self.nonmated = np.flatnonzero(keys.nonmated == level)
        self.nonmated_ends = [end[self.nonmated] for end in data.ends("nonmated")]
        self.seen = 0

    def look_at(self, at: np.ndarray) -> np.ndarray:
        self.seen = int(np.searchsorted(self.nonmated, len(at)))
        return self.nonmated[: self.seen]

    def draw(self, weight: float, with_mated: bool) -> _Draws:
        sets = _sets(self.count, self.kept)
        if sets is None:
            rng = np.random.default_rng((self.count, self.kept))
            number = _number(weight, self.count + len(self.mated) + len(self.nonmated))
            sets = _chosen(rng, self.count, np.full(number, self.kept))
        here, left, mated = [], [], []
        copy = np.arange(max(self.times.max(), 1))
        within = copy < self.times[self.mated_ends[0]][:, None]
        for stay in sets:
            table = np.zeros((len(self.copies) + 1, len(copy)), bool)
            table[:-1][copy < self.copies[:, None]] = stay
            counts = table.sum(1)
            table[-1] = True  # of another key, and so left as a whole
            pairs = np.ones(len(self.nonmated), np.int64)
            for end in self.nonmated_ends:
                pairs *= np.where(self.slot[end] >= 0, counts[self.slot[end]], self.times[end])
            first, second = (table[self.slot[end]] for end in self.mated_ends)
            here.append(pairs[: self.seen])
            left.append(pairs.sum())
            mated.append((first & second & within).sum(1))
        return _Draws(np.array(here), np.array(left), np.array(mated))


__all__ = ["EXACT", "mean_over_orders"]
