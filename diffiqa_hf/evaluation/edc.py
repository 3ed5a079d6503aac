# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Error-versus-discard characteristic (EDC) and the partial area under it (pAUC), in NumPy alone.

An EDC says how an error rate of face recognition falls while the comparisons, or the images, of lowest quality are
discarded. Papers compute it by different rules, and their numbers are not comparable; here each rule is a field of
[`EDCProtocol`], and `PROTOCOLS` has the published ones by name.

Throughout, a pair *matches* where its similarity is at or above the threshold; a mated pair below it is a false
non-match, a non-mated pair at or above it a false match. Protocols that accept above a score only ("strictly") get the
next larger number as their threshold, which is the same decision.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


_CHOICES = {
    "error": ("fnmr", "fmr"),
    "fmr_rule": ("at_most", "index", "nearest", "quantile"),
    "threshold_update": ("fixed", "recomputed"),
    "discard": ("mated", "nonmated", "all", "images"),
    "pair_quality": ("min", "mean", "product", "given"),
    "ties": ("together", "random"),
    "interpolation": ("step", "linear"),
    "nan_quality": ("raise", "lowest"),
}


class EDCWarning(UserWarning):
    """A curve, or a number out of it, that exists but should not be read without care."""


@dataclass(frozen=True)
class EDCProtocol:
    """
    How an EDC is computed. Exactly one of `fmr`, `threshold` and `starting_fnmr` is set, the other two are `None`.

    Args:
        error (`str`): The error rate of the curve, `"fnmr"` or `"fmr"` (the latter with a fixed threshold only).
        fmr (`float`, *optional*): The threshold is that of this false match rate, by `fmr_rule`.
        threshold (`float`, *optional*): The threshold itself.
        starting_fnmr (`float`, *optional*): The threshold is this quantile of the mated similarities, so that the
            curve starts near this FNMR (Schlett et al.).
        fmr_rule (`str`): For n non-mated pairs, similarities in descending order s[0], s[1], ...:

            - `"at_most"`: the lowest threshold with a true FMR of at most `fmr`; just above s[floor(fmr n)].
            - `"index"`: just above s[floor(fmr (n - 1))], MagFace's `eval_quality.py`: n = 3000 has FMR 2/3000.
            - `"nearest"`: of the scores that occur, mated or not, the lowest of those whose FMR (scores at or above)
              is nearest `fmr`; pairs match above it only. CR-FIQA's `erc.py`.
            - `"quantile"`: the quantile 1 - `fmr` with linear interpolation.
        threshold_update (`str`): `"fixed"` on all pairs, or `"recomputed"` on those that are left at each fraction.
        discard (`str`): What leaves, and so what the fraction counts: `"mated"` pairs, `"nonmated"` pairs (where
            `error` is `"fmr"`), `"all"` pairs in one pool, or `"images"`, with which their pairs leave.
        pair_quality (`str`): Quality of a pair from those of its two images: `"min"`, `"mean"`, `"product"`; or
            `"given"` for each pair.
        ties (`str`): Equal qualities leave `"together"`, as soon as the fraction holds all of them; or in `"random"`
            order, where errors and pairs are their expectations over all orders. The expectation of the rate is exact
            where the number of pairs left is no matter of chance (`discard` is `"mated"` or `"nonmated"`) and the
            ratio of the two expectations elsewhere.
        step (`float`, *optional*): Grid of fractions 0, step, 2 step, ... below 1, at each of which
            floor(fraction * units) leave. `None`: every distinct quality.
        interpolation (`str`): Between the points of the curve, `"step"` (constant to the right) or `"linear"`.
        limits (`tuple[float, ...]`): Discard fractions in (0, 1] up to which the pAUC is taken.
        divide_by_start, divide_by_limit (`bool`): Divide the pAUC by the rate at fraction 0, and by the limit. With
            both, discarding at random has the expectation 1.
        nan_quality (`str`): `"raise"`, or `"lowest"`: who has no quality leaves first, with a warning.
    """

    error: str = "fnmr"
    fmr: float | None = 1e-3
    threshold: float | None = None
    starting_fnmr: float | None = None
    fmr_rule: str = "at_most"
    threshold_update: str = "fixed"
    discard: str = "mated"
    pair_quality: str = "min"
    ties: str = "together"
    step: float | None = None
    interpolation: str = "step"
    limits: tuple[float, ...] = (0.2, 0.3)
    divide_by_start: bool = True
    divide_by_limit: bool = True
    nan_quality: str = "raise"

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}.")
        if sum(value is not None for value in (self.fmr, self.threshold, self.starting_fnmr)) != 1:
            raise ValueError("Set exactly one of fmr, threshold and starting_fnmr, and the other two to None.")
        for name in ("fmr", "starting_fnmr"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {value}.")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"threshold must be a finite number, not {self.threshold}.")
        if self.step is not None and not 0 < self.step < 1:
            raise ValueError(f"step must lie between 0 and 1, not {self.step}.")
        object.__setattr__(self, "limits", tuple(float(limit) for limit in self.limits))
        if not self.limits or not all(0 < limit <= 1 for limit in self.limits):
            raise ValueError(f"limits must be discard fractions in (0, 1], not {self.limits}.")
        if self.step is not None and self.interpolation == "step" and min(self.limits) <= self.step:
            raise ValueError(
                f"A limit of {min(self.limits)} lies within the first step of {self.step}: it says nothing."
            )
        if self.discard in ("mated", "nonmated") and (self.discard == "mated") != (self.error == "fnmr"):
            raise ValueError(f"Discarding {self.discard} pairs alone never changes the {self.error.upper()}.")
        if self.discard == "images" and self.pair_quality != "min":
            raise ValueError("Where images are discarded, the quality of a pair is the min of its images'.")
        if self.threshold_update == "recomputed":
            if self.fmr is None or self.error == "fmr" or self.discard == "mated":
                raise ValueError("A recomputed threshold needs fmr, error='fnmr' and discard 'all' or 'images'.")
            if self.fmr_rule == "quantile":
                raise ValueError("fmr_rule 'quantile' is defined for a fixed threshold only.")

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> EDCProtocol:
        """The protocol `name` of `PROTOCOLS`, with some of its fields changed."""
        if name not in PROTOCOLS:
            raise ValueError(f"There is no protocol {name!r}; there are {', '.join(PROTOCOLS)}.")
        return replace(PROTOCOLS[name], **changes)


PROTOCOLS: dict[str, EDCProtocol] = {
    # Threshold of all non-mated pairs, exact steps: nothing depends on a grid or on the order of a sort.
    "default": EDCProtocol(),
    # DifFIQA (Babnik et al., 2023), whose evaluation code is not public; so reconstructed from their figures, which
    # have MagFace's script behind them. Their order of equal qualities is that of a sort; ours is all orders.
    "diffiqa": EDCProtocol(fmr_rule="index", threshold_update="recomputed", discard="all", ties="random", step=0.05),
    # Schlett et al. (2023), github.com/dasec/quality-assessment-evaluation.
    "schlett": EDCProtocol(fmr=None, starting_fnmr=0.05, divide_by_start=False, divide_by_limit=False),
    # CR-FIQA (Boutros et al., 2023), `ERC/erc.py`, whose area is a trapezoidal one over the whole grid.
    "cr-fiqa": EDCProtocol(
        fmr_rule="nearest",
        threshold_update="recomputed",
        discard="all",
        ties="random",
        step=0.05,
        interpolation="linear",
        limits=(0.95,),
        divide_by_start=False,
        divide_by_limit=False,
    ),
}


@dataclass(frozen=True)
class EDCResult:
    """
    A curve of K points and what is read off it. The rate is the FNMR or the FMR, as `protocol.error` says.

    Args:
        protocol (`EDCProtocol`): How it was computed.
        fractions (`np.ndarray` of shape `(K,)`): Discard fractions, ascending from 0.
        rates (`np.ndarray` of shape `(K,)`): Error rate of what is left, `error_counts / pair_counts`. The curve ends
            where no pair is left that could be in error.
        error_counts, pair_counts (`np.ndarray` of shape `(K,)`): Errors, and mated (for the FMR: non-mated) pairs,
            left at each point; whole numbers unless `ties` is `"random"`.
        thresholds (`np.ndarray` of shape `(K,)`): Similarity threshold at each point.
        threshold (`float`): The one at fraction 0.
        fnmr, fmr (`float`): Both rates that this threshold has on all pairs; NaN where there are no such pairs.
        mated, nonmated, false_non_matches, false_matches (`int`): The counts behind the two.
        pauc (`dict[float, float]`): pAUC by limit, lower is better; NaN where it is divided by a starting rate of 0.
        floor (`dict[float, float]`): The least pAUC that any quality could have under this protocol.
        share (`dict[float, float]`): (1 - pAUC) / (1 - floor) of the pAUC divided by starting rate and limit, whatever
            the protocol divides by: the part reached of the gain that could be reached. 0 is as good as random, 1
            perfect, below 0 worse than random.
        best_fractions, best_rates (`np.ndarray`): The curve whose area `floor` is.
    """

    protocol: EDCProtocol
    fractions: np.ndarray
    rates: np.ndarray
    error_counts: np.ndarray
    pair_counts: np.ndarray
    thresholds: np.ndarray
    threshold: float
    fnmr: float
    fmr: float
    mated: int
    nonmated: int
    false_non_matches: int
    false_matches: int
    pauc: dict[float, float]
    floor: dict[float, float]
    share: dict[float, float]
    best_fractions: np.ndarray
    best_rates: np.ndarray

    def at(self, fractions: ArrayLike) -> np.ndarray:
        """The rate at `fractions` in [0, 1], of any shape, between the points as the protocol interpolates."""
        fractions = np.asarray(fractions, dtype=float)
        if self.protocol.interpolation == "linear":
            return np.interp(fractions, self.fractions, self.rates)
        return self.rates[np.searchsorted(self.fractions, fractions, side="right") - 1]

    def summary(self) -> dict[str, Any]:
        """All but the curve, in plain Python numbers, as for JSON."""
        names = ("threshold", "fnmr", "fmr", "mated", "nonmated", "false_non_matches", "false_matches")
        return {name: getattr(self, name) for name in (*names, "pauc", "floor", "share")}


def edc_curve(
    similarities: ArrayLike,
    mated: ArrayLike,
    qualities: ArrayLike | tuple[ArrayLike, ArrayLike],
    protocol: str | EDCProtocol = "default",
    *,
    pairs: ArrayLike | None = None,
) -> EDCResult:
    """Error-versus-discard curve of one quality method.

    Args:
        similarities: (N,) comparison scores, higher is more alike. Of dissimilarities, give the negative.
        mated: (N,) bool, or 0 and 1: whether the two images show one person.
        qualities: Higher is better. Either (I,) qualities of images, with `pairs`; or two arrays (N,), those of the
            first and of the second image of each pair; or, where the protocol's `pair_quality` is `"given"`, (N,).
        protocol: A name out of `PROTOCOLS`, or a protocol.
        pairs: (N, 2) integers, the two images of each pair as positions in `qualities`. Images without a pair count
            for nothing.

    Raises:
        ValueError: Arrays of wrong shape or kind; a similarity that is not finite; a NaN quality, unless the protocol
            has a rule for it; no pair of a kind that is needed, or fewer non-mated pairs than `1 / fmr`.

    Warns:
        EDCWarning: The starting rate is 0, so that the normalised pAUC is NaN; a limit is so low, or so much is wrong,
            that no quality could lower the rate; within a limit no pair is left, or fewer non-mated pairs than
            `1 / fmr`; qualities are missing and count as the lowest.

    Example:

    ```python
    >>> result = edc_curve([0.9, 0.2, 0.8, 0.7], [1, 1, 1, 1], ([5, 1, 3, 4], [6, 9, 3, 4]),
    ...                    EDCProtocol(fmr=None, threshold=0.5, limits=(0.5,)))
    >>> result.fractions, result.rates
    (array([0.  , 0.25, 0.5 , 0.75]), array([0.25, 0.  , 0.  , 0.  ]))
    >>> result.pauc, result.floor, result.share
    ({0.5: 0.5}, {0.5: 0.5}, {0.5: 1.0})

    ```
    """
    return edc_curves(similarities, mated, {"quality": qualities}, protocol, pairs=pairs)["quality"]


def edc_curves(
    similarities: ArrayLike,
    mated: ArrayLike,
    qualities: Mapping[str, ArrayLike | tuple[ArrayLike, ArrayLike]],
    protocol: str | EDCProtocol = "default",
    *,
    pairs: ArrayLike | None = None,
) -> dict[str, EDCResult]:
    """Curves of several quality methods on the same pairs, for which threshold, sort and floor are found once.

    Args:
        qualities: By the name of the method, as in [`edc_curve`], which see for the rest.
    """
    if isinstance(protocol, str):
        protocol = EDCProtocol.from_preset(protocol)
    data = _Comparisons(similarities, mated, pairs, protocol, descending=protocol.threshold_update == "recomputed")
    if protocol.fmr is not None:
        data.check_measurable(protocol.fmr)
    threshold = data.threshold(protocol)
    best = _best_curve(data, protocol, threshold)
    results = {}
    for name, values in qualities.items():
        keys = _quality_keys(data, values, protocol)
        results[name] = _result(data, protocol, threshold, _trace(data, keys, protocol, threshold), best)
    return results


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
    data = _Comparisons(nonmated, np.zeros(nonmated.shape, bool), None, protocol, needs_measured=False)
    data.check_measurable(fmr)
    return data.threshold(protocol)


# ---------------------------------------------------------------------------------------------------------------------
# The comparisons, and the threshold on them


@dataclass(frozen=True)
class _Weights:
    """How often each mated pair, non-mated pair and image counts (bootstrap), in the order of `_Comparisons`."""

    mated: np.ndarray
    nonmated: np.ndarray
    images: np.ndarray | None

    def of(self, kind: str) -> np.ndarray:
        return self.mated if kind == "mated" else self.nonmated


class _Comparisons:
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
        self._occurring = None

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

    def check_measurable(self, fmr: float) -> None:
        needed = math.ceil(1 / fmr - 1e-9)
        if len(self.nonmated) < needed:
            raise ValueError(
                f"An FMR of {fmr:g} needs at least {needed:,} non-mated pairs, and there are {len(self.nonmated):,}."
            )

    def threshold(self, protocol: EDCProtocol, weights: _Weights | None = None) -> float:
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
            return float(np.quantile(scores, 1 - protocol.fmr))
        if weights is not None:
            total = weights.nonmated.sum()
            leading = _leading(self.nonmated, lambda size: weights.nonmated[:size], protocol.fmr * total)
            return _threshold(*leading, total, self.mated[weights.mated > 0], protocol)
        total = len(self.nonmated)
        if protocol.fmr_rule == "nearest":
            descending = np.sort(self.nonmated)[::-1]
            return _threshold(*_leading(descending, np.ones, protocol.fmr * total), total, self.mated, protocol)
        accepted = _accepted(total, protocol)
        return _above(np.partition(self.nonmated, total - 1 - accepted)[total - 1 - accepted])


def _above(score: np.floating) -> float:
    return float(np.nextafter(score, score.dtype.type(np.inf)))


def _accepted(total: float, protocol: EDCProtocol) -> int:
    """How many of `total` non-mated pairs may match, by the rules that go by rank."""
    # 1e-9: a product such as .001 * 3000 is meant to be whole.
    return max(0, math.floor(protocol.fmr * (total - (protocol.fmr_rule == "index")) + 1e-9))


def _leading(descending, weigh, needed):
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


def _threshold(scores, sums, total, mated, protocol) -> float:
    """The threshold by rank. `scores`, `sums`: what `_leading` gives, of pairs that weigh `total` together."""
    if not len(scores):
        return -math.inf
    if protocol.fmr_rule != "nearest":
        position = np.searchsorted(sums, _accepted(total, protocol) + 1e-9, side="right")
        return _above(scores[position]) if position < len(scores) else -math.inf

    # The FMR jumps over the target at one of the scores: from `below`, its value above that score, to `at`.
    position = min(np.searchsorted(sums, protocol.fmr * total, side="right"), len(scores) - 1)
    score = scores[position]
    first = len(scores) - np.searchsorted(scores[::-1], score, side="right")
    after = len(scores) - np.searchsorted(scores[::-1], score, side="left")
    below, at = (sums[first - 1] if first else 0), sums[after - 1]
    occurs = below > 0 or (mated > score).any()
    if not occurs or abs(at / total - protocol.fmr) <= abs(below / total - protocol.fmr):
        lower, own = (scores[after] if after < len(scores) else -math.inf), score
    else:
        lower, own = score, (scores[first - 1] if first else scores.dtype.type(np.inf))
    return _above(np.min(mated[mated > lower], initial=own))


# ---------------------------------------------------------------------------------------------------------------------
# The qualities


@dataclass(frozen=True)
class _Keys:
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


def _measured(protocol: EDCProtocol) -> str:
    return "mated" if protocol.error == "fnmr" else "nonmated"


def _missing(mask: np.ndarray, what: str, protocol: EDCProtocol) -> None:
    message = f"{mask.sum():,} of {len(mask):,} {what} have no quality (NaN)"
    if protocol.nan_quality == "raise":
        raise ValueError(f"{message}; score them, take them out, or let them leave first by nan_quality='lowest'.")
    warnings.warn(f"{message} and leave first.", EDCWarning, stacklevel=5)


def _quality_keys(data: _Comparisons, qualities, protocol: EDCProtocol, ranks: bool = False) -> _Keys:
    """`ranks`: the keys must be integers. They are where more than the measured pairs must be put in order."""
    kinds = [_measured(protocol)]
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
    return _Keys(keys.get("mated"), keys.get("nonmated"))


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


def _image_ranks(data: _Comparisons, qualities: np.ndarray, kinds: list[str], protocol: EDCProtocol) -> _Keys:
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
    return _Keys(keys.get("mated"), keys.get("nonmated"), images, doubles.get("mated"), doubles.get("nonmated"))


# ---------------------------------------------------------------------------------------------------------------------
# The curve


@dataclass(frozen=True)
class _Trace:
    fractions: np.ndarray
    errors: np.ndarray
    pairs: np.ndarray
    thresholds: np.ndarray
    end: float  # the fraction at which the last pair leaves
    nonmated: np.ndarray | None = None  # how many are left, where the threshold is recomputed


def _trace(data, keys, protocol, threshold, weights=None) -> _Trace:
    if protocol.threshold_update == "recomputed":
        return _trace_recomputed(data, keys, protocol, weights)
    kind = _measured(protocol)
    errors = data.mated < threshold if kind == "mated" else data.nonmated >= threshold
    own = None if weights is None else weights.of(kind)
    levels = _Levels.count(keys, protocol, errors, own, weights)

    if protocol.step is None and protocol.ties == "together" and protocol.interpolation == "step":
        # One point for each level that has left: no search is needed.
        fractions = np.concatenate(([0], levels.end[:-1])) / levels.total
        left_pairs = levels.pairs_before[-1] - levels.pairs_before[:-1]
        left_errors = levels.errors_before[-1] - levels.errors_before[:-1]
    else:
        fractions, units = _grid(levels.total, protocol, levels)
        left_pairs, left_errors = levels.left(units, protocol.ties == "random")
        some = left_pairs > 0
        fractions, left_pairs, left_errors = fractions[some], left_pairs[some], left_errors[some]
    thresholds = np.broadcast_to(threshold, fractions.shape)
    return _Trace(fractions, left_errors, left_pairs, thresholds, float(levels.end[-1] / levels.total))


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
        measured = _measured(protocol)
        key = keys.of(measured)
        if key.dtype.kind == "f":
            ordered = np.sort(key)
            changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
            pairs_before = np.concatenate(([0], changes, [len(ordered)]))
            values = ordered[pairs_before[:-1]]
            # Only the errors are looked up, so that the pairs need a sort and no argsort.
            errors_before = _before(np.bincount(np.searchsorted(values, np.sort(key[errors])), minlength=len(values)))
        else:
            size = int(key.max()) + 1
            pair_counts, error_counts = _bincount(key, own, size), _bincount(key, own, size, errors)
            values = np.flatnonzero(pair_counts)
            pairs_before, errors_before = _before(pair_counts[values]), _before(error_counts[values])

        if protocol.discard == measured:
            start, end = pairs_before[:-1], pairs_before[1:]
            total = pairs_before[-1]
        elif protocol.discard == "all":
            other = "nonmated" if measured == "mated" else "mated"
            others = _before(_bincount(keys.of(other), None if weights is None else weights.of(other), values[-1] + 1))
            start, end = pairs_before[:-1] + others[values], pairs_before[1:] + others[values + 1]
            total = pairs_before[-1] + others[-1]
        else:
            images = _before(_bincount(keys.images, None if weights is None else weights.images, values[-1] + 1))
            start, end, total = images[values], images[values + 1], images[-1]
        pair_doubles = error_doubles = None
        if keys.doubles_of(measured) is not None:
            doubles = keys.doubles_of(measured)
            pair_doubles = _bincount(key, own, values[-1] + 1, doubles)[values]
            error_doubles = _bincount(key, own, values[-1] + 1, doubles & errors)[values]
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


def _before(counts: np.ndarray) -> np.ndarray:
    """[k]: the sum of the first k counts."""
    before = np.zeros(len(counts) + 1, counts.dtype)
    np.cumsum(counts, out=before[1:])
    return before


def _bincount(keys, weights, size, mask=None) -> np.ndarray:
    if mask is not None:
        keys, weights = keys[mask], None if weights is None else weights[mask]
    return np.bincount(keys, weights, minlength=int(size))


def _kept_double(gone: ArrayLike, size: ArrayLike) -> np.ndarray:
    """Probability that neither of two images is among the `gone` that are drawn out of `size`."""
    kept = np.asarray(size - gone, dtype=float)
    return np.maximum(kept * (kept - 1), 0) / np.maximum(size * (size - 1.0), 1)


def _grid(total: float, protocol: EDCProtocol, levels: _Levels | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Discard fractions, and how many units have left at each."""
    if protocol.step is not None:
        # The nominal fractions, as the published scripts have them, though a whole number of units leaves.
        fractions = np.arange(math.ceil(1 / protocol.step - 1e-9)) * protocol.step
        return fractions, np.floor(fractions * total + 1e-9)
    if protocol.ties == "random":
        units = np.arange(int(total), dtype=float)
    else:
        # Where other units than the measured pairs leave between two levels, a line is flat before it falls.
        units = np.unique(np.concatenate(([0], levels.start, levels.end)))
        units = units[units < total]
    return units / total, units


def _trace_recomputed(data, keys, protocol, weights) -> _Trace:
    size = int(max(part.max() for part in (keys.mated, keys.nonmated, keys.images) if part is not None)) + 1
    mated_weights, nonmated_weights, image_weights = (
        (None, None, None) if weights is None else (weights.mated, weights.nonmated, weights.images)
    )
    mated, nonmated = _bincount(keys.mated, mated_weights, size), _bincount(keys.nonmated, nonmated_weights, size)
    mated_doubles = nonmated_doubles = np.zeros(size)
    if keys.nonmated_doubles is not None:
        mated_doubles = _bincount(keys.mated, mated_weights, size, keys.mated_doubles)
        nonmated_doubles = _bincount(keys.nonmated, nonmated_weights, size, keys.nonmated_doubles)
    counts = _bincount(keys.images, image_weights, size) if protocol.discard == "images" else mated + nonmated
    before = _before(counts)
    total = before[-1]

    if protocol.step is None and protocol.ties == "together":
        units = np.unique(before)[:-1]
        fractions = units / total
    else:
        fractions, units = _grid(total, protocol)
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
    for at in range(end):

        def weigh(key_of, doubles, own, at=at):
            kept = (key_of > key[at]).astype(float)
            here = key_of == key[at]
            kept[here] = single[at] if doubles is None else np.where(doubles[here], double[at], single[at])
            return kept if own is None else kept * own

        def weigh_nonmated(size, weigh=weigh):
            parts = (keys.nonmated, keys.nonmated_doubles, nonmated_weights)
            return weigh(*(None if part is None else part[:size] for part in parts))

        left = weigh(keys.mated, keys.mated_doubles, mated_weights)
        leading = _leading(data.nonmated, weigh_nonmated, protocol.fmr * nonmated_left[at])
        present = data.mated[left > 0] if protocol.fmr_rule == "nearest" else data.mated
        thresholds[at] = _threshold(*leading, nonmated_left[at], present, protocol)
        errors[at] = left @ (data.mated < thresholds[at])
    last = float(fractions[end]) if end < len(fractions) else 1.0
    return _Trace(fractions[:end], errors, pairs[:end], thresholds, last, nonmated_left[:end])


# ---------------------------------------------------------------------------------------------------------------------
# Areas, and the best curve there could be


def _area(fractions, rates, limit: float, interpolation: str) -> float:
    """Area under a curve from 0 to `limit`; past its last point a curve stays as it is."""
    inside = np.searchsorted(fractions, limit, side="left")
    x = np.append(fractions[:inside], limit)
    if interpolation == "step":
        return float(rates[:inside] @ np.diff(x))
    y = np.append(rates[:inside], np.interp(limit, fractions, rates))
    return float(np.diff(x) @ (y[1:] + y[:-1]) / 2)


def _paucs(fractions, rates, protocol: EDCProtocol, start: float) -> dict[float, float]:
    """Areas by limit, divided as the protocol says."""
    areas = {limit: _area(fractions, rates, limit, protocol.interpolation) for limit in protocol.limits}
    return {limit: _divided(area, limit, start, protocol) for limit, area in areas.items()}


def _divided(area: float, limit: float, start: float, protocol: EDCProtocol) -> float:
    if protocol.divide_by_limit:
        area /= limit
    if protocol.divide_by_start:
        area = area / start if start > 0 else math.nan
    return area


def _best_curve(data: _Comparisons, protocol: EDCProtocol, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The curve below which no quality can come.

    Where pairs leave, the best that d discarded ones can be is d errors: (E - d) / (P - d) for E errors in P pairs.
    A recomputed threshold falls as well with each of the highest non-mated scores that leaves; of d pairs the best
    split between these and the errors is taken at each point by itself, so this is a bound that no single order need
    reach. Where images leave, d of them take no more errors with them than the d images with most errors have, each
    error counted twice: a bound again.
    """
    kind = _measured(protocol)
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
        fractions, units = _grid(total, protocol)
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


def _most_removed(data: _Comparisons, kind: str, which) -> np.ndarray:
    """[d]: the most pairs of `which` that d images can have, d = 0, 1, ... up to all of the pairs."""
    degrees = sum(np.bincount(end[which], minlength=len(data.occurring)) for end in data.ends(kind))
    removed = _before(np.sort(degrees)[::-1])
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


def _result(data, protocol, threshold, trace, best) -> EDCResult:
    rates = trace.errors / trace.pairs
    start = float(rates[0])
    worst_limit = max(protocol.limits)
    if start == 0:
        warnings.warn(
            f"There is no error at the threshold {threshold:g}: {protocol.error.upper()} starts at 0, no quality can "
            "lower it, and a pAUC relative to it is NaN.",
            EDCWarning,
            stacklevel=3,
        )
    if trace.end < worst_limit:
        warnings.warn(
            f"The pairs run out at fraction {trace.end:.3f}, before the limit {worst_limit:g}; from there on the area "
            "has the last value of the curve.",
            EDCWarning,
            stacklevel=3,
        )
    if trace.nonmated is not None:
        few = (trace.nonmated * protocol.fmr < 1 - 1e-9) & (trace.fractions < worst_limit)
        if few.any():
            warnings.warn(
                f"From fraction {trace.fractions[few][0]:.3f} on, fewer non-mated pairs are left than the "
                f"{math.ceil(1 / protocol.fmr - 1e-9):,} that an FMR of {protocol.fmr:g} needs; it is not kept there.",
                EDCWarning,
                stacklevel=3,
            )
    raw = replace(protocol, divide_by_start=False, divide_by_limit=False)
    normalised = replace(protocol, divide_by_start=True, divide_by_limit=True)
    areas, best_areas = _paucs(trace.fractions, rates, raw, start), _paucs(*best, raw, start)
    relative, least = (
        {limit: _divided(area, limit, start, normalised) for limit, area in of.items()} for of in (areas, best_areas)
    )
    stuck = [limit for limit in protocol.limits if least[limit] >= 1 - 1e-12]
    if stuck:
        warnings.warn(
            f"Up to the limit {max(stuck):g} not even a perfect quality could lower the {protocol.error.upper()}: "
            "there is no share of what could be gained.",
            EDCWarning,
            stacklevel=3,
        )
    share = {
        limit: (1 - relative[limit]) / (1 - least[limit]) if limit not in stuck else math.nan for limit in relative
    }
    false_non_matches = int((data.mated < threshold).sum())
    false_matches = int((data.nonmated >= threshold).sum())
    return EDCResult(
        protocol=protocol,
        fractions=trace.fractions,
        rates=rates,
        error_counts=trace.errors,
        pair_counts=trace.pairs,
        thresholds=trace.thresholds,
        threshold=float(trace.thresholds[0]),
        fnmr=false_non_matches / len(data.mated) if len(data.mated) else math.nan,
        fmr=false_matches / len(data.nonmated) if len(data.nonmated) else math.nan,
        mated=len(data.mated),
        nonmated=len(data.nonmated),
        false_non_matches=false_non_matches,
        false_matches=false_matches,
        pauc={limit: _divided(area, limit, start, protocol) for limit, area in areas.items()},
        floor={limit: _divided(area, limit, start, protocol) for limit, area in best_areas.items()},
        share=share,
        best_fractions=best[0],
        best_rates=best[1],
    )
