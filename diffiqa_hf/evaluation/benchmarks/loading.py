# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`load_benchmark`: a benchmark by its name, from a folder, an archive or a package, checked against Table 1."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from .benchmark import POOLINGS, Benchmark, BenchmarkError, BenchmarkWarning
from .cards import get_benchmark_card


# What each option is when it isn't given.
DEFAULTS = {
    "view": None,
    "pairs_file": None,
    "images": None,
    "pooling": None,
    "seed": 0,
    "num_pairs": 20_000,
}


def load_benchmark(
    name: str,
    root: str | os.PathLike,
    *,
    pairs: str = "protocol",
    strict: bool = False,
    **options: Any,
) -> Benchmark:
    """
    Reads a benchmark from the files as they are distributed. Nothing is downloaded, unpacked or written.

    Images come as the layout has them. Those of insightface's packages, of parquet files, of CALFW's and CPLFW's
    `aligned images` and, for LFW and XQLFW, of a folder or archive whose first image has 112x112 pixels are aligned
    crops; the rest (`aligned` is false) has to go through a [`FaceImageProcessor`] with `do_align=True`, which uses
    the column `landmarks` where it is given them, and its detector elsewhere. Where there is a column `box`
    (NIST's IJB-C), [`crop_to_box`] goes first.

    Args:
        name: One of [`BENCHMARKS`]: the seven of the paper, or `agedb-30`.
        root: The folder, the archive (`.zip`, `.tgz`), insightface's package (`.bin`) or a `.parquet`.
            `diffiqa data NAME` prints the layouts.
        pairs: `"protocol"`, or `"all"`: each image with each other once, I (I - 1) / 2 pairs of 9 bytes (87,549,528
            for LFW: 0.8 GB), where the source has identities.
        strict: Whether counts that differ from those of the benchmark are an error and not a warning.
        view (`str`): Of LFW: `"view2"` (default; `pairs.txt`, the paper's), `"view1"` (`pairsDevTest.txt`) or
            `"view1-train"` (`pairsDevTrain.txt`). In View 1, `peopleDevTest.txt` or `peopleDevTrain.txt` say whose
            images belong to it.
        pairs_file (`str`): Another place for the list of pairs, for LFW, XQLFW, CALFW and CPLFW.
        images (`str`): `"original"` or `"aligned"`, where CALFW, CPLFW (default: original, with landmarks) or Adience
            (default: aligned) have both.
        pooling (`str`): How the quality of an IJB-C template is pooled: `"mean"` (default), `"median"`, `"min"`,
            `"max"`.
        seed (`int`), num_pairs (`int`): For Adience's comparisons, which aren't published: 20,000 mated and as many
            non-mated ones are drawn, with seed 0.

    Raises:
        BenchmarkError: The files aren't there or aren't what they should be; the message names the first, `missing`
            all that are missing. With `strict`, also where counts differ.
        ValueError: There is no such benchmark, view or pooling.
        TypeError: The benchmark has no such option.
        ImportError: `datasets` isn't installed.

    Warns:
        BenchmarkWarning: Counts differ from those of the benchmark; both are named.
    """
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise ImportError("a benchmark is read with datasets: pip install 'diffiqa-hf[evaluate]'") from error
    from .files import FileTree
    from .layouts import LOADERS

    card = get_benchmark_card(name)
    if pairs not in ("protocol", "all"):
        raise ValueError(f"pairs is 'protocol' or 'all', not {pairs!r}")
    if unknown := sorted(set(options) - set(card.options)):
        having = ", ".join(card.options) or "none"
        raise TypeError(f"{card.name} has no option {unknown[0]!r}; it has {having}")
    options = {**DEFAULTS, **options}
    if options["pooling"] is not None and options["pooling"] not in POOLINGS:
        raise ValueError(f"pooling is one of {', '.join(POOLINGS)}, not {options['pooling']!r}")
    tree = FileTree(root)
    if card.bin_file is None and tree.root.is_file() and tree.root.suffix == ".bin":
        raise BenchmarkError(f"{root}: {card.title} is not read from a package of insightface")
    benchmark = LOADERS[card.name](tree, card, options)
    if pairs == "all":
        benchmark = _with_all_pairs(benchmark)
    if differences := benchmark.counts.differences(benchmark.expected):
        message = f"{card.name} from {root}: {'; '.join(differences)}"
        if strict:
            raise BenchmarkError(message)
        warnings.warn(message, BenchmarkWarning, stacklevel=2)
    return benchmark


def _with_all_pairs(benchmark: Benchmark) -> Benchmark:
    if benchmark.templates is not None or None in (identities := benchmark.images["identity"][:]):
        raise BenchmarkError(
            f"{benchmark.source}: has no identities, so that there are only the pairs of the protocol"
        )
    labels = np.unique(np.asarray(identities, dtype=str), return_inverse=True)[1]
    count = len(labels)
    pairs = np.empty((count * (count - 1) // 2, 2), np.int32)
    at = 0
    for row in range(count - 1):  # np.triu_indices would hold two int64 of each pair besides
        here = slice(at, at := at + count - 1 - row)
        pairs[here, 0] = row
        pairs[here, 1] = np.arange(row + 1, count)
    return replace(
        benchmark,
        pairs=pairs,
        mated=labels[pairs[:, 0]] == labels[pairs[:, 1]],
        folds=None,
        generated=False,
        protocol=f"{benchmark.name}{', ' + benchmark.view if benchmark.view else ''}: all pairs of its images",
        expected=replace(benchmark.expected, mated=None, nonmated=None),
    )


__all__ = ["load_benchmark"]
