# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""FaceQnet: Hernandez-Ortega et al., ICB 2019 (v0) and 2020 (v1)."""

import torch

from ..models import faceqnet  # noqa: F401 - makes it known to AutoModelForFaceQuality
from .lightqnet import LightQNetMethod


class FaceQnetMethod(LightQNetMethod):
    """
    What FaceQnet gives, clipped to [0, 1] as its authors' script does; the number before is the term `"unclipped"`.
    Its faces are made at its own size at once, not resized from 112x112.
    """

    @torch.no_grad()
    def raw_scores(self, faces: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        scores, _ = super().raw_scores(faces, seed)
        return scores.clamp(0, 1), {"unclipped": scores}


__all__ = ["FaceQnetMethod"]
