# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the quality pipelines return."""

from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.utils import BaseOutput


# The five similarities of Eq. 7, each between the embedding of the input face and that of ...
TERMS = ("noisy", "restored", "flipped", "noisy_flipped", "restored_flipped")


@dataclass
class FaceQualityRecord:
    """
    The quality of one face, or the reason why there is none.

    Args:
        index (`int`): Position of the image among the images given.
        face (`int`): Position of the face within its image.
        score (`float`): Quality, higher is better; NaN where `error` says why.
        terms (`dict[str, float]`): The cosine similarities that the score is the mean of, in [-1, 1], by their names
            in `TERMS`. One that was switched off is missing.
        error (`str`, *optional*): One line: why the image could not be scored.
        percentile (`float`, *optional*): With a calibration, the per cent of its faces that score lower, in [0, 100];
            NaN where the score is.
        face_probability (`float`, *optional*): With a face check, of the picture being one of a face, in [0, 1].
        box, landmarks: Where the face was found, in pixels of the image: (x, y, width, height) and (5, 2).
        noisy, restored (`torch.FloatTensor`, *optional*): With `output_images`, the first noisy and restored image of
            the face, (3, H, W) in [-1, 1].
    """

    index: int
    face: int = 0
    score: float = float("nan")
    terms: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    box: Any = None
    landmarks: Any = None
    noisy: torch.Tensor | None = None
    restored: torch.Tensor | None = None
    percentile: float | None = None
    face_probability: float | None = None


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
