# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""PFE: Shi and Jain, "Probabilistic Face Embeddings", ICCV 2019."""

import torch

from ..models import pfe  # noqa: F401 - makes it known to AutoModelForFaceQuality
from .regression import QualityModelMethod


class PFEMethod(QualityModelMethod):
    r"""The harmonic mean of the variances over the dimensions, $D / \sum_d \sigma_d^{-2}$. Lower is better."""

    @torch.no_grad()
    def raw_scores(self, faces: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        scores, terms = super().raw_scores(faces, seed)
        return -scores, terms


__all__ = ["PFEMethod"]
