# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Whether a picture is one of a face at all: a quality score is a number also for a black picture, or for a cat.

[`FaceCheck`] asks the second output of a quality network, the package's DifFIQA(R) unless another is given, which
costs about as much as reading the image. It can be put before any scorer, the pipeline's and every method's:
`scorer.face_check = FaceCheck.load(action="refuse")`. The default pipeline has one, with `action="lower"`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from .default_weights import QUALITY_MODEL
from .pipeline_output import FaceQualityRecord


ACTIONS = ("mark", "lower", "refuse")
LEAST_PROBABILITY = 0.5
# What DifFIQA's score, a mean of cosines in [-1, 1], is lowered by: no face is below -1 + 1.
LOWERED_BY = 2.0


@dataclass
class FaceCheck:
    """
    Args:
        model: A `...ForFaceQuality` model whose configuration has `face_check`.
        action (`str`): What is done with a picture that is no face. `"mark"`: nothing; its record has the
            `face_probability`, as all have. `"lower"`: DifFIQA's score, which is a mean of cosines, is lowered by 2,
            so that it is below that of every face (only the pipeline does that). `"refuse"`: it has no score, and the
            record's `error` says why.
    """

    model: torch.nn.Module
    action: str = "mark"

    def __post_init__(self):
        if self.action not in ACTIONS:
            raise ValueError(f"the action is one of {', '.join(ACTIONS)}, not {self.action!r}")
        if not getattr(getattr(self.model, "config", None), "face_check", False):
            raise ValueError(f"{type(self.model).__name__} has no output that tells faces (face_check)")
        self.model.eval()

    @classmethod
    def load(cls, source: str | os.PathLike = "default", action: str = "mark") -> FaceCheck:
        """With the model of a folder or Hub id; `"default"` is the package's DifFIQA(R)."""
        from .conversion.networks import load_quality_model

        return cls(load_quality_model(QUALITY_MODEL if source == "default" else source), action)

    @torch.no_grad()
    def probabilities(self, faces: torch.Tensor) -> torch.Tensor:
        """Of being a face, in [0, 1], float32 (B,), for canonical faces (B, 3, H, W)."""
        parameter = next(self.model.parameters())
        return self.model(faces.to(parameter.device, parameter.dtype)).face_logits.float().sigmoid().cpu()

    def __call__(self, batch: list[tuple[FaceQualityRecord, torch.Tensor | None]]) -> list:
        """A batch of [`stream_faces`], its records marked; what is refused has an error, and no face any more."""
        faces = [face for _, face in batch if face is not None]
        if not faces:
            return batch
        found = iter(self.probabilities(torch.stack(faces)).tolist())
        checked = []
        for record, face in batch:
            if face is not None:
                record.face_probability = next(found)
                if self.action == "refuse" and record.face_probability < LEAST_PROBABILITY:
                    record.error = f"this does not look like a face (probability {record.face_probability:.2f})"
                    face = None
            checked.append((record, face))
        return checked

    def lowered(self, record: FaceQualityRecord) -> float:
        """The score of a record of the pipeline as it is to be."""
        if self.action == "lower" and (record.face_probability or 0.0) < LEAST_PROBABILITY:
            return record.score - LOWERED_BY
        return record.score


__all__ = ["FaceCheck"]
