# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Scored comparisons, and the threshold on them by each rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .protocol import EDCProtocol


@dataclass(frozen=True)
class Weights:
    """How often each mated pair, non-mated pair and image counts (bootstrap), in the order of `PairSet`."""

    mated: np.ndarray
    nonmated: np.ndarray
    images: np.ndarray | None

    def of(self, kind: str) -> np.ndarray:
        return self.mated if kind == "mated" else self.nonmated


class PairSet:
    """Similarities parted into mated and non-mated ones; with `descending`, the latter in descending order."""

    def __init__(self, similarities, mated, pairs, protocol, descending=False, needs_measured=True):
        similarities = np.asarray(similarities)
        if similarities.dtype != np.float32:  # float32 stays: half the memory, and no score changes its rank
            similarities = similarities.astype(np.float64, copy=False)
        if similarities.ndim != 1:
            raise ValueError(f"similarities must have one dimension, not shape {similarities.shape}.")
        if not np.isfinite(similarities).all():
            raise ValueError(f"{np.sum(~np.isfinite(similarities))} similarities are NaN or infinite.")
        flags = np.asarray(mated)
        if flags.shape != similarities.shape:
            raise ValueError(f"mated has shape {flags.shape} and similarities {similarities.shape}.")
        if flags.dtype != bool:
            if not ((flags == 0) | (flags == 1)).all():
                raise ValueError("mated must be True and False, or 1 and 0.")
            flags = flags.astype(bool)
        self.count = len(similarities)
        self.mated_at = np.flatnonzero(flags)
        self.nonmated_at = np.flatnonzero(~flags)
        self.mated, self.nonmated = similarities[self.mated_at], similarities[self.nonmated_at]
        if descending:
            order = np.argsort(self.nonmated)[::-1]
            self.nonmated_at, self.nonmated = self.nonmated_at[order], self.nonmated[order]
        if needs_measured and not len(self.mated if protocol.error == "fnmr" else self.nonmated):
            kind = "mated" if protocol.error == "fnmr" else "non-mated"
            raise ValueError(f"There is no {kind} pair, so no {protocol.error.upper()}.")

        self.pairs = None if pairs is None else np.asarray(pairs)
        if self.pairs is not None:
            if self.pairs.shape != (self.count, 2) or self.pairs.dtype.kind not in "iu":
                raise ValueError(
                    f"pairs must be {(self.count, 2)} integers, not {self.pairs.shape} {self.pairs.dtype}."
                )
            if self.count and self.pairs.min() < 0:
                raise ValueError("pairs has a negative position.")
            selfs = np.flatnonzero(self.pairs[:, 0] == self.pairs[:, 1])
            if len(selfs):
                raise ValueError(f"{len(selfs)} pairs compare an image with itself, the first is number {selfs[0]}.")
        elif protocol.discard == "images":
            raise ValueError("Discarding images needs pairs: which two images each comparison is of.")
        self._ends = {}
        self._occurring = self._mated_in_order = None

    def ends(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """First and second image of each pair of a kind, as int32."""
        if kind not in self._ends:
            at = self.mated_at if kind == "mated" else self.nonmated_at
            self._ends[kind] = tuple(self.pairs[:, side][at].astype(np.int32) for side in (0, 1))
        return self._ends[kind]

    @property
    def occurring(self) -> np.ndarray:
        """(largest position + 1,) bool: the images that occur in a pair."""
        if self._occurring is None:
            self._occurring = np.zeros(int(self.pairs.max()) + 1, bool)
            self._occurring[self.pairs[:, 0]] = True
            self._occurring[self.pairs[:, 1]] = True
        return self._occurring

    @property
    def mated_in_order(self) -> tuple[np.ndarray, np.ndarray]:
        """Ascending mated scores, and the position of each among them as they are."""
        if self._mated_in_order is None:
            order = np.argsort(self.mated, kind="stable")
            self._mated_in_order = self.mated[order], order
        return self._mated_in_order

    def check_measurable(self, fmr: float) -> None:
        needed = math.ceil(1 / fmr - 1e-9)
        if len(self.nonmated) < needed:
            raise ValueError(
                f"An FMR of {fmr:g} needs at least {needed:,} non-mated pairs, and there are {len(self.nonmated):,}."
            )

    def threshold(self, protocol: EDCProtocol, weights: Weights | None = None) -> float:
        """The threshold on all pairs. With weights the non-mated ones must be in descending order."""
        if protocol.threshold is not None:
            return float(self.mated.dtype.type(protocol.threshold))
        if protocol.starting_fnmr is not None:
            if not len(self.mated):
                raise ValueError("starting_fnmr needs mated pairs.")
            scores = self.mated if weights is None else np.repeat(self.mated, weights.mated)
            return float(np.quantile(scores, protocol.starting_fnmr))
        if protocol.fmr_rule == "quantile":
            scores = self.nonmated if weights is None else np.repeat(self.nonmated, weights.nonmated)
            return float(np.quantile(scores, 1 - protocol.target_fmr))
        if weights is not None:
            total = weights.nonmated.sum()
            needed = protocol.target_fmr * total
            scores, sums = leading_scores(self.nonmated, lambda size: weights.nonmated[:size], needed)
            return rank_threshold(scores, sums, total, self.mated[weights.mated > 0], protocol)
        total = len(self.nonmated)
        if protocol.fmr_rule == "nearest":
            descending = np.sort(self.nonmated)[::-1]
            scores, sums = leading_scores(descending, np.ones, protocol.target_fmr * total)
            return rank_threshold(scores, sums, total, self.mated, protocol)
        accepted = accepted_pairs(total, protocol)
        return just_above(np.partition(self.nonmated, total - 1 - accepted)[total - 1 - accepted])


def just_above(score: np.floating) -> float:
    return float(np.nextafter(score, score.dtype.type(np.inf)))


def accepted_pairs(total: float, protocol: EDCProtocol) -> int:
    """How many of `total` non-mated pairs may match, by the rules that go by rank."""
    # 1e-9: a product such as .001 * 3000 is meant to be whole.
    return max(0, math.floor(protocol.target_fmr * (total - (protocol.fmr_rule == "index")) + 1e-9))


def leading_scores(
    descending: np.ndarray, weigh: Callable[[int], np.ndarray], needed: float
) -> tuple[np.ndarray, np.ndarray]:
    """The highest scores and the running sum of their weights, until it exceeds `needed` and a lower score follows.

    `weigh(size)` gives the weights of the first `size` scores. Scores without weight are left out.
    """
    size = 2 * int(needed) + 1024
    while True:
        size = min(size, len(descending))
        weights = weigh(size)
        kept = weights > 0
        scores, sums = descending[:size][kept], np.cumsum(weights)[kept]
        if size == len(descending):
            return scores, sums
        if len(sums) and sums[-1] > needed and scores[-1] < scores[np.searchsorted(sums, needed, side="right")]:
            return scores, sums
        size *= 4


def rank_threshold(
    scores: np.ndarray, sums: np.ndarray, total: float, mated: np.ndarray, protocol: EDCProtocol
) -> float:
    """The threshold by rank. `scores`, `sums`: what `leading` gives, of pairs that weigh `total` together."""
    if not len(scores):
        return -math.inf
    if protocol.fmr_rule != "nearest":
        position = np.searchsorted(sums, accepted_pairs(total, protocol) + 1e-9, side="right")
        return just_above(scores[position]) if position < len(scores) else -math.inf

    # The FMR jumps over the target at one of the scores: from `below`, its value above that score, to `at`.
    fmr = protocol.target_fmr
    position = min(np.searchsorted(sums, fmr * total, side="right"), len(scores) - 1)
    score = scores[position]
    first = len(scores) - np.searchsorted(scores[::-1], score, side="right")
    after = len(scores) - np.searchsorted(scores[::-1], score, side="left")
    below, at = (sums[first - 1] if first else 0), sums[after - 1]
    occurs = below > 0 or (mated > score).any()
    if not occurs or abs(at / total - fmr) <= abs(below / total - fmr):
        lower, own = (scores[after] if after < len(scores) else -math.inf), score
    else:
        lower, own = score, (scores[first - 1] if first else scores.dtype.type(np.inf))
    return just_above(np.min(mated[mated > lower], initial=own))


def fmr_threshold(nonmated: ArrayLike, fmr: float, rule: str = "at_most") -> float:
    """The similarity threshold of a false match rate; pairs at or above it match.

    Args:
        nonmated: (n,) similarities of non-mated pairs, n of at least `1 / fmr`.
        fmr: False match rate in (0, 1).
        rule: `"at_most"`, `"index"` or `"quantile"`, as `fmr_rule` of [`EDCProtocol`].
    """
    if rule == "nearest":
        raise ValueError("fmr_rule 'nearest' chooses among mated scores as well; use edc_curve.")
    nonmated = np.asarray(nonmated)
    protocol = EDCProtocol(fmr=fmr, fmr_rule=rule)
    data = PairSet(nonmated, np.zeros(nonmated.shape, bool), None, protocol, needs_measured=False)
    data.check_measurable(fmr)
    return data.threshold(protocol)
