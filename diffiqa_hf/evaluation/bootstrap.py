# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Bootstrap intervals of the pAUC, of the difference of two methods, and of the starting FNMR, over identities.

The comparisons of one person share images, and those of one image share its flaws, so that pairs are no independent
draws, and an interval over pairs would be too short. What a study draws are people. A replicate therefore draws the
identities with replacement, and an identity that was drawn w times counts w times. Each of its mated pairs counts w
times, since each copy of the person brings along its own pairs; a pair of one copy with another would be a comparison
that nobody made. A non-mated pair of two persons, drawn w and v times, counts w * v times, as each copy of the one
meets each copy of the other. Everything is computed anew with these weights: threshold, order, curve and area.

All methods see the same replicates, so that in a difference what they share drops out.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .edc import EDCProtocol, EDCWarning, _Comparisons, _measured, _paucs, _quality_keys, _trace, _Weights


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


@dataclass(frozen=True)
class BootstrapResult:
    """
    Replicates of the pAUC of M methods at L limits.

    Args:
        methods (`tuple[str, ...]`), limits (`tuple[float, ...]`): The names of the axes.
        estimates (`np.ndarray` of shape `(M, L)`): On the pairs as they are.
        replicates (`np.ndarray` of shape `(B, M, L)`): On B draws of the identities; NaN where undefined.
        identities (`int`): How many there are to draw from.
        fnmr (`float`): FNMR(0), with nothing discarded, on the pairs as they are: the same for every method.
        fnmr_replicates (`np.ndarray` of shape `(B,)`): On the same draws, each with the threshold that it has by the
            protocol; NaN where no mated pair was drawn, or none of those that the curve is of.
    """

    methods: tuple[str, ...]
    limits: tuple[float, ...]
    estimates: np.ndarray
    replicates: np.ndarray
    identities: int
    fnmr: float
    fnmr_replicates: np.ndarray

    def interval(self, method: str, limit: float, confidence: float = 0.95) -> Interval:
        """Percentile interval of the pAUC of `method` up to `limit`."""
        index = self.methods.index(method), self.limits.index(limit)
        return _percentiles(self.estimates[index], self.replicates[(slice(None), *index)], confidence)

    def fnmr_interval(self, confidence: float = 0.95) -> Interval:
        """
        Percentile interval of FNMR(0).

        Draws of pairs without an error have none either: at a fixed threshold the interval of an FNMR of 0 is [0, 0],
        and no bound on the FNMR of the population.
        """
        return _percentiles(self.fnmr, self.fnmr_replicates, confidence)

    def difference(self, method: str, other: str, limit: float, confidence: float = 0.95) -> Interval:
        """Interval of pAUC(`method`) - pAUC(`other`), below 0 where `method` is better.

        Where it holds 0 (`excludes_zero` is false), the two cannot be told apart on these pairs.
        """
        first, second, at = self.methods.index(method), self.methods.index(other), self.limits.index(limit)
        estimate = self.estimates[first, at] - self.estimates[second, at]
        return _percentiles(estimate, self.replicates[:, first, at] - self.replicates[:, second, at], confidence)


