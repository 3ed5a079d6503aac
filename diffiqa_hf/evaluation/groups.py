# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Whether scores and errors are the same for all groups of people, or of images: of each group the scores, the share
below one threshold of all, and the FNMR at one similarity threshold of all.

A lower score of a group is no fault by itself. It is one where recognition does as well with that group as with
others. So the FNMR stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .bootstrap import MIN_FAILING_PEOPLE, Interval, simultaneous_intervals
from .comparison import plain
from .identities import UNKNOWN, identity_codes
from .protocol import EDCProtocol
from .thresholds import PairSet


@dataclass(frozen=True)
class GroupFigures:
    """
    Of one group.

    Args:
        group (`str`): Its name.
        people, images (`int`): How many.
        medians (`dict[str, Interval]`): Of the scores, by method.
        below (`dict[str, Interval]`): Share of the images in [0, 1] that score below the threshold of all, by method.
        mated, errors (`int`): Mated pairs of two of its images, and those of them below the similarity threshold.
        failing (`int`): How many people those errors are of.
        fnmr (`Interval`): errors / mated, NaN without mated pairs.
        nonmated, false_matches (`int`): Non-mated pairs of two of its images, and those at or above the threshold.
    """

    group: str
    people: int
    images: int
    medians: dict[str, Interval]
    below: dict[str, Interval]
    mated: int
    errors: int
    failing: int
    fnmr: Interval
    nonmated: int
    false_matches: int

    @property
    def fmr(self) -> float:
        """Within the group, at the threshold of all; NaN without non-mated pairs."""
        return self.false_matches / self.nonmated if self.nonmated else math.nan


@dataclass(frozen=True)
class GroupDifference:
    """
    Of one figure of two groups, first - second.

    Args:
        figure (`str`): `"median"`, `"below"` or `"fnmr"`.
        method (`str`): Whose score; empty for the FNMR.
        first, second (`str`): The groups.
        interval (`Interval`): Holds together with those of all other differences of its kind (scores, or errors).
        enough (`bool`): Whether the errors are of so many people that something can be told apart by them.
    """

    figure: str
    method: str
    first: str
    second: str
    interval: Interval
    enough: bool = True

    @property
    def told_apart(self) -> bool:
        return self.enough and self.interval.excludes_zero


@dataclass(frozen=True)
class GroupComparison:
    """
    Args:
        groups (`list[GroupFigures]`): The largest first.
        differences (`list[GroupDifference]`): Of each two groups.
        percentile (`float`): Of the scores of all images that have a group, which the threshold of the shares is.
        thresholds (`dict[str, float]`): That score, by method.
        similarity (`float`): The threshold of all pairs.
        ungrouped (`int`): Images of no known group.
        between (`int`): Mated pairs of images of two groups, or of none: they count for no group.
    """

    groups: list[GroupFigures]
    differences: list[GroupDifference]
    percentile: float
    thresholds: dict[str, float]
    similarity: float
    ungrouped: int
    between: int

    def to_dict(self) -> dict[str, Any]:
        """In plain numbers, `None` for what is undefined: strict JSON."""

        def bounds(interval: Interval) -> list[float]:
            return [interval.estimate, interval.low, interval.high]

        groups = [
            {
                **vars(entry),
                "medians": {name: bounds(interval) for name, interval in entry.medians.items()},
                "below": {name: bounds(interval) for name, interval in entry.below.items()},
                "fnmr": bounds(entry.fnmr),
                "fmr": entry.fmr,
            }
            for entry in self.groups
        ]
        differences = [
            {**vars(entry), "interval": bounds(entry.interval), "told_apart": entry.told_apart}
            for entry in self.differences
        ]
        return plain({**vars(self), "groups": groups, "differences": differences})


