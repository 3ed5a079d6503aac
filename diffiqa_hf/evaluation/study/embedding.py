# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Embeddings of many images by an FR model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np


if TYPE_CHECKING:
    import torch

    from ...image_processing_face import FaceImageProcessor


def embed_images(
    model: torch.nn.Module,
    images: Sequence[Any],
    landmarks: Sequence[Any] | None = None,
    *,
    image_processor: FaceImageProcessor | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> tuple[np.ndarray, list[str | None]]:
    """
    Embeddings of images by an FR model, where it is and in its own precision.

    Args:
        model: Gives `embeddings` (B, D) for canonical faces (B, 3, H, W).
        images: N, as [`~diffiqa_hf.image_processing_face.load_image`] takes them.
        landmarks: For each image five points (5, 2) or `None`, to align it by.
        image_processor: Makes the faces; without one images are taken as aligned crops.
        batch_size: Faces at a time.
        progress: Whether there is a bar.

    Returns:
        (N, D) float32, NaN where an image can't be read; and for each image the reason, or `None`.
    """
    (found,) = embed_images_with(
        [model], images, landmarks, image_processor=image_processor, batch_size=batch_size, progress=progress
    )
    return found


def embed_images_with(
    models: Sequence[torch.nn.Module],
    images: Sequence[Any],
    landmarks: Sequence[Any] | None = None,
    *,
    image_processor: FaceImageProcessor | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> list[tuple[np.ndarray, list[str | None]]]:
    """As [`embed_images`] by each of several FR models that take the same faces: an image is read once."""
    import torch

    from ...image_processing_face import FaceImageProcessor
    from ...inference.network_views import for_inference, output_of
    from ...scoring.image_stream import stream_faces

    found: list[list[np.ndarray | None]] = [[None] * len(images) for _ in models]
    errors: list[list[str | None]] = [[None] * len(images) for _ in models]
    bar = {"disable": not progress, "leave": False, "desc": "embedding"}
    processor = image_processor or FaceImageProcessor()
    models = [for_inference(model) for model in models]
    with torch.inference_mode():
        for batch in stream_faces(images, landmarks, processor, batch_size, progress_bar_config=bar):
            for record, face in batch:
                if face is None:
                    for reasons in errors:
                        reasons[record.index] = record.error
            readable = [(record.index, face) for record, face in batch if face is not None]
            for start in range(0, len(readable), batch_size):
                indices, faces = zip(*readable[start : start + batch_size], strict=True)
                stacked = torch.from_numpy(np.stack(faces))
                for model, rows, reasons in zip(models, found, errors, strict=True):
                    parameter = next(model.parameters())
                    given = stacked.to(parameter.device, parameter.dtype)
                    embeddings = output_of(model, given, "embeddings").float().cpu().numpy()
                    for index, row in zip(indices, embeddings, strict=True):
                        rows[index] = row
                        if not np.isfinite(row).all():
                            reasons[index] = "the embedding is not finite (NaN or infinite weights?)"
    return [(_stacked(rows), reasons) for rows, reasons in zip(found, errors, strict=True)]


def _stacked(rows: list[np.ndarray | None]) -> np.ndarray:
    size = next((len(row) for row in rows if row is not None), 0)
    missing = np.full(size, np.nan, np.float32)
    return np.stack([missing if row is None else row for row in rows]).astype(np.float32)


__all__ = ["embed_images", "embed_images_with"]
