# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Quality labels for many faces: for batches of rows (`labeller`), in shards that several machines write (`shards`), with
Ray Data (`ray`), and the best faces of each person by them (`best_shot`). Torch is imported with the labeller alone.
"""

from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .labeller import QualityLabeller, labelled_features


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import labeller

        return getattr(labeller, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["QualityLabeller", "labelled_features"]
