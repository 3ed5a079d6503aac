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
from typing import TYPE_CHECKING

import numpy as np

from .default_weights import QUALITY_MODEL
from .inference.onnx_session import OnnxNetwork, has_onnx_runtime
from .quality_record import FaceQualityRecord


if TYPE_CHECKING:
    import torch


ACTIONS = ("mark", "lower", "refuse")
LEAST_PROBABILITY = 0.5
# What DifFIQA's score, a mean of cosines in [-1, 1], is lowered by: no face is below -1 + 1.
LOWERED_BY = 2.0


@dataclass
class FaceCheck:
    """
    Args:
        model: A `...ForFaceQuality` model whose configuration has `face_check`, or its ONNX form.
        action (`str`): What is done with a picture that is no face. `"mark"`: nothing; its record has the
            `face_probability`, as all have. `"lower"`: DifFIQA's score, which is a mean of cosines, is lowered by 2,
            so that it is below that of every face (only the pipeline does that). `"refuse"`: it has no score, and the
            record's `error` says why.
    """

    model: torch.nn.Module | OnnxNetwork
    action: str = "mark"

    def __post_init__(self):
        if self.action not in ACTIONS:
            raise ValueError(f"the action is one of {', '.join(ACTIONS)}, not {self.action!r}")
        if isinstance(self.model, OnnxNetwork):
            tells, name = "face_logits" in self.model.outputs, self.model.path
        else:
            tells, name = getattr(getattr(self.model, "config", None), "face_check", False), type(self.model).__name__
        if not tells:
            raise ValueError(f"{name} has no output that tells faces (face_check)")
        if not isinstance(self.model, OnnxNetwork):
            self.model.eval()

    @classmethod
    def load(cls, source: str | os.PathLike = "default", action: str = "mark", engine: str = "auto") -> FaceCheck:
        """
        With the model of a folder or Hub id; `"default"` is the package's DifFIQA(R). The engine is `"torch"`, or, as
        with `"auto"` where that is installed and the folder has such a form, `"onnx"`: ONNX Runtime.
        """
        from .scoring.onnx_forms import find_form

        source = QUALITY_MODEL if source == "default" else source
        if engine != "torch" and has_onnx_runtime() and (form := find_form(source)) is not None:
            return cls(form, action)
        if engine == "onnx":
            raise ValueError(f"{os.fspath(source)} has no ONNX form")
        from .conversion.networks import load_quality_model

        return cls(load_quality_model(source), action)

    def probabilities(self, faces: np.ndarray) -> np.ndarray:
        """Of being a face, in [0, 1], float32 (B,), for canonical faces (B, 3, H, W), float32."""
        if isinstance(self.model, OnnxNetwork):
            logits = self.model.run(faces)["face_logits"].astype(np.float64)
            return np.exp(-np.logaddexp(0, -logits)).astype(np.float32)
        import torch

        parameter = next(self.model.parameters())
        with torch.no_grad():
            logits = self.model(torch.from_numpy(faces).to(parameter.device, parameter.dtype)).face_logits
        return logits.float().sigmoid().cpu().numpy()

    def __call__(self, batch: list[tuple[FaceQualityRecord, np.ndarray | None]]) -> list:
        """A batch of [`stream_faces`], its records marked; what is refused has an error, and no face any more."""
        faces = [face for _, face in batch if face is not None]
        if not faces:
            return batch
        found = iter(self.probabilities(np.stack(faces)).tolist())
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
