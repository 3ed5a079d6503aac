# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""FaceQgen: Hernandez-Ortega, Fierrez, Serna and Morales, FG 2021."""

import torch
from torch import nn

from ..image_processing_face import FaceImageProcessor
from ..models import faceqgen  # noqa: F401 - makes it known to AutoModelForFaceQuality
from .cards import MethodCard
from .regression import QualityModelMethod


_MEASURES = ("ssim", "mse", "discriminator")


class FaceQgen(QualityModelMethod):
    """
    How much a generator changes the face to make it a canonical one of high quality. All three measures are terms.

    Args:
        measure (`str`, *optional*): Which of them is the score: `"ssim"`, `"mse"` (its negative) or
            `"discriminator"`; what the network's configuration says when not given.
    """

    cpu_batch_size = 16
    accelerator_batch_size = 128

    def __init__(
        self,
        card: MethodCard,
        model: nn.Module,
        image_processor: FaceImageProcessor | None = None,
        measure: str | None = None,
    ):
        super().__init__(card, model, image_processor)
        if measure is not None and measure not in _MEASURES:
            raise ValueError(f"measure has to be one of {', '.join(_MEASURES)}, got {measure!r}")
        self.measure = measure or model.config.measure

    @torch.no_grad()
    def raw_scores(self, faces: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        output = self.network(faces.to(self.device), return_dict=True)
        terms = {name: output[name].float() for name in _MEASURES}
        return -terms["mse"] if self.measure == "mse" else terms[self.measure], terms


__all__ = ["FaceQgen"]
