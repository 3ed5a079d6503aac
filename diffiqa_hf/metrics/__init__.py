# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Modules for `evaluate.load`: a folder each, in the form of a metric on the Hub."""

from pathlib import Path


METRICS = ("edc", "pauc")


def metrics_path(name: str) -> str:
    """The folder of the metric `name` (`"pauc"` or `"edc"`), for `evaluate.load(metrics_path(name))`."""
    if name not in METRICS:
        raise ValueError(f"There is no metric {name!r}; there are {', '.join(METRICS)}.")
    return str(Path(__file__).parent / name)
