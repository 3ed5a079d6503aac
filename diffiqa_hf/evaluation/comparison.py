# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Several quality methods on the same comparisons: curves, intervals, and which of them can be told apart."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .bootstrap import BootstrapResult, Interval, bootstrap_pauc, known_pairs
from .edc import EDCResult, edc_curves
from .identities import is_known
from .protocol import EDCProtocol, EDCWarning


TOO_FEW = "too few errors"


def verdict(interval: Interval) -> str:
    """What a difference of pAUCs says of the first one."""
    return "better" if interval.high < 0 else "worse" if interval.low > 0 else "not told apart"


@dataclass(frozen=True)
class Evaluation:
    """
    M methods with one FR model on the comparisons of one benchmark.

    Args:
        results (`dict[str, EDCResult]`): Curve of each method, in the order in which they were given.
        protocol (`EDCProtocol`): That of all of them.
        bootstrap (`BootstrapResult`, *optional*): Replicates of their pAUCs; `None` without intervals.
        benchmark, fr_model (`str`): Their names.
        notes (`tuple[str, ...]`): What a reader has to know: warnings of the computation, and whatever was left out.
    """

    results: dict[str, EDCResult]
    protocol: EDCProtocol
    bootstrap: BootstrapResult | None = None
    benchmark: str = ""
    fr_model: str = ""
    notes: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(self.results)

    def interval(self, method: str, limit: float) -> Interval | None:
        """Of the pAUC; `None` without a bootstrap, or where it is undefined."""
        interval = None if self.bootstrap is None else self.bootstrap.interval(method, limit)
        return None if interval is None or math.isnan(interval.low) else interval

    @property
    def fnmr_interval(self) -> Interval | None:
        """
        Of FNMR(0), which is the same for all methods; `None` without a bootstrap, or where every draw has the same
        FNMR, as where there is no error: then the draws say nothing of the population.
        """
        interval = None if self.bootstrap is None else self.bootstrap.fnmr_interval()
        return interval if interval is not None and interval.low < interval.high else None

    @cached_property
    def _differences(self) -> dict[tuple[str, str, float], Interval]:
        return {} if self.bootstrap is None else self.bootstrap.differences()

    def differences(self, limit: float) -> list[tuple[str, str, Interval]]:
        """
        pAUC(first) - pAUC(second) for each two methods, with intervals that hold all at once, those of the other
        limits as well ([`BootstrapResult.differences`]); empty without a bootstrap.
        """
        return [
            (first, second, interval)
            for (first, second, at), interval in self._differences.items()
            if at == limit and {first, second} <= set(self.results) and not math.isnan(interval.low)
        ]

    def difference(self, first: str, second: str, limit: float) -> Interval | None:
        """pAUC(`first`) - pAUC(`second`), out of [`differences`]; `None` where it is not defined."""
        found = self._differences.get((first, second, limit))
        if found is None and (turned := self._differences.get((second, first, limit))) is not None:
            found = replace(turned, estimate=-turned.estimate, low=-turned.high, high=-turned.low)
        return None if found is None or math.isnan(found.low) else found

    def verdict(self, interval: Interval | None) -> str:
        """
        What a difference (first - second) says of the first one: `"better"`, `"worse"`, `"not told apart"`, `"too few
        errors"` (of fewer than [`MIN_FAILING_PEOPLE`] people), or, of none, an empty string.
        """
        if interval is None or self.bootstrap is None:
            return ""
        if self.bootstrap.few_errors:
            return TOO_FEW
        return verdict(interval)

    def to_dict(self) -> dict[str, Any]:
        """All but the curves in plain numbers, `None` for what is undefined: strict JSON."""
        methods = {}
        fnmr = self.fnmr_interval
        for name, result in self.results.items():
            entry = result.summary()
            entry["fnmr_interval"] = None if fnmr is None else [fnmr.low, fnmr.high]
            for kind in ("pauc", "floor", "random", "share", "random_share", "reachable"):
                entry[kind] = entry[kind] and {f"{limit:g}": value for limit, value in entry[kind].items()}
            intervals = {f"{limit:g}": self.interval(name, limit) for limit in self.protocol.limits}
            entry["interval"] = {
                limit: None if interval is None else [interval.low, interval.high]
                for limit, interval in intervals.items()
            }
            methods[name] = entry
        few_errors = self.bootstrap is not None and self.bootstrap.few_errors
        differences = [
            {
                "limit": limit,
                "first": first,
                "second": second,
                "difference": interval.estimate,
                "interval": [interval.low, interval.high],
                "told_apart": interval.excludes_zero and not few_errors,
            }
            for limit in self.protocol.limits
            for first, second, interval in self.differences(limit)
        ]
        return plain(
            {
                "benchmark": self.benchmark,
                "fr_model": self.fr_model,
                "protocol": asdict(self.protocol),
                "replicates": 0 if self.bootstrap is None else len(self.bootstrap.replicates),
                "identities": None if self.bootstrap is None else self.bootstrap.identities,
                "failing_people": None if self.bootstrap is None else self.bootstrap.failing,
                "methods": methods,
                "differences": differences,
                "notes": list(self.notes),
            }
        )