def _percentiles(estimate: float, replicates: np.ndarray, confidence: float) -> Interval:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}.")
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
) -> BootstrapResult:
    """Replicates of the pAUC of one or more methods, and of FNMR(0), over resampled identities.

    Args:
        similarities, mated, qualities, protocol, pairs: As in [`edc_curves`].
        identities: Labels of any kind: (I,), of the images, with `pairs`; or two arrays (N,), those of the first and
            of the second image of each pair.
        replicates: B. The bounds of a 95 % interval want 1000 or more.
        seed: The draws, and so the intervals, depend on it alone.

    Raises:
        ValueError: As [`edc_curves`]; identities that contradict `mated`; fewer than two identities.

    Warns:
        EDCWarning: In some replicates the starting error is 0 and the pAUC undefined.
    """
    if isinstance(protocol, str):
        protocol = EDCProtocol.from_preset(protocol)
    if replicates < 1:
        raise ValueError(f"replicates must be at least 1, not {replicates}.")
    data = _Comparisons(similarities, mated, pairs, protocol, descending=True)
    if protocol.fmr is not None:
        data.check_measurable(protocol.fmr)
    people = _People(data, identities, protocol)
    keys = {name: _quality_keys(data, values, protocol, ranks=True) for name, values in qualities.items()}

    def compute(weights: _Weights | None) -> tuple[list[list[float]], float]:
        """The pAUCs, (M, L), and FNMR(0)."""
        if weights is not None and not weights.of(_measured(protocol)).any():
            return [[math.nan] * len(protocol.limits)] * len(keys), math.nan
        threshold = data.threshold(protocol, weights)
        mated = np.ones(len(data.mated)) if weights is None else weights.mated
        fnmr = mated[data.mated < threshold].sum() / mated.sum() if mated.any() else math.nan
        rows = []
        for key in keys.values():
            trace = _trace(data, key, protocol, threshold, weights)
            rates = trace.errors / trace.pairs
            rows.append(list(_paucs(trace.fractions, rates, protocol, float(rates[0])).values()))
        return rows, float(fnmr)

    rng = np.random.default_rng(seed)
    paucs, fnmrs = zip(*(compute(people.draw(rng)) for _ in range(replicates)), strict=True)
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
    return BootstrapResult(
        tuple(keys), protocol.limits, np.array(estimates), samples, people.count, fnmr, np.array(fnmrs)
    )


class _People:
    """Draws identities and turns the draw into weights of pairs and images."""

    def __init__(self, data: _Comparisons, identities, protocol: EDCProtocol):
        by_image = data.pairs is not None and not (isinstance(identities, (tuple, list)) and len(identities) == 2)
        if by_image:
            labels = np.asarray(identities)
            if labels.ndim != 1 or len(labels) < len(data.occurring):
                raise ValueError(f"identities must have a label for each image, not the shape {labels.shape}.")
            labels = labels[: len(data.occurring)]
            # Who occurs in no pair was not in the study: drawing them would only thin the others out.
            present, codes = np.unique(labels[data.occurring], return_inverse=True)
            code = np.zeros(len(labels), np.int32)
            code[data.occurring] = codes
            sides = {kind: [code[end] for end in data.ends(kind)] for kind in ("mated", "nonmated")}
            self.images = codes if protocol.discard == "images" else None
        else:
            first, second = (np.asarray(side) for side in identities)
            if first.shape != (data.count,) or second.shape != (data.count,):
                raise ValueError(f"identities must be two arrays of shape {(data.count,)}.")
            if protocol.discard == "images":
                raise ValueError("Where images are discarded, give the identities of the images.")
            present, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
            both = codes[: data.count].astype(np.int32), codes[data.count :].astype(np.int32)
            sides = {
                kind: [side[at] for side in both]
                for kind, at in (("mated", data.mated_at), ("nonmated", data.nonmated_at))
            }
            self.images = None
        if len(present) < 2:
            raise ValueError("There is one identity only: nothing to draw.")
        contradicts = sides["mated"][0] != sides["mated"][1], sides["nonmated"][0] == sides["nonmated"][1]
        wrong = int(sum(side.sum() for side in contradicts))
        if wrong:
            raise ValueError(f"In {wrong:,} pairs the identities contradict mated.")
        self.count = len(present)
        self.mated, self.nonmated = sides["mated"][0], sides["nonmated"]

    def draw(self, rng: np.random.Generator) -> _Weights:
        # int32 holds the products: a weight above 46,340 would need as many identities, all of them the same draw.
        times = np.bincount(rng.integers(self.count, size=self.count), minlength=self.count).astype(np.int32)
        nonmated = times[self.nonmated[0]]
        nonmated *= times[self.nonmated[1]]
        return _Weights(times[self.mated], nonmated, None if self.images is None else times[self.images])
