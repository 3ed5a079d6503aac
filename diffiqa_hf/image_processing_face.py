# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""From whatever a person has (path, PIL, NumPy, torch, an item of a `datasets` column) to canonical faces."""

import os
from collections.abc import Iterable
from typing import Any, TypedDict

import numpy as np
from PIL import Image
from transformers import AutoImageProcessor, PreTrainedConfig

# diffusers looks in the module where a component's class was defined for the base class `ImageProcessingMixin`, to
# learn how the component is loaded. Without this name a pipeline saves and does not load.
from transformers.image_processing_utils import (
    BaseImageProcessor,
    BatchFeature,
    ImageProcessingMixin,  # noqa: F401
)
from transformers.utils import is_torch_tensor

from .alignment import DEFAULT_DETECTOR
from .images.extraction import FaceCrop, FaceExtractor, face_to_pixels, pixels_to_face
from .images.loading import FaceImageError, NoFaceError, load_image


class FaceImageProcessorKwargs(TypedDict, total=False):
    """The state of a [`FaceImageProcessor`], which is what a call may override."""

    size: int | tuple[int, int] | dict[str, int]
    resample: int
    do_align: bool | str
    multiple_faces: str
    detector: str
    detector_threshold: float


class FaceImageProcessor(FaceExtractor, BaseImageProcessor):
    r"""
    Whatever a person has to canonical faces: RGB, float32 in [-1, 1], 112x112 unless `size` says otherwise.

    Without alignment an image is taken as a crop that is aligned already: it is resized to `size`, both sides forced,
    as the authors of DifFIQA do. With landmarks, given or found, it is cut to the ArcFace template.

    A call may override what is said here, and several threads may call one processor at a time.

    Args:
        size (`int`, `tuple[int, int]` or `dict[str, int]`, *optional*, defaults to `{"height": 112, "width": 112}`):
            Of the canonical face, in pixels; one number is both sides, two are height and width.
        resample (`int`, *optional*, defaults to 2, bilinear):
            Pillow's filter for the resizing of crops.
        do_align (`bool` or `"auto"`, *optional*, defaults to `False`):
            Whether an image without landmarks goes through the face detector and is aligned. With `"auto"` those do
            that are no aligned crops: pictures with no side above 112 pixels are taken as they are, and others if the
            detector finds the face where the template has it
            ([`~diffiqa_hf.images.extraction.looks_aligned`]).
        multiple_faces (`str`, *optional*, defaults to `"largest"`):
            Which of several detected faces count: `"largest"` or `"all"`, largest first.
        detector (`str`, *optional*, defaults to `"opencv/face_detection_yunet"`):
            Hub repository, or path, of the YuNet detector.
        detector_threshold (`float`, *optional*, defaults to 0.6):
            Lowest detection score that counts, in [0, 1].
    """

    model_input_names = ["pixel_values"]
    valid_kwargs = FaceImageProcessorKwargs

    def __init__(
        self,
        size: int | tuple[int, int] | dict[str, int] | None = None,
        resample: int = Image.Resampling.BILINEAR,
        do_align: bool | str = False,
        multiple_faces: str = "largest",
        detector: str | os.PathLike = DEFAULT_DETECTOR,
        detector_threshold: float = 0.6,
        **kwargs,
    ):
        BaseImageProcessor.__init__(self, **kwargs)
        FaceExtractor.__init__(self, size, resample, do_align, multiple_faces, detector, detector_threshold)

    def to_dict(self) -> dict[str, Any]:
        state = BaseImageProcessor.to_dict(self)
        for name in ("_detectors", "measuring"):
            state.pop(name, None)
        return state

    def preprocess(
        self,
        images: Any,
        landmarks: Iterable | None = None,
        return_tensors: str | None = None,
        **overrides: Any,
    ) -> BatchFeature:
        """
        Args:
            images: One image, a list of them, as [`load_image`] takes them, or an array of four dimensions.
            landmarks (*optional*): For each image five points, or `None`.
            return_tensors (`str`, *optional*): `"pt"` or `"np"`; a list of arrays without.
            **overrides: Any of the processor's own arguments, for this call.

        Returns:
            [`BatchFeature`] with `pixel_values` of shape `(N, 3, height, width)`, RGB in [-1, 1].
        """
        if getattr(images, "ndim", 0) == 4:
            images = list(images)
        if not isinstance(images, (list, tuple)):
            images = [images]
            landmarks = None if landmarks is None else [landmarks]
        points = [None] * len(images) if landmarks is None else list(landmarks)
        if len(points) != len(images):
            raise ValueError(f"there are {len(images)} images and landmarks for {len(points)}")
        processor = self.with_changes(**overrides)
        faces = [
            crop.pixel_values
            for image, point in zip(images, points, strict=True)
            for crop in processor.extract_faces(image, point)
        ]
        return BatchFeature({"pixel_values": faces}, tensor_type=return_tensors)

    def postprocess(self, faces: Any) -> list[Image.Image]:
        """Canonical faces `(N, 3, H, W)` in [-1, 1] back to pictures; what lies outside is clipped, NaN is black."""
        faces = faces.detach().float().cpu().numpy() if is_torch_tensor(faces) else np.asarray(faces)
        pixels = np.clip(np.round((np.nan_to_num(faces, nan=-1.0) + 1) * 127.5), 0, 255).astype(np.uint8)
        return [Image.fromarray(np.ascontiguousarray(face.transpose(1, 2, 0))) for face in pixels]


class _AnyFaceModel(PreTrainedConfig):
    """For AutoImageProcessor, which finds a class by its name among those registered for some configuration."""


AutoImageProcessor.register(_AnyFaceModel, image_processor_classes={"pil": FaceImageProcessor}, exist_ok=True)

__all__ = [
    "FaceCrop",
    "FaceImageError",
    "FaceImageProcessor",
    "NoFaceError",
    "face_to_pixels",
    "load_image",
    "pixels_to_face",
]