def compare_groups(
    qualities: Mapping[str, ArrayLike],
    groups: ArrayLike,
    identities: ArrayLike,
    similarities: ArrayLike,
    mated: ArrayLike,
    pairs: ArrayLike,
    protocol: str | EDCProtocol = "default",
    *,
    percentile: float = 10,
    replicates: int = 1000,
    seed: int = 0,
) -> GroupComparison:
    """
    Scores and errors by group, at thresholds that are the same for all, with intervals over people.

    A replicate draws the people with replacement. Both thresholds stay as they are: a system
    has one.

    Args:
        qualities: By method (I,) of the images, higher is better; NaN is below all.
        groups: (I,) labels; `None`, NaN and empty strings are none, and count nowhere.
        identities: (I,) labels of the people; where one is missing, the image is of a person of its own.
        similarities, mated, pairs: (N,), (N,) and (N, 2) positions of images, as [`edc_curves`] takes them.
        protocol: Its similarity threshold counts: that of an FMR on all non-mated pairs, for instance.
        percentile: In (0, 100), of the scores of all images with a group.
        replicates: Of the bootstrap; 95 % intervals.

    Raises:
        ValueError: Fewer than two groups; shapes that do not fit; as [`edc_curves`].
    """
    if isinstance(protocol, str):
        protocol = EDCProtocol.from_preset(protocol)
    if not 0 < percentile < 100:
        raise ValueError(f"percentile lies between 0 and 100, not {percentile}.")
    codes, names = identity_codes(groups)
    people = identity_codes(identities)[0]
    unknown = people == UNKNOWN
    people[unknown] = people.max(initial=0) + 1 + np.arange(unknown.sum())
    scores = {name: np.nan_to_num(np.asarray(values, float), nan=-np.inf) for name, values in qualities.items()}
    if people.shape != codes.shape or any(values.shape != codes.shape for values in scores.values()):
        raise ValueError("groups, identities and qualities must have a value for each image.")
    if len(names) < 2:
        raise ValueError(f"There must be two groups or more to compare, and there are {len(names)}.")
    data = PairSet(similarities, mated, pairs, protocol)
    if len(data.occurring) > len(codes):
        raise ValueError(f"pairs has a position of {len(data.occurring) - 1} for {len(codes)} images.")
    if protocol.fmr is not None:
        data.check_measurable(protocol.fmr)
    threshold = data.threshold(protocol)
    grouped = codes != UNKNOWN
    limits = {
        name: float(np.quantile(values[grouped], percentile / 100, method="lower")) for name, values in scores.items()
    }
    # People of whom nothing has a group would only thin out the draws.
    present, drawn = np.unique(people[grouped], return_inverse=True)
    person = np.full(len(people), -1)
    person[grouped] = drawn
    order = sorted(range(len(names)), key=lambda code: (-int((codes == code).sum()), str(names[code])))
    parts = [_Part(code, codes, person, len(present), scores, limits, data, threshold) for code in order]

    rng = np.random.default_rng(seed)
    ones = np.ones(len(present), np.int64)
    estimates = np.array([part.figures(ones) for part in parts])
    samples = np.empty((replicates, *estimates.shape))
    for row in samples:
        weights = np.bincount(rng.integers(len(present), size=len(present)), minlength=len(present))
        row[:] = [part.figures(weights) for part in parts]

    methods, found = list(scores), []
    for at, (code, part) in enumerate(zip(order, parts, strict=True)):
        intervals = [_interval(*entry) for entry in zip(estimates[at], samples[:, at].T, strict=True)]
        found.append(
            GroupFigures(
                str(names[code]),
                part.people,
                part.images,
                dict(zip(methods, intervals[0:-1:2], strict=True)),
                dict(zip(methods, intervals[1:-1:2], strict=True)),
                int(part.mated.sum()),
                int(part.errors.sum()),
                int((part.errors > 0).sum()),
                intervals[-1],
                part.nonmated,
                part.false_matches,
            )
        )
    inside = sum(entry.mated for entry in found)
    return GroupComparison(
        found,
        _differences(found, methods, estimates, samples),
        float(percentile),
        limits,
        threshold,
        int((~grouped).sum()),
        len(data.mated) - inside,
    )


class _Part:
    """One group, ready to be weighed by how often each person was drawn."""

    def __init__(self, code, codes, person, count, scores, limits, data: PairSet, threshold: float):
        at = np.flatnonzero(codes == code)
        self.images = len(at)
        self.people = len(np.unique(person[at]))
        self._ranked = []
        for name, values in scores.items():
            order = at[np.argsort(values[at], kind="stable")]
            below = int(np.searchsorted(values[order], limits[name], side="left"))
            self._ranked.append((values[order], person[order], below))
        first, second = data.ends("mated")
        both = (codes[first] == code) & (codes[second] == code)
        whose, wrong = person[first[both]], data.mated[both] < threshold
        self.mated = np.bincount(whose, minlength=count)
        self.errors = np.bincount(whose[wrong], minlength=count)
        first, second = data.ends("nonmated")
        both = (codes[first] == code) & (codes[second] == code)
        self.nonmated = int(both.sum())
        self.false_matches = int((data.nonmated[both] >= threshold).sum())

    def figures(self, weights: np.ndarray) -> list[float]:
        """Of each method median and share below, and the FNMR; NaN of nothing."""
        row = []
        for values, person, below in self._ranked:
            sums = np.cumsum(weights[person])
            if not sums[-1]:
                row += [math.nan, math.nan]
                continue
            half = sums[-1] / 2
            low, high = (values[np.searchsorted(sums, half, side=side)] for side in ("left", "right"))
            row += [low if low == high else (low + high) / 2, sums[below - 1] / sums[-1] if below else 0.0]
        mated = int(weights @ self.mated)
        return [*row, int(weights @ self.errors) / mated if mated else math.nan]


def _interval(estimate: float, replicates: np.ndarray) -> Interval:
    defined = replicates[~np.isnan(replicates)]
    low, high = np.quantile(defined, (0.025, 0.975)) if len(defined) else (math.nan, math.nan)
    return Interval(float(estimate), float(low), float(high), 0.95, len(replicates) - len(defined))


def _differences(found, methods, estimates: np.ndarray, samples: np.ndarray) -> list[GroupDifference]:
    pairs = [(one, other) for one in range(len(found)) for other in range(one + 1, len(found))]
    of_scores = [(figure, name) for name in methods for figure in ("median", "below")]
    keys = [(one, other, at) for at in range(len(of_scores)) for one, other in pairs]
    with np.errstate(invalid="ignore"):  # of two groups whose medians are of images without a score
        intervals = _simultaneous(keys, estimates, samples, math.inf)
    differences = [
        GroupDifference(*of_scores[at], found[one].group, found[other].group, interval)
        for (one, other, at), interval in zip(keys, intervals, strict=True)
    ]
    keys = [(one, other, -1) for one, other in pairs if found[one].mated and found[other].mated]
    people = sum(entry.failing for entry in found if entry.mated)
    for (one, other, _), interval in zip(keys, _simultaneous(keys, estimates, samples, people), strict=True):
        failing = found[one].failing + found[other].failing
        enough = failing >= MIN_FAILING_PEOPLE
        differences.append(GroupDifference("fnmr", "", found[one].group, found[other].group, interval, enough))
    return differences


def _simultaneous(keys, estimates: np.ndarray, samples: np.ndarray, people: float) -> list[Interval]:
    if not keys:
        return []
    one, other, at = np.array(keys).T
    return simultaneous_intervals(
        estimates[one, at] - estimates[other, at], samples[:, one, at] - samples[:, other, at], people=people
    )


__all__ = ["GroupComparison", "GroupDifference", "GroupFigures", "compare_groups"]
