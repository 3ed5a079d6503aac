# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The score of one face, on its way from a network to a table. Imported without torch."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    import torch


# The five similarities of Eq. 7, each between the embedding of the input face and that of ...
TERMS = ("noisy", "restored", "flipped", "noisy_flipped", "restored_flipped")


def used_terms(use_flip: bool = True, use_forward: bool = True, use_backward: bool = True) -> set[str]:
    """The names in `TERMS` of what a call with these settings compares."""
    terms = {"flipped"} if use_flip else set()
    if use_forward:
        terms |= {"noisy", "noisy_flipped"} if use_flip else {"noisy"}
    if use_backward:
        terms |= {"restored", "restored_flipped"} if use_flip else {"restored"}
    return terms


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
        num_faces (`int`, *optional*): How many faces the detector found in the picture.
        measures (`dict[str, float]`, *optional*): What else was measured of the face, by the names in
            [`~diffiqa_hf.images.reasons.MEASURES`]; `None` where there is none. Only where the image processor's
            `measuring` is set.
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
    noisy: "torch.Tensor | None" = None
    restored: "torch.Tensor | None" = None
    percentile: float | None = None
    face_probability: float | None = None
    num_faces: int | None = None
    measures: dict[str, float | None] | None = None


def shown_score(score: float) -> str:
    """A score for people, in four digits or so: PFE's scores are around -0.001, those of SDD-FIQA go to 100."""
    return f"{score:.4f}" if score == 0 or 0.01 <= abs(score) < 10_000 else f"{score:.4g}"


__all__ = ["TERMS", "FaceQualityRecord", "shown_score", "used_terms"]
