# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Bootstrap intervals of the pAUC, of the difference of two methods, and of the starting FNMR, over identities.

The comparisons of one person share images, and those of one image share its flaws, so that pairs are no independent
draws, and an interval over pairs would be too short. What a study draws are people. A replicate therefore draws the
identities with replacement, and an identity that was drawn w times counts w times. Each of its mated pairs counts w
times, since each copy of the person brings along its own pairs; a pair of one copy with another would be a comparison
that nobody made. A non-mated pair of two persons, drawn w and v times, counts w * v times, as each copy of the one
meets each copy of the other. Everything is computed anew with these weights: threshold, order, curve and area.

All methods see the same replicates, so that in a difference what they share drops out. So do several sets that share
people, where each replicate draws by name from the people of all of them (`population`): a mean over sets then varies
as it does when other people are asked.

Whether methods differ is said for all of them at once. Of twelve equally good ones 66 differences are looked at, and
some interval that is made for one of them misses 0 in most studies. [`simultaneous_intervals`] are as wide as it takes
for all of them to hold together with the given confidence.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .areas import paucs_of
from .curves import trace_curve
from .identities import UNKNOWN, as_labels, identity_codes
from .protocol import EDCProtocol, EDCWarning, measured_kind
from .qualities import quality_keys
from .thresholds import PairSet, Weights