def mean_replicates(evaluations: Sequence[Evaluation], method: str, limit: float) -> np.ndarray:
    """
    (B,) replicates of the mean pAUC over several sets, which have to be draws from one population of people
    (`population` of [`bootstrap_pauc`]) or of the same people; NaN where one of the sets has none.
    """
    drawn = [evaluation.bootstrap for evaluation in evaluations if evaluation.bootstrap is not None]
    return np.mean([d.replicates[:, d.methods.index(method), d.limits.index(limit)] for d in drawn], axis=0)


def mean_share_interval(evaluations: Sequence[Evaluation], method: str, limit: float) -> Interval | None:
    """
    Percentile interval of the mean share over several sets, the floors held; `None` without replicates, where the
    method lacks a set, or where the pAUC is not divided by starting error and limit.
    """
    shares = []
    for evaluation in evaluations:
        protocol, drawn = evaluation.protocol, evaluation.bootstrap
        if method not in evaluation.results or drawn is None:
            return None
        if not (protocol.divide_by_start and protocol.divide_by_limit):
            return None
        paucs = drawn.replicates[:, drawn.methods.index(method), drawn.limits.index(limit)]
        shares.append((1 - paucs) / (1 - evaluation.results[method].floor[limit]))
    means = np.mean(shares, axis=0)
    defined = means[np.isfinite(means)]
    if not len(defined):
        return None
    estimate = float(np.mean([evaluation.results[method].share[limit] for evaluation in evaluations]))
    low, high = np.quantile(defined, (0.025, 0.975))
    return Interval(estimate, float(low), float(high), 0.95, len(means) - len(defined))


def evaluate_methods(
    similarities: ArrayLike,
    mated: ArrayLike,
    qualities: Mapping[str, ArrayLike],
    protocol: str | EDCProtocol = "default",
    *,
    pairs: ArrayLike,
    identities: ArrayLike | None = None,
    replicates: int = 1000,
    seed: int = 0,
    population: ArrayLike | None = None,
    benchmark: str = "",
    fr_model: str = "",
) -> Evaluation:
    """
    Curves of several methods on the same pairs, and their intervals.

    Args:
        similarities, mated, qualities, protocol, pairs: As in [`edc_curves`]: qualities are (I,) of images.
        identities: (I,) labels of the people, which the bootstrap draws; `None`: no intervals. Mated pairs of an image
            whose label names nobody (`None`, NaN, an empty string) are left out.
        replicates: Of the bootstrap; 0: no intervals.
        seed: Of the bootstrap.
        population: (K,) labels of the people of all sets that are evaluated, as [`bootstrap_pauc`] takes it.
        benchmark, fr_model: Names for the report.

    Returns:
        [`Evaluation`], with what [`EDCWarning`] said among its notes.

    Raises:
        ValueError: As [`edc_curves`] and [`bootstrap_pauc`].
    """
    if isinstance(protocol, str):
        protocol = EDCProtocol.from_preset(protocol)
    bootstrap = None
    with noted(EDCWarning) as notes:
        if identities is not None:
            known = is_known(identities)
            if not known.all():
                pairs = np.asarray(pairs)
                kept = known_pairs(mated, (known[pairs[:, 0]], known[pairs[:, 1]]))
                similarities, mated, pairs = np.asarray(similarities)[kept], np.asarray(mated)[kept], pairs[kept]
        results = edc_curves(similarities, mated, qualities, protocol, pairs=pairs)
        if identities is not None and replicates:
            bootstrap = bootstrap_pauc(
                similarities,
                mated,
                qualities,
                identities,
                protocol,
                pairs=pairs,
                replicates=replicates,
                seed=seed,
                population=population,
            )
    return Evaluation(results, protocol, bootstrap, benchmark, fr_model, tuple(notes))


@contextmanager
def noted(category: type[Warning]) -> Iterator[list[str]]:
    """Warnings of this category inside of the block become the texts of the list, each once; others are passed on."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", category)
        yield notes
    for entry in caught:
        if not issubclass(entry.category, category):
            warnings.warn_explicit(entry.message, entry.category, entry.filename, entry.lineno)
        elif str(entry.message) not in notes:
            notes.append(str(entry.message))


def plain(value: Any) -> Any:
    """As JSON has it: lists, strings, and numbers of Python; `None` for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = ["TOO_FEW", "Evaluation", "evaluate_methods", "mean_replicates", "mean_share_interval"]
__all__ += ["noted", "plain", "verdict"]
