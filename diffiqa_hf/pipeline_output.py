# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the quality pipelines return."""

from dataclasses import dataclass

import torch
from diffusers.utils import BaseOutput

from .quality_record import TERMS, FaceQualityRecord


@dataclass
class FaceQualityOutput(BaseOutput):
    """
    Output of a quality pipeline; N counts faces, in the order of the images.

    Args:
        scores (`torch.FloatTensor` of shape `(N,)`): Quality, higher is better; NaN where there is an error.
        terms (`dict[str, torch.FloatTensor]`): The similarities of Eq. 7 by name, each `(N,)` in [-1, 1]; of another
            method, the parts that its score is made of.
        image_indices (`torch.LongTensor` of shape `(N,)`): Which image each face is from.
        errors (`list[str | None]`): One line for each face that could not be scored.
        noisy, restored (`torch.FloatTensor` of shape `(N, 3, H, W)`, *optional*): With `output_images`, in [-1, 1];
            NaN where there is an error.
        percentiles (`torch.FloatTensor` of shape `(N,)`, *optional*): With a calibration, the per cent of its faces
            that score lower, in [0, 100]; NaN where there is an error.
        face_probabilities (`torch.FloatTensor` of shape `(N,)`, *optional*): With a face check
            ([`~diffiqa_hf.face_check.FaceCheck`]), of each being a face, in [0, 1]; NaN where it could not be read.
    """

    scores: torch.Tensor
    terms: dict[str, torch.Tensor]
    image_indices: torch.Tensor
    errors: list[str | None]
    noisy: torch.Tensor | None = None
    restored: torch.Tensor | None = None
    percentiles: torch.Tensor | None = None
    face_probabilities: torch.Tensor | None = None


__all__ = ["TERMS", "FaceQualityOutput", "FaceQualityRecord"]
