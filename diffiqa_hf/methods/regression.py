# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Networks that were trained to give the score: DifFIQA(R), eDifFIQA, CR-FIQA and SDD-FIQA."""

import os
from typing import Any

import torch
from torch import nn

from ..calibration import find_calibration
from ..conversion.networks import load_quality_model
from ..default_weights import QUALITY_MODEL
from ..image_processing_face import FaceImageProcessor
from ..inference.network_views import output_of, uncompiled
from .cards import CARDS, MethodCard
from .network_method import NetworkMethod


class QualityModelMethod(NetworkMethod):
    """The `scores` of a `...ForFaceQuality` model."""

    cpu_batch_size = 32
    accelerator_batch_size = 256

    @classmethod
    def load(
        cls,
        card: MethodCard,
        *,
        weights: str | os.PathLike | nn.Module = "default",
        image_processor: FaceImageProcessor | None = None,
        **options: Any,
    ) -> "QualityModelMethod":
        calibration = None
        if isinstance(weights, str) and weights == "default":
            weights = QUALITY_MODEL
        model = load_quality_model(weights, card.dialect)
        if not isinstance(weights, nn.Module) and not os.path.isfile(weights):
            calibration = find_calibration(weights)
        what = type(uncompiled(model)).__name__
        if what not in card.networks:
            raise ValueError(f"{card.name} is a {' or '.join(card.networks)}, this is a {what}")
        if card.head is not None and (head := _head(model)) != card.head:
            raise ValueError(f"{card.name} has a quality head of kind {card.head}, this one is {head}")
        method = cls(card, model, image_processor, **options)
        method.calibration = calibration
        return method

    @torch.no_grad()
    def raw_scores(self, faces: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return output_of(self.network, faces.to(self.device), "scores").float(), {}

    def calibration_settings(self) -> dict[str, Any]:
        # By the network, not by what it was called: a CR-FIQA has the same scores as a DifFIQA(R) of its weights.
        return super().calibration_settings() | {"method": _card_of(self.model).name}


def method_of(model: nn.Module, image_processor: FaceImageProcessor | None = None) -> QualityModelMethod:
    """
    The method of a face quality model, told by its class and its head; of those that share both, DifFIQA(R) and
    CR-FIQA, the first.

    Raises:
        ValueError: It is the network of no method.
    """
    card = _card_of(model)
    return card.load_class()(card, model, image_processor)


def _card_of(model: nn.Module) -> MethodCard:
    model = uncompiled(model)
    for card in CARDS:
        if type(model).__name__ in card.networks and card.head in (None, _head(model)):
            return card
    raise ValueError(f"no method has a {type(model).__name__} as its network")


def _head(model: nn.Module) -> str:
    return "linear" if getattr(model.config, "quality_hidden_size", None) is None else "mlp"


__all__ = ["QualityModelMethod", "method_of"]
