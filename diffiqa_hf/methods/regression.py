# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Networks that were trained to give the score: DifFIQA(R), eDifFIQA, CR-FIQA and SDD-FIQA."""

import os

import torch
from torch import nn

from ..image_processing_face import FaceImageProcessor
from ..models import AutoModelForFaceQuality
from .cards import MethodCard
from .method import FaceQualityMethod, load_complete, load_published


class QualityModelMethod(FaceQualityMethod):
    """The `scores` of a `...ForFaceQuality` model."""

    cpu_batch_size = 32
    accelerator_batch_size = 256

    @classmethod
    def load(
        cls,
        card: MethodCard,
        *,
        weights: str | os.PathLike | nn.Module,
        image_processor: FaceImageProcessor | None = None,
    ) -> "QualityModelMethod":
        if isinstance(weights, nn.Module):
            model = weights
        elif os.path.isfile(weights):
            model = load_published(weights, card.dialect)
        else:
            model = load_complete(AutoModelForFaceQuality, weights, "face quality model")
        what = type(model).__name__
        if what not in card.networks:
            raise ValueError(f"{card.name} is a {' or '.join(card.networks)}, this is a {what}")
        if card.head is not None:
            head = "linear" if model.config.quality_hidden_size is None else "mlp"
            if head != card.head:
                raise ValueError(f"{card.name} has a quality head of kind {card.head}, this one is {head}")
        return cls(card, model, image_processor)

    @torch.no_grad()
    def raw_scores(self, faces: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.model(faces.to(self.device)).scores.float(), {}


__all__ = ["QualityModelMethod"]
