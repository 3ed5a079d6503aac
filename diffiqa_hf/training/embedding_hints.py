# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What a quality network learns beside its scores: to tell what FR models see in a picture. Quality is a number a face;
an embedding is a hundred, and of few faces a network learns more by them (hints, as in Romero et al., "FitNets", ICLR
2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .pool import MIRRORED, Pool, unit


SURE = 0.5  # label from which on an embedding counts in full: that of mush says little


class WithEmbeddings(nn.Module):
    """
    A quality model beside a linear layer for each of some FR models, from what the score is read from to the FR
    model's embedding of the picture. The layers are for training alone.

    Args:
        quality: A `...ForFaceQuality` model.
        widths: Of the FR models' embeddings.
    """

    def __init__(self, quality: nn.Module, widths: Sequence[int]):
        super().__init__()
        self.quality = quality
        self.layers = nn.ModuleList(nn.Linear(quality.config.embedding_size, width) for width in widths)
        # As diffusers and transformers have it: a copy is made of the class and this.
        self.config: dict[str, Any] = {"class": type(quality), "config": quality.config, "widths": list(widths)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WithEmbeddings:
        return cls(config["class"](config["config"]), config["widths"])

    def forward(
        self, pixel_values: torch.Tensor, wanted: Sequence[torch.Tensor], weights: torch.Tensor
    ) -> tuple[Any, torch.Tensor]:
        """
        The output of the quality model, and the loss: one less the cosine, the mean over the FR models and, by the
        weights, over the pictures; 0 where there is no FR model.

        Args:
            pixel_values: Canonical faces (B, 3, H, W).
            wanted: Of each FR model (B, its width), of unit length.
            weights: (B,), from 0 on.
        """
        output = self.quality(pixel_values)
        if not self.layers:
            return output, output.scores.new_zeros(())
        found = [
            1 - F.cosine_similarity(layer(output.embeddings.float()), target, dim=1)
            for layer, target in zip(self.layers, wanted, strict=True)
        ]
        return output, (torch.stack(found).mean(0) * weights).sum() / weights.sum().clamp(min=1)


def embedding_targets(pool: Pool, names: Sequence[str]) -> list[np.ndarray]:
    """
    Of each FR model (N, D), float32, of unit length: the mean of its embeddings of a picture and of its mirror image,
    which a score is not to depend on, from the mean of all faces that are trained on.
    """
    known = ((pool.table["kind"] == "face") & ~pool.table["heldout"]).to_numpy()
    targets = []
    for name in names:
        both = np.asarray(pool.embeddings[name], np.float32) + np.asarray(pool.embeddings[name + MIRRORED], np.float32)
        targets.append(unit(both - both[known].mean(0)))
    return targets


def embedding_weights(labels: torch.Tensor, is_face: torch.Tensor) -> torch.Tensor:
    """How much an embedding counts, (B,) in [0, 1]: by the label, and not at all of what is no face."""
    return is_face * (labels / SURE).clamp(0, 1)


__all__ = ["WithEmbeddings", "embedding_targets", "embedding_weights"]
