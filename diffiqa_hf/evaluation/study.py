# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Several quality methods on the same comparisons: curves, intervals, and which of them can be told apart."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .bootstrap import BootstrapResult, Interval, bootstrap_pauc
from .edc import EDCProtocol, EDCResult, EDCWarning, edc_curves


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

    def differences(self, limit: float) -> list[tuple[str, str, Interval]]:
        """pAUC(first) - pAUC(second) with its interval for each two methods; empty without a bootstrap."""
        if self.bootstrap is None:
            return []
        pairs = combinations(self.methods, 2)
        found = [(first, second, self.bootstrap.difference(first, second, limit)) for first, second in pairs]
        return [entry for entry in found if not math.isnan(entry[2].low)]

    def to_dict(self) -> dict[str, Any]:
        """All but the curves in plain numbers, `None` for what is undefined: strict JSON."""
        methods = {}
        fnmr = self.fnmr_interval
        for name, result in self.results.items():
            entry = result.summary()
            entry["fnmr_interval"] = None if fnmr is None else [fnmr.low, fnmr.high]
            for kind in ("pauc", "floor", "share"):
                entry[kind] = {f"{limit:g}": value for limit, value in entry[kind].items()}
            intervals = {f"{limit:g}": self.interval(name, limit) for limit in self.protocol.limits}
            entry["interval"] = {
                limit: None if interval is None else [interval.low, interval.high]
                for limit, interval in intervals.items()
            }
            methods[name] = entry
        differences = [
            {
                "limit": limit,
                "first": first,
                "second": second,
                "difference": interval.estimate,
                "interval": [interval.low, interval.high],
                "told_apart": interval.excludes_zero,
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
                "methods": methods,
                "differences": differences,
                "notes": list(self.notes),
            }
        )


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
    benchmark: str = "",
    fr_model: str = "",
) -> Evaluation:
    """
    Curves of several methods on the same pairs, and their intervals.

    Args:
        similarities, mated, qualities, protocol, pairs: As in [`edc_curves`]: qualities are (I,) of images.
        identities: (I,) labels of the people, which the bootstrap draws; `None`: no intervals.
        replicates: Of the bootstrap; 0: no intervals.
        seed: Of the bootstrap.
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
        results = edc_curves(similarities, mated, qualities, protocol, pairs=pairs)
        if identities is not None and replicates:
            bootstrap = bootstrap_pauc(
                similarities, mated, qualities, identities, protocol, pairs=pairs, replicates=replicates, seed=seed
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


__all__ = ["Evaluation", "evaluate_methods", "noted", "plain"]