@dataclass(frozen=True)
class Interval:
    """
    A number with its percentile interval.

    Args:
        estimate (`float`): On the pairs as they are.
        low, high (`float`): Quantiles of the replicates.
        confidence (`float`): Probability that the interval is made for.
        undefined (`int`): Replicates without a number (a starting error of 0), which are left out.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    undefined: int = 0

    @property
    def excludes_zero(self) -> bool:
        """For a difference: whether the two can be told apart at this confidence."""
        return self.low > 0 or self.high < 0


# No verdict on errors of fewer people than this: of one, all replicates repeat the one image that fails. In the
# simulation of tests/evaluation/test_simultaneous.py twelve equally good methods are told apart in 5 % of studies or
# fewer from here on, and in most of them with three people.
MIN_FAILING_PEOPLE = 10


def simultaneous_intervals(
    estimates: ArrayLike, replicates: ArrayLike, confidence: float = 0.95, people: float = math.inf
) -> list[Interval]:
    """
    Intervals of K numbers that hold all of them at once with the given confidence (single step, max |t|): each is
    estimate ± c s, with the standard deviation s of its replicates and the quantile c of the largest of the K
    standardised deviations of a replicate. Of few `people` who are in error, replicates vary less than samples do, and
    s is known from them alone: c becomes the quantile of Student's t at the same probability, and s grows by
    (people / (people - 1))^(1/2).

    Args:
        estimates: (K,)
        replicates: (B, K); a replicate with a NaN is left out.
        people: How many independent ones the numbers rest on.

    Returns:
        K intervals, NaN where nothing is defined. They have no end where there is one person or none, and no width for
        a number that no replicate changes.
    """
    _check_confidence(confidence)
    estimates, replicates = np.asarray(estimates, dtype=float), np.asarray(replicates, dtype=float)
    defined = replicates[np.isfinite(replicates).all(axis=1)]
    undefined = len(replicates) - len(defined)
    known = np.isfinite(estimates)
    low, high = np.full((2, len(estimates)), math.nan)
    if len(defined) > 1:
        deviations = defined.std(axis=0, ddof=1)
        # What rounding leaves of replicates that are all alike is no deviation.
        varies = known & (deviations > 1e-12 * np.maximum(1, np.abs(estimates)))
        width = np.zeros(len(estimates))
        if varies.any():
            standardised = np.abs(defined[:, varies] - estimates[varies]) / deviations[varies]
            quantile = float(np.quantile(standardised.max(axis=1), confidence))
            grown = 1.0 if math.isinf(people) else math.sqrt(people / (people - 1)) if people > 1 else math.inf
            width[varies] = (student_quantile(quantile, people - 1) if people > 1 else 1) * grown * deviations[varies]
        low, high = np.where(known, estimates - width, math.nan), np.where(known, estimates + width, math.nan)
    return [
        Interval(float(estimate), float(lowest), float(highest), confidence, undefined)
        for estimate, lowest, highest in zip(estimates, low, high, strict=True)
    ]


def student_quantile(normal: float, degrees: float) -> float:
    """
    The number that Student's t exceeds as often as a normal variable exceeds `normal`, which is at least 0 (Hill's
    expansion, 1970; to 1 % up to `normal` of 4 from nine degrees of freedom on).
    """
    z, n = normal, degrees
    terms = (
        z**3 + z,
        5 * z**5 + 16 * z**3 + 3 * z,
        3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z,
        79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z,
    )
    divisors = 4, 96, 384, 92160
    return z + sum(term / (by * n**power) for power, (term, by) in enumerate(zip(terms, divisors, strict=True), 1))


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}.")


@dataclass(frozen=True)
class BootstrapResult:
    """
    Replicates of the pAUC of M methods at L limits.

    Args:
        methods (`tuple[str, ...]`), limits (`tuple[float, ...]`): The names of the axes.
        estimates (`np.ndarray` of shape `(M, L)`): On the pairs as they are.
        replicates (`np.ndarray` of shape `(B, M, L)`): On B draws of the identities; NaN where undefined.
        identities (`int`): How many people are in the pairs.
        fnmr (`float`): FNMR(0), with nothing discarded, on the pairs as they are: the same for every method.
        fnmr_replicates (`np.ndarray` of shape `(B,)`): On the same draws, each with the threshold that it has by the
            protocol; NaN where no mated pair was drawn, or none of those that the curve is of.
        failing (`int`): How many people the errors with nothing discarded are of. Of false matches, each of two
            people: the most of which no two share a person, as found in the order of the pairs.
        effective_failing (`float`): Of how many people they would be if each had as many of them, with the same
            variance (Kish): (sum of errors)^2 / sum of squared errors of a person.
    """

    methods: tuple[str, ...]
    limits: tuple[float, ...]
    estimates: np.ndarray
    replicates: np.ndarray
    identities: int
    fnmr: float
    fnmr_replicates: np.ndarray
    failing: int = 0
    effective_failing: float = 0.0

    @property
    def few_errors(self) -> bool:
        """Whether the errors are of fewer than `MIN_FAILING_PEOPLE` people, so that nothing can be told apart."""
        return self.failing < MIN_FAILING_PEOPLE

    def interval(self, method: str, limit: float, confidence: float = 0.95) -> Interval:
        """Percentile interval of the pAUC of `method` up to `limit`."""
        row, column = self.methods.index(method), self.limits.index(limit)
        return _percentiles(self.estimates[row, column], self.replicates[:, row, column], confidence)

    def fnmr_interval(self, confidence: float = 0.95) -> Interval:
        """
        Percentile interval of FNMR(0).

        Draws of pairs without an error have none either: at a fixed threshold the interval of an FNMR of 0 is [0, 0],
        and no bound on the FNMR of the population.
        """
        return _percentiles(self.fnmr, self.fnmr_replicates, confidence)

    def difference(self, method: str, other: str, limit: float, confidence: float = 0.95) -> Interval:
        """
        Percentile interval of pAUC(`method`) - pAUC(`other`), below 0 where `method` is better.

        Where it holds 0 (`excludes_zero` is false), the two cannot be told apart on these pairs. It is made for two
        methods and a limit that were chosen before the data were seen, and for errors of many people (see
        `few_errors`); for what several methods reach, see [`differences`].
        """
        first, second, at = self.methods.index(method), self.methods.index(other), self.limits.index(limit)
        estimate = self.estimates[first, at] - self.estimates[second, at]
        return _percentiles(estimate, self.replicates[:, first, at] - self.replicates[:, second, at], confidence)

    def differences(self, confidence: float = 0.95) -> dict[tuple[str, str, float], Interval]:
        """
        pAUC(first) - pAUC(second) for each two methods and each limit, with intervals that hold all at once
        ([`simultaneous_intervals`]): by (first, second, limit), in the order of limits and methods. Which method came
        out lowest may decide what is looked at. No verdict where there are `few_errors`.
        """
        first, second = np.triu_indices(len(self.methods), 1)
        estimates = self.estimates[first] - self.estimates[second]
        replicates = self.replicates[:, first] - self.replicates[:, second]
        found = simultaneous_intervals(
            estimates.T.ravel(),
            replicates.transpose(0, 2, 1).reshape(len(replicates), estimates.size),
            confidence,
            self.effective_failing,
        )
        names = [
            (self.methods[one], self.methods[other], limit)
            for limit in self.limits
            for one, other in zip(first, second, strict=True)
        ]
        return dict(zip(names, found, strict=True))


def _percentiles(estimate: float, replicates: np.ndarray, confidence: float) -> Interval:
    _check_confidence(confidence)
    defined = replicates[~np.isnan(replicates)]
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2]) if len(defined) else (math.nan,) * 2
    return Interval(float(estimate), float(low), float(high), confidence, len(replicates) - len(defined))


def bootstrap_pauc(
    similarities: ArrayLike,
    mated: ArrayLike,
    qualities: Mapping[str, ArrayLike | tuple[ArrayLike, ArrayLike]],
    identities: ArrayLike | tuple[ArrayLike, ArrayLike],
    protocol: str | EDCProtocol = "default",
    *,
    pairs: ArrayLike | None = None,
    replicates: int = 1000,
    seed: int = 0,
    population: ArrayLike | None = None,
) -> BootstrapResult:
    """Replicates of the pAUC of one or more methods, and of FNMR(0), over resampled identities.

    Args:
        similarities, mated, qualities, protocol, pairs: As in [`edc_curves`].
        identities: Labels of any kind: (I,), of the images, with `pairs`; or two arrays (N,), those of the first and
            of the second image of each pair. `None`, NaN and empty strings name nobody: mated pairs of such an image
            are left out, and in a non-mated one it counts as a person of its own.
        replicates: B. The bounds of a 95 % interval want 1000 or more.
        seed: The draws, and so the intervals, depend on it alone.
        population: (K,) labels of all people of several sets, each once, from which every replicate draws; those that
            are in these pairs among them. Results of one population and seed have the same draws. By default those
            in these pairs.

    Raises:
        ValueError: As [`edc_curves`]; identities that contradict `mated`; fewer than two identities; a person that is
            not in `population`.

    Warns:
        EDCWarning: Mated pairs of unknown people are left out. In some replicates the starting error is 0 and the pAUC
            undefined.
    """
    if isinstance(protocol, str):
        protocol = EDCProtocol.from_preset(protocol)
    if replicates < 1:
        raise ValueError(f"replicates must be at least 1, not {replicates}.")
    by_image = pairs is not None and not (isinstance(identities, (tuple, list)) and len(identities) == 2)
    if protocol.discard == "images" and not by_image:
        raise ValueError("Where images are discarded, give the identities of the images.")
    sides, names = _codes([identities] if by_image else list(identities))
    count = np.shape(similarities)[0] if np.ndim(similarities) else 0
    if by_image:
        if len(sides[0]) <= np.max(pairs, initial=-1):
            raise ValueError(f"identities must have a label for each image, not the shape {sides[0].shape}.")
        ends = tuple(sides[0][np.asarray(pairs)[:, side]] for side in (0, 1))
    else:
        ends = tuple(sides)
        if any(side.shape != (count,) for side in sides):
            raise ValueError(f"identities must be two arrays of shape {(count,)}.")
    if any((side >= len(names)).any() for side in sides) and np.shape(mated) == ends[0].shape:
        kept = known_pairs(mated, (ends[0] < len(names), ends[1] < len(names)))
        similarities, mated = np.asarray(similarities)[kept], np.asarray(mated)[kept]
        pairs = None if pairs is None else np.asarray(pairs)[kept]
        sides = sides if by_image else [side[kept] for side in sides]
        if pairs is None or protocol.pair_quality == "given":
            qualities = {name: _of_pairs(values, kept, protocol) for name, values in qualities.items()}
    data = PairSet(similarities, mated, pairs, protocol, descending=True)
    if protocol.fmr is not None:
        data.check_measurable(protocol.fmr)
    people = _People(data, sides, len(names), names, population)
    keys = {name: quality_keys(data, values, protocol, ranks=True) for name, values in qualities.items()}

    def compute(weights: Weights | None) -> tuple[list[list[float]], float]:
        """The pAUCs, (M, L), and FNMR(0)."""
        if weights is not None and not weights.of(measured_kind(protocol)).any():
            return [[math.nan] * len(protocol.limits)] * len(keys), math.nan
        threshold = data.threshold(protocol, weights)
        mated = np.ones(len(data.mated)) if weights is None else weights.mated
        fnmr = mated[data.mated < threshold].sum() / mated.sum() if mated.any() else math.nan
        rows = []
        for key in keys.values():
            trace = trace_curve(data, key, protocol, threshold, weights)
            rates = trace.errors / trace.pairs
            rows.append(list(paucs_of(trace.fractions, rates, protocol, float(rates[0])).values()))
        return rows, float(fnmr)

    rng = np.random.default_rng(seed)
    paucs, fnmrs = zip(*(compute(people.draw(rng, protocol)) for _ in range(replicates)), strict=True)
    samples = np.array(paucs)
    undefined = int(np.isnan(samples).any(axis=(1, 2)).sum())
    if undefined:
        warnings.warn(
            f"In {undefined:,} of {replicates:,} replicates there is no error to start from; their pAUC is undefined, "
            "and they are left out.",
            EDCWarning,
            stacklevel=2,
        )
    estimates, fnmr = compute(None)
    failing, effective = people.failing(data, protocol, data.threshold(protocol))
    return BootstrapResult(
        tuple(keys),
        protocol.limits,
        np.array(estimates),
        samples,
        people.present,
        fnmr,
        np.array(fnmrs),
        failing,
        effective,
    )


def _codes(identities: list[ArrayLike]) -> tuple[list[np.ndarray], np.ndarray]:
    """Codes of one list of people or of two, and the labels of the codes; each unknown one has a code beyond them."""
    labels = [as_labels(side) for side in identities]
    if len(labels) == 1:
        codes, names = identity_codes(labels[0])
    else:
        kinds = {side.dtype.kind for side in labels}
        joined = labels if len(kinds) == 1 else [side.astype(object) for side in labels]
        codes, names = identity_codes(np.concatenate(joined))
    unknown = codes == UNKNOWN
    codes[unknown] = len(names) + np.arange(unknown.sum())
    return (np.split(codes, [len(labels[0])]) if len(labels) == 2 else [codes]), names


def _of_pairs(values, kept: np.ndarray, protocol: EDCProtocol):
    if protocol.pair_quality == "given":
        return np.asarray(values)[kept]
    return tuple(np.asarray(side)[kept] for side in values)


def known_pairs(mated: ArrayLike, known: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """
    (N,) bool: all pairs but the mated ones of unknown people, which a warning counts.

    Args:
        mated: (N,)
        known: For the first and the second image of each pair, (N,) bool, whether somebody is named.
    """
    kept = ~np.asarray(mated).astype(bool) | (known[0] & known[1])
    if not kept.all():
        warnings.warn(
            f"{int((~kept).sum()):,} of {len(kept):,} pairs are called mated where it is not known who is on one of "
            "the images: they are left out.",
            EDCWarning,
            stacklevel=3,
        )
    return kept


class _People:
    """Who is in the pairs. Draws identities and turns the draw into weights of pairs and images."""

    def __init__(self, data: PairSet, sides: list[np.ndarray], known: int, names: np.ndarray, population):
        """`sides`: codes of the images, or of both sides of all pairs; from `known` on those of unknown people."""
        if len(sides) == 1:
            # Who occurs in no pair was not in the study: drawing them would only thin the others out.
            codes = sides[0][: len(data.occurring)]
            present, inverse = np.unique(codes[data.occurring], return_inverse=True)
            code = np.zeros(len(codes), np.int32)
            code[data.occurring] = inverse
            ends = {kind: [code[end] for end in data.ends(kind)] for kind in ("mated", "nonmated")}
            self.images = inverse
        else:
            present, inverse = np.unique(np.concatenate(sides), return_inverse=True)
            both = np.split(inverse.astype(np.int32), 2)
            ends = {
                kind: [side[at] for side in both]
                for kind, at in (("mated", data.mated_at), ("nonmated", data.nonmated_at))
            }
            self.images = None
        if len(present) < 2:
            raise ValueError("There is one identity only: nothing to draw.")
        contradicts = ends["mated"][0] != ends["mated"][1], ends["nonmated"][0] == ends["nonmated"][1]
        wrong = int(sum(side.sum() for side in contradicts))
        if wrong:
            raise ValueError(f"In {wrong:,} pairs the identities contradict mated.")
        self.present = len(present)
        self.mated, self.nonmated = ends["mated"][0], ends["nonmated"]
        if population is None:
            self.place, self.count = None, len(present)
        else:
            place = {label: at for at, label in enumerate(as_labels(population).tolist())}
            named = names[present[present < known]].tolist()
            if lacking := [name for name in named if name not in place]:
                raise ValueError(f"population lacks {lacking[0]!r}, who is in the pairs.")
            self.place, self.count = np.array([place[name] for name in named], int), len(place)

    def draw(self, rng: np.random.Generator, protocol: EDCProtocol) -> Weights:
        # int32 holds the products: a weight above 46,340 would need as many identities, all of them the same draw.
        times = np.bincount(rng.integers(self.count, size=self.count), minlength=self.count).astype(np.int32)
        if self.place is not None:
            # Of the unknown ones, who are in no other set, a draw of their own that leaves those of the others alone.
            others = self.present - len(self.place)
            own = np.random.default_rng(rng.bit_generator.seed_seq.spawn(1)[0]).integers(max(others, 1), size=others)
            times = np.concatenate([times[self.place], np.bincount(own, minlength=others).astype(np.int32)])
        nonmated = times[self.nonmated[0]]
        nonmated *= times[self.nonmated[1]]
        return Weights(times[self.mated], nonmated, times[self.images] if protocol.discard == "images" else None)

    def failing(self, data: PairSet, protocol: EDCProtocol, threshold: float) -> tuple[int, float]:
        """Of how many people the errors are, and of how many with equally many of them."""
        if protocol.error == "fnmr":
            errors = np.bincount(self.mated[data.mated < threshold])
            count = int(np.count_nonzero(errors))
        else:
            wrong = [side[data.nonmated >= threshold] for side in self.nonmated]
            errors = np.bincount(np.concatenate(wrong))
            seen, count = set(), 0
            for one, other in zip(*(side.tolist() for side in wrong), strict=True):
                if one not in seen and other not in seen:
                    seen |= {one, other}
                    count += 1
        squares = float((errors.astype(float) ** 2).sum())
        effective = float(errors.sum()) ** 2 / squares if squares else 0.0
        return count, min(effective, float(count))
