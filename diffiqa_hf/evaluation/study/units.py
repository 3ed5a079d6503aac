# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What a benchmark compares, by the embeddings of its images: similarities of pairs, and the people behind them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..benchmarks import Benchmark
from ..comparison import noted
from ..identities import is_known
from ..protocol import EDCWarning
from ..verification import compare_embeddings
from .config import ConfigError


def compare_units(benchmark: Benchmark, rows: dict[str, np.ndarray]):
    """Similarities of the pairs whose images could be embedded, with what a reader has to know of the others."""
    embeddings, errors = rows["embeddings"], rows["errors"]
    good = np.isfinite(embeddings).all(axis=1) & (errors == "")
    if not good.any():
        raise ConfigError(f"{benchmark.name}: no image could be embedded, {benchmark.images[0]['file']}: {errors[0]}")
    notes = []
    if benchmark.templates is None:
        units = benchmark.pool_embeddings(embeddings)
    else:
        usable = replace(benchmark, images=benchmark.images.select(np.flatnonzero(good)))
        units = usable.pool_embeddings(embeddings[good])  # a template without any image is zero
    usable = np.isfinite(units).all(axis=1) & (np.linalg.norm(units, axis=1) > 0)
    kept = usable[benchmark.pairs].all(axis=1)
    pairs, mated = benchmark.pairs[kept], benchmark.mated[kept]
    left_out = f"{int((~kept).sum()):,} of {len(kept):,} pairs are left out"
    if not good.all():
        first = int(np.flatnonzero(~good)[0])
        notes.append(
            f"{int((~good).sum()):,} images could not be embedded (the first is {benchmark.images[first]['file']}: "
            f"{errors[first]}), and {left_out}."
        )
    zero = good & ~(np.abs(embeddings) > 0).any(axis=1)
    if zero.any():
        first = benchmark.images[int(np.flatnonzero(zero)[0])]["file"]
        notes.append(
            f"The embeddings of {int(zero.sum()):,} images are zero (the first is that of {first}), which have no "
            f"direction to compare, and {left_out}."
        )
    units = np.where(usable[:, None], units, 1)  # in no pair any more
    with noted(EDCWarning) as repeated:
        comparisons = compare_embeddings(units, np.arange(len(units)), pairs)
    return comparisons.similarities, mated, comparisons.pairs, notes + repeated


def named_people(benchmark: Benchmark) -> np.ndarray:
    """
    The people of the units by names that are the same in other benchmarks: what the source calls them, unless it is a
    number, which is another person in each; `None` where it isn't known who it is.
    """
    people = benchmark.unit_people()
    known = is_known(people)
    names = np.empty(len(people), object)
    names[known] = [
        label if isinstance(label, str) and not label.isdecimal() else f"{benchmark.name}: {label}"
        for label in people[known].tolist()
    ]
    return names


__all__ = ["compare_units", "named_people"]
