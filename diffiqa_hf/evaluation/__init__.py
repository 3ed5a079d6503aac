# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Evaluation of face image quality: error-versus-discard curves, their areas and intervals."""

from .benchmarks import BENCHMARKS, Benchmark, BenchmarkError, BenchmarkWarning, load_benchmark
from .bootstrap import BootstrapResult, Interval, bootstrap_pauc
from .comparison import Evaluation, evaluate_methods
from .edc import EDCResult, edc_curve, edc_curves
from .groups import GroupComparison, compare_groups
from .pair_sampling import sample_pairs
from .protocol import PROTOCOLS, EDCProtocol, EDCWarning
from .thresholds import fmr_threshold
from .verification import Comparisons, compare_embeddings, edc_from_embeddings, error_rates


__all__ = [
    "BENCHMARKS",
    "PROTOCOLS",
    "Benchmark",
    "BenchmarkError",
    "BenchmarkWarning",
    "BootstrapResult",
    "Comparisons",
    "EDCProtocol",
    "EDCResult",
    "EDCWarning",
    "Evaluation",
    "GroupComparison",
    "Interval",
    "bootstrap_pauc",
    "compare_embeddings",
    "compare_groups",
    "edc_curve",
    "edc_curves",
    "edc_from_embeddings",
    "error_rates",
    "evaluate_methods",
    "fmr_threshold",
    "load_benchmark",
    "sample_pairs",
]
