# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The benchmarks of the paper's Table 1 from the files as they are distributed: images, identities and comparisons.

Nothing is downloaded, and nothing is written. [`BENCHMARKS`] says of each where a person gets it and under which
terms; `diffiqa data` prints that and checks a folder. What reads files (`datasets`, pyarrow) is imported when
something is loaded.
"""

from .benchmark import POOLINGS, Benchmark, BenchmarkError, BenchmarkWarning, Counts
from .cards import BENCHMARKS, BenchmarkCard, get_benchmark_card
from .files import crop_to_box
from .loading import load_benchmark


__all__ = [
    "BENCHMARKS",
    "POOLINGS",
    "Benchmark",
    "BenchmarkCard",
    "BenchmarkError",
    "BenchmarkWarning",
    "Counts",
    "crop_to_box",
    "get_benchmark_card",
    "load_benchmark",
]
