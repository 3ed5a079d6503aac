# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Images of every kind, as a person gives them, to batches of canonical faces, and records of scores to one output: what
everything that scores images shares.
"""

import logging
import os
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image

from ..calibration import Calibration
from ..images.extraction import FaceCrop, FaceExtractor
from ..images.loading import FaceImageError, is_open_file
from ..quality_record import FaceQualityRecord
from .threads import cores, in_order


if TYPE_CHECKING:
    import torch

    from ..face_check import FaceCheck
    from ..pipeline_output import FaceQualityOutput

logger = logging.getLogger(__name__)

# Images that may wait for a batch to fill up: those without a face fill none.
MAX_PENDING = 256
# Images, of those that are all there from the beginning, that are read ahead of the batch in the making.
READ_AHEAD = 64
# More threads than this wait for each other to hold Python's lock.
MAX_READING_THREADS = 16


def as_iterable(images: Any) -> tuple[Iterable, int | None]:
    """One image or many, as an iterable, and how many where that is known."""
    one = isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike, PIL.Image.Image, dict))
    one = one or is_open_file(images)
    torch = sys.modules.get("torch")  # who has a tensor has imported it
    if isinstance(images, np.ndarray) or (torch is not None and isinstance(images, torch.Tensor)):
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
    image_processor: FaceExtractor,
    batch_size: int,
    on_error: str = "nan",
    progress_bar_config: dict[str, Any] | None = None,
    face_check: "FaceCheck | None" = None,
    threads: int | None = None,
) -> Generator[list[tuple[FaceQualityRecord, np.ndarray | None]]]:
    """
    Reads images in threads beside what is done with them, in batches and in order. Of images whose number is known
    some are read ahead; of an iterator no more than a batch needs. So memory does not grow with their number.

    Args:
        images: One or many, as [`DifFIQAPipeline`] takes them.
        landmarks: `None`, or for each image five points (5, 2) or `None`.
        image_processor: Makes the faces.
        batch_size: Faces in a batch, at most; one more image may bring several.
        on_error: `"nan"` gives an image that can't be read a record with the reason, `"raise"` raises it.
        progress_bar_config: Arguments of tqdm, which counts images; no bar when not given.
        face_check: Says of each whether it is a face.
        threads: That read; as many as there are processors when not given, and with 0 the caller reads when a batch
            is asked for. The faces do not depend on it.

    Yields:
        Pairs of a record without a score and its face, `(3, H, W)` float32 in [-1, 1]; the face is `None` where the
        record has an error.

    Raises:
        FaceImageError: With `on_error="raise"`.
    """
    images, total = as_iterable(images)
    points = iter(landmarks) if landmarks is not None else None
    threads = min(cores() if threads is None else threads, MAX_READING_THREADS)
    threads = 0 if total is not None and total < 2 else threads
    pending: list[tuple[FaceQualityRecord, np.ndarray | None]] = []
    faces = 0

    def read(item: tuple[Any, Any]) -> list[FaceCrop] | FaceImageError:
        try:
            return image_processor.extract_faces(*item)
        except FaceImageError as error:
            return error

    def window() -> int:
        return READ_AHEAD if total is not None else min(batch_size - faces, MAX_PENDING - len(pending))

    items = ((image, None if points is None else next(points, None)) for image in images)
    found = in_order(read, items, threads, window)
    with _progress(total, progress_bar_config) as progress:
        for index, crops in enumerate(found):
            if isinstance(crops, FaceImageError):
                if on_error == "raise":
                    raise crops
                pending.append((FaceQualityRecord(index, error=str(crops)), None))
                crops = []
            for number, crop in enumerate(crops):
                record = FaceQualityRecord(index, number, box=crop.box, landmarks=crop.landmarks)
                record.num_faces, record.measures = crop.num_faces, crop.measures
                pending.append((record, crop.pixel_values))
                faces += 1
            progress.update()
            if faces >= batch_size or len(pending) >= MAX_PENDING:
                batch, pending, faces = pending, [], 0
                yield batch if face_check is None else face_check(batch)
        if pending:
            yield pending if face_check is None else face_check(pending)


class _NoProgress:
    def update(self) -> None:
        pass


@contextmanager
def _progress(total: int | None, config: dict[str, Any] | None) -> Iterator[Any]:
    if config is None:
        yield _NoProgress()
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, unit="image", **config) as progress:
        yield progress


def with_percentiles(
    batches: Iterable[Iterable[FaceQualityRecord]], calibration: Calibration | None
) -> Generator[FaceQualityRecord]:
    """The records one by one, with their percentiles where there is a calibration."""
    for batch in batches:
        records = list(batch)
        if calibration is not None:
            percentiles = calibration.percentiles([record.score for record in records]).tolist()
            for record, percentile in zip(records, percentiles, strict=True):
                record.percentile = percentile
        yield from records


def collect(records: list[FaceQualityRecord], terms: Iterable[str], **images: "torch.Tensor") -> "FaceQualityOutput":
    """
    The records as one output, with these of their terms (NaN where a record lacks one), their percentiles where they
    have some, and the images that are given. Warns of failed ones.
    """
    import torch

    from ..pipeline_output import FaceQualityOutput

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


def _face_probabilities(records: list[FaceQualityRecord]) -> "torch.Tensor":
    import torch

    found = [record.face_probability for record in records]
    return torch.tensor([float("nan") if value is None else value for value in found])


__all__ = ["as_iterable", "check_call", "collect", "stream_faces", "with_percentiles"]
