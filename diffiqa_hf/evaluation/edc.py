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

from .areas import best_curve, divided, paucs_of
from .curves import trace_curve
from .protocol import EDCProtocol, EDCWarning
from .qualities import equal_keys, quality_keys
from .reachable import reachable_areas
from .thresholds import PairSet


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
        floor (`dict[float, float]`): A pAUC below which no score can come under this protocol, whatever order it has
            the discarded pairs, or images, leave in.
        random (`dict[float, float]`): pAUC of discarding at random. At a fixed threshold that is 1 where the protocol
            divides by starting rate and limit (start * limit, start or limit where it does not). A recomputed one
            changes with who is left, so there it is the mean over random orders of the pairs or images.
        share (`dict[float, float]`): (1 - pAUC) / (1 - floor) of the pAUC divided by starting rate and limit, whatever
            the protocol divides by. No score can pass 1. At a fixed threshold 0 is as good as discarding at random;
            at a recomputed one that is `random_share`.
        random_share (`dict[float, float]`): The share of discarding at random.
        reachable (`dict[float, tuple[float, float]]`, *optional*): Scores order images, and where images recur in many
            pairs no order of images may reach the floor: a lower and an upper bound of the least pAUC that one could
            have. `None` where that cannot be said (qualities of pairs, a recomputed threshold), or each image is in
            one pair.
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
    random: dict[float, float]
    share: dict[float, float]
    random_share: dict[float, float]
    reachable: dict[float, tuple[float, float]] | None
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
        return {
            name: getattr(self, name)
            for name in (*names, "pauc", "floor", "random", "share", "random_share", "reachable")
        }


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
    data = PairSet(similarities, mated, pairs, protocol, descending=protocol.threshold_update == "recomputed")
    if protocol.fmr is not None:
        data.check_measurable(protocol.fmr)
    threshold = data.threshold(protocol)
    references = _References.of(data, protocol, threshold)
    results = {}
    for name, values in qualities.items():
        keys = quality_keys(data, values, protocol)
        trace = trace_curve(data, keys, protocol, threshold)
        results[name] = _result(data, protocol, threshold, trace, references)
    return results


@dataclass(frozen=True)
class _References:
    """
    What every method on the same pairs is measured by: the curve that none passes, and areas, divided by nothing.

    Args:
        best: Fractions and rates of the curve.
        floor, reachable: By limit, the latter with bounds, as [`EDCResult`] has them.
        random: By limit; `None` at a fixed threshold.
    """

    best: tuple[np.ndarray, np.ndarray]
    floor: dict[float, float]
    random: dict[float, float] | None
    reachable: dict[float, tuple[float, float]] | None

    @classmethod
    def of(cls, data: PairSet, protocol: EDCProtocol, threshold: float) -> _References:
        raw = replace(protocol, divide_by_start=False, divide_by_limit=False)
        best = best_curve(data, protocol, threshold)
        floor = paucs_of(*best, raw, math.nan)
        random = None
        if protocol.threshold_update == "recomputed":
            # Equal qualities in random order are random qualities.
            raw = replace(raw, ties="random", step=min(0.05, *protocol.limits) / 2 if raw.step is None else raw.step)
            trace = trace_curve(data, equal_keys(data, raw), raw, threshold)
            random = paucs_of(trace.fractions, trace.errors / trace.pairs, raw, math.nan)
        return cls(best, floor, random, reachable_areas(data, protocol, threshold, floor))


def _result(data, protocol, threshold, trace, references) -> EDCResult:
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
    areas, floor = paucs_of(trace.fractions, rates, raw, start), references.floor
    relative, least = (
        {limit: divided(area, limit, start, normalised) for limit, area in of.items()} for of in (areas, floor)
    )
    if references.random is None:
        chance = dict.fromkeys(protocol.limits, 1.0)
    else:
        chance = {limit: divided(area, limit, start, normalised) for limit, area in references.random.items()}
    stuck = [limit for limit in protocol.limits if least[limit] >= 1 - 1e-12]
    if stuck:
        warnings.warn(
            f"Up to the limit {max(stuck):g} not even a perfect quality could lower the {protocol.error.upper()}: "
            "there is no share of what could be gained.",
            EDCWarning,
            stacklevel=3,
        )
    share, random_share = (
        {limit: (1 - of[limit]) / (1 - least[limit]) if limit not in stuck else math.nan for limit in of}
        for of in (relative, chance)
    )
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
        pauc={limit: divided(area, limit, start, protocol) for limit, area in areas.items()},
        floor={limit: divided(area, limit, start, protocol) for limit, area in floor.items()},
        random={
            limit: value * (1 if protocol.divide_by_start else start) * (1 if protocol.divide_by_limit else limit)
            for limit, value in chance.items()
        },
        share=share,
        random_share=random_share,
        reachable=references.reachable
        and {
            limit: tuple(divided(area, limit, start, protocol) for area in bounds)
            for limit, bounds in references.reachable.items()
        },
        best_fractions=references.best[0],
        best_rates=references.best[1],
    )
