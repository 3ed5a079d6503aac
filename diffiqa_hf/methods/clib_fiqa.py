# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""CLIB-FIQA: Ou, Li, Wang and Kwong, CVPR 2024."""

import torch

from ..models import clib_fiqa  # noqa: F401 - makes it known to AutoModelForFaceQuality
from ..models.clib_fiqa.modeling_clib_fiqa import good_probabilities
from .lightqnet import LightQNetMethod


class CLIBFIQA(LightQNetMethod):
    """
    The quality that CLIP expects of a face, and as terms the probabilities of what is good in it: `"clear"`,
    `"unobstructed"`, `"frontal"`, `"typical expression"` and `"normal lighting"`. Its faces are made at its own size
    at once, not resized from 112x112.
    """

    cpu_batch_size = 16
    accelerator_batch_size = 128

    @torch.no_grad()
    def raw_scores(self, faces: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        output = self.network(faces.to(self.device), return_dict=True)
        return output.scores.float(), good_probabilities(output.probabilities)


__all__ = ["CLIBFIQA"]
