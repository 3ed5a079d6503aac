# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Quality labels for many faces: for batches of rows (`labeller`), in shards that several machines write (`shards`), with
Ray Data (`ray`), and the best faces of each person by them (`best_shot`).
"""

from .labeller import QualityLabeller, labelled_features


__all__ = ["QualityLabeller", "labelled_features"]
