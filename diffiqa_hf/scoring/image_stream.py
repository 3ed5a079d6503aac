# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Images of every kind, as a person gives them, to batches of canonical faces, and records of scores to one output: what
everything that scores images shares.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.utils import logging
from tqdm.auto import tqdm

from ..calibration import Calibration
from ..face_check import FaceCheck
from ..image_processing_face import FaceImageError, FaceImageProcessor
from ..pipeline_output import FaceQualityOutput, FaceQualityRecord


logger = logging.get_logger(__name__)

# Images that may wait for a batch to fill up: those without a face fill none.
MAX_PENDING = 256


def as_iterable(images: Any) -> tuple[Iterable, int | None]:
    """One image or many, as an iterable, and how many where that is known."""
    one = isinstance(images, (str, os.PathLike, PIL.Image.Image, dict))
    if isinstance(images, (np.ndarray, torch.Tensor)):
        if images.ndim == 4:
            return images, len(images)
        one = True
    if one:
        return [images], 1
    return images, len(images) if hasattr(images, "__len__") else None


def check_call(batch_size: int | None, seed: int, on_error: str) -> None:
    """
    What every call that scores images checks of its arguments.

    Raises:
        ValueError: A value makes no sense.
    """
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"batch_size has to be a positive integer, got {batch_size!r}")
    if not isinstance(seed, int):
        raise ValueError(f"seed has to be an integer, got {seed!r}")
    if on_error not in ("nan", "raise"):
        raise ValueError(f"on_error is 'nan' or 'raise', not {on_error!r}")


def stream_faces(
    images: Any,
    landmarks: Any,
    image_processor: FaceImageProcessor,
    batch_size: int,
    on_error: str = "nan",
    progress_bar_config: dict[str, Any] | None = None,
    face_check: FaceCheck | None = None,
) -> Iterator[list[tuple[FaceQualityRecord, torch.Tensor | None]]]:
    """
    Reads images as they are needed, in batches.

    Args:
        images: One or many, as [`DifFIQAPipeline`] takes them.
        landmarks: `None`, or for each image five points (5, 2) or `None`.
        image_processor: Makes the faces.
        batch_size: Faces in a batch, at most; one more image may bring several.
        on_error: `"nan"` gives an image that can't be read a record with the reason, `"raise"` raises it.
        progress_bar_config: Arguments of tqdm, which counts images; no bar when not given.
        face_check: Says of each whether it is a face.

    Yields:
        Pairs of a record without a score and its face, `(3, H, W)` float32 in [-1, 1]; the face is `None` where the
        record has an error.

    Raises:
        FaceImageError: With `on_error="raise"`.
    """
    images, total = as_iterable(images)
    landmarks = iter(landmarks) if landmarks is not None else None
    pending: list[tuple[FaceQualityRecord, torch.Tensor | None]] = []
    faces = 0
    progress_bar_config = {"disable": True} if progress_bar_config is None else progress_bar_config
    with tqdm(total=total, unit="image", **progress_bar_config) as progress:
        for index, image in enumerate(images):
            points = next(landmarks, None) if landmarks is not None else None
            try:
                crops = image_processor.extract_faces(image, points)
            except FaceImageError as error:
                if on_error == "raise":
                    raise
                pending.append((FaceQualityRecord(index, error=str(error)), None))
                crops = []
            for number, crop in enumerate(crops):
                record = FaceQualityRecord(index, number, box=crop.box, landmarks=crop.landmarks)
                pending.append((record, torch.from_numpy(crop.pixel_values)))
                faces += 1
            progress.update()
            if faces >= batch_size or len(pending) >= MAX_PENDING:
                yield pending if face_check is None else face_check(pending)
                pending, faces = [], 0
        if pending:
            yield pending if face_check is None else face_check(pending)


def with_percentiles(
    records: Iterable[FaceQualityRecord], calibration: Calibration | None
) -> Iterator[FaceQualityRecord]:
    """The records one by one, with their percentiles where there is a calibration."""
    for record in records:
        if calibration is not None:
            record.percentile = float(calibration.percentiles(record.score))
        yield record


def collect(records: list[FaceQualityRecord], terms: Iterable[str], **images: torch.Tensor) -> FaceQualityOutput:
    """
    The records as one output, with these of their terms (NaN where a record lacks one), their percentiles where they
    have some, and the images that are given. Warns of failed ones.
    """
    if failed := [record for record in records if record.error]:
        first = f"image {failed[0].index}: {failed[0].error}"
        logger.warning(f"{len(failed)} of {len(records)} faces could not be scored and are NaN ({first})")
    percentiles = [record.percentile for record in records]
    checked = any(record.face_probability is not None for record in records)
    return FaceQualityOutput(
        scores=torch.tensor([record.score for record in records]),
        terms={name: torch.tensor([record.terms.get(name, float("nan")) for record in records]) for name in terms},
        image_indices=torch.tensor([record.index for record in records], dtype=torch.long),
        errors=[record.error for record in records],
        percentiles=torch.tensor(percentiles) if percentiles and None not in percentiles else None,
        face_probabilities=_face_probabilities(records) if checked else None,
        **images,
    )


def _face_probabilities(records: list[FaceQualityRecord]) -> torch.Tensor:
    found = [record.face_probability for record in records]
    return torch.tensor([float("nan") if value is None else value for value in found])


__all__ = ["as_iterable", "check_call", "collect", "stream_faces", "with_percentiles"]
