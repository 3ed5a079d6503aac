# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""CLIB-FIQA: Ou, Li, Wang and Kwong, CVPR 2024."""

import torch

from ..models import clib_fiqa  # noqa: F401 - makes it known to AutoModelForFaceQuality
from ..models.clib_fiqa.configuration_clib_fiqa import PROMPT_WORDS
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
        terms = {}
        for axis, words in enumerate(list(PROMPT_WORDS.values())[:-1], start=1):
            # The last word of each is the good one.
            terms[words[-1]] = output.probabilities.select(axis, -1).flatten(1).sum(1).float()
        return output.scores.float(), terms


__all__ = ["CLIBFIQA"]
