# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The L2 norm of the embedding: MagFace (Meng et al., CVPR 2021), and the baseline for any FR model."""

import os
from typing import Any

import torch
from torch import nn

from ..calibration import find_calibration
from ..conversion.networks import load_fr_model
from ..image_processing_face import FaceImageProcessor
from .cards import MethodCard
from .network_method import NetworkMethod


class EmbeddingNorm(NetworkMethod):
    """The L2 norm of the embedding, of that before normalisation where the FR model gives unit embeddings."""

    cpu_batch_size = 32
    accelerator_batch_size = 256

    @classmethod
    def load(
        cls,
        card: MethodCard,
        *,
        weights: str | os.PathLike | nn.Module | None = None,
        fr_model: str | os.PathLike | nn.Module = "default",
        image_processor: FaceImageProcessor | None = None,
        **options: Any,
    ) -> "EmbeddingNorm":
        calibration = None
        if weights is None:
            model = load_fr_model(fr_model)
        else:
            model = load_fr_model(weights, card.dialect)
            if not isinstance(weights, nn.Module) and not os.path.isfile(weights):
                calibration = find_calibration(weights)
        method = cls(card, model, image_processor, **options)
        method.calibration = calibration
        return method

    @torch.no_grad()
    def raw_scores(self, faces: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        output = self.network(faces.to(self.device))
        if isinstance(output, tuple):
            embeddings, norms = output[0], output[1] if len(output) > 1 else None
        else:
            embeddings, norms = output.embeddings, getattr(output, "norms", None)
        if norms is not None:
            return norms.float(), {}
        return torch.linalg.vector_norm(embeddings.float(), dim=1), {}


__all__ = ["EmbeddingNorm"]
