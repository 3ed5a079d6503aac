# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Images to canonical faces with NumPy, Pillow and OpenCV alone: what [`FaceImageProcessor`] does."""

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..alignment import (
    ARCFACE_TEMPLATE,
    DEFAULT_DETECTOR,
    DETECTION_SIDE,
    TEMPLATE_SIZE,
    FaceDetection,
    YuNetFaceDetector,
    align_face,
    arcface_template,
    similarity_transform,
)
from .jpeg import shrink_factor
from .loading import FaceImageError, NoFaceError, first_line, read_image, readable_again
from .location import find_faces, look_again
from .measures import measure_face


# Longest side of a canonical face.
MAX_SIDE = 4096
# A shorter side below this holds no face that anything could be said of.
MIN_SIDE = 16
# Farthest that an aligned landmark may lie from the template, in pixels of a 112x112 crop. It is 14.5 at most over LFW
# and 23.9 where a profile hides the far half; with the eyes in the wrong order it is 24.8 or more.
MAX_LANDMARK_DISTANCE = 24.0
# How a face lies in an aligned crop, by the points that the detector finds in it: enlarged by so much it has the size
# of the template, and it is at most turned by these degrees and off by these pixels of a 112x112 crop. The detector
# alone makes .90 to 1.18, 12 and 7 of LFW's crops at 112 to 400 pixels; LFW's photographs have 1.57 or more.
CROP_SCALES = (0.85, 1.2)
CROP_ROTATION = 15.0
CROP_SHIFT = 7.0


@dataclass
class FaceCrop:
    """
    One canonical face.

    Args:
        pixel_values (`np.ndarray` of shape (3, H, W)): RGB, float32 in [-1, 1].
        landmarks (`np.ndarray` of shape (5, 2), *optional*): What it was aligned with, x, y in pixels of the upright
            picture. `None` where the image was taken as an aligned crop.
        box (`np.ndarray` of shape (4,), *optional*): x, y, width, height in pixels of the upright picture, where a
            detector found the face.
        detection_score (`float`, *optional*): The detector's score in [0, 1].
        num_faces (`int`, *optional*): How many faces the detector found in the picture.
        measures (`dict`, *optional*): What else was measured of it, by the names in
            [`~diffiqa_hf.images.reasons.MEASURES`]; where the processor was asked to.
    """

    pixel_values: np.ndarray
    landmarks: np.ndarray | None = None
    box: np.ndarray | None = None
    detection_score: float | None = None
    num_faces: int | None = None
    measures: dict[str, float | None] | None = None


def _given_points(landmarks: Any, width: int, height: int) -> np.ndarray:
    try:
        points = np.asarray(landmarks, dtype=np.float64)
        matrix = similarity_transform(points)
    except (TypeError, ValueError) as error:
        raise FaceImageError(first_line(error)) from None
    if not ((points > -1) & (points < [width, height])).all(axis=1).any():
        raise FaceImageError(f"all landmarks lie outside of the picture of {width}x{height} pixels")
    aligned = points @ matrix[:, :2].T + matrix[:, 2]
    if np.linalg.norm(aligned - ARCFACE_TEMPLATE, axis=1).max() > MAX_LANDMARK_DISTANCE:
        raise FaceImageError(
            "landmarks do not lie like those of a face: left eye, right eye, nose, left and right corner of the mouth "
            "as seen in the picture, in this order"
        )
    return points


def _size(size: Any) -> dict[str, int]:
    if isinstance(size, Mapping) or hasattr(size, "height"):  # a dictionary, or the SizeDict of transformers
        sides: list[Any] = [dict(size).get("height"), dict(size).get("width")]
    elif isinstance(size, (list, tuple)):
        sides = list(size)
    else:
        sides = [112, 112] if size is None else [size, size]
    if len(sides) != 2 or not all(isinstance(x, Integral) and 1 <= int(x) <= MAX_SIDE for x in sides):
        raise ValueError(
            f"size is a number of pixels from 1 to {MAX_SIDE}, (height, width) or a dictionary with 'height' and "
            f"'width', not {size!r}"
        )
    return {"height": int(sides[0]), "width": int(sides[1])}


def _resample(resample: Any) -> int:
    if not isinstance(resample, Integral) or int(resample) not in [*Image.Resampling]:
        raise ValueError(f"resample is one of Pillow's filters, 0 to 5, not {resample!r}")
    return int(resample)


def _do_align(do_align: Any) -> bool | str:
    if isinstance(do_align, str) and do_align == "auto":
        return do_align
    if not isinstance(do_align, (bool, np.bool_)):
        raise ValueError(f"do_align is true, false or 'auto', not {do_align!r}")
    return bool(do_align)


def _multiple_faces(multiple_faces: Any) -> str:
    if multiple_faces not in ("largest", "all"):
        raise ValueError(f"multiple_faces is 'largest' or 'all', not {multiple_faces!r}")
    return multiple_faces


def _detector(detector: Any) -> str:
    if not isinstance(detector, (str, os.PathLike)):
        raise ValueError(f"detector is a Hub repository or a path, not {detector!r}")
    return os.fspath(detector)


def _detector_threshold(threshold: Any) -> float:
    if not isinstance(threshold, (int, float, np.integer, np.floating)) or not 0 <= threshold <= 1:
        raise ValueError(f"detector_threshold lies between 0 and 1, not {threshold!r}")
    return float(threshold)


_CHECKS = {
    "size": _size,
    "resample": _resample,
    "do_align": _do_align,
    "multiple_faces": _multiple_faces,
    "detector": _detector,
    "detector_threshold": _detector_threshold,
}


class FaceExtractor:
    r"""
    What a [`~diffiqa_hf.image_processing_face.FaceImageProcessor`] does, without transformers: its arguments are that
    one's, and so is its state.
    """

    # Whether each face is measured; no part of the state, since no score depends on it.
    measuring = False

    def __init__(
        self,
        size: int | tuple[int, int] | dict[str, int] | None = None,
        resample: int = Image.Resampling.BILINEAR,
        do_align: bool | str = False,
        multiple_faces: str = "largest",
        detector: str | os.PathLike = DEFAULT_DETECTOR,
        detector_threshold: float = 0.6,
    ):
        self.size: dict[str, int] = _size(size)
        self.resample = resample
        self.do_align = do_align
        self.multiple_faces = multiple_faces
        self.detector: str = _detector(detector)
        self.detector_threshold = detector_threshold
        self._detectors: dict[tuple[str, float], YuNetFaceDetector] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        # Wherever a value comes from, a caller, a file or an assignment, it is in one form from here on.
        super().__setattr__(name, _CHECKS[name](value) if name in _CHECKS else value)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in `preprocessor_config.json`."""
        return {"image_processor_type": "FaceImageProcessor"} | {name: getattr(self, name) for name in _CHECKS}

    @classmethod
    def from_folder(cls, folder: str | os.PathLike) -> "FaceExtractor":
        """
        With what the `preprocessor_config.json` of a folder says.

        Raises:
            OSError: There is none.
            ValueError: It is not JSON of this kind.
        """
        path = Path(folder) / "preprocessor_config.json"
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{name: state[name] for name in _CHECKS if name in state})
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}: {first_line(error)}") from error

    def with_changes(self, **overrides: Any) -> "FaceExtractor":
        """This processor or, where a value is not `None`, a copy with it, which shares the detectors."""
        overrides = {name: value for name, value in overrides.items() if value is not None}
        if unknown := [name for name in overrides if name not in _CHECKS]:
            raise TypeError(f"a call of the image processor takes no {unknown[0]!r}; it takes {', '.join(_CHECKS)}")
        if not overrides:
            return self
        other = copy.copy(self)
        for name, value in overrides.items():
            setattr(other, name, value)
        return other

    def extract_faces(self, image: Any, landmarks: Any = None, **overrides: Any) -> list[FaceCrop]:
        """
        The faces of one image; where the attribute `measuring` is set, with their measures.

        Args:
            image: As [`load_image`] takes it.
            landmarks (array of shape (5, 2), *optional*): x, y in pixels of the upright picture, in the order of
                `ARCFACE_TEMPLATE`. Given landmarks are used whatever `do_align` says.
            **overrides: Any of the processor's own arguments, for this call.

        Returns:
            `list[FaceCrop]`: one, or with `multiple_faces="all"` as many as there are, largest first.

        Raises:
            NoFaceError: The detector found none.
            FaceImageError: The image can't be read or is smaller than 16 pixels; the given landmarks are not five
                points in the picture, or in another order than that of `ARCFACE_TEMPLATE`.
            OSError: The detector can't be had; that is no fault of the image.
        """
        if overrides:
            return self.with_changes(**overrides).extract_faces(image, landmarks)
        image = readable_again(image)
        if landmarks is not None:
            return [self._given(image, landmarks)]
        if not self.do_align:
            picture, _ = read_image(image)
            _check_size(picture, 1)
            return [self._whole(picture)]
        picture, factor = read_image(image, lambda width, height: max(width, height) / DETECTION_SIDE)
        _check_size(picture, factor)
        undecided = self.do_align == "auto"
        if undecided and max(picture.size) * factor <= TEMPLATE_SIZE:  # too small to look for a face in
            return [self._whole(picture)]
        detector = self._face_detector()
        found = find_faces(detector, np.asarray(picture))
        if not found:
            hint = "; an aligned crop can be scored without alignment" if undecided else ""
            raise NoFaceError(f"no face found{hint}")
        if undecided and looks_aligned(found[0].landmarks, picture.size):
            return [self._whole(picture)]
        count = len(found)
        if self.multiple_faces == "largest":
            found = found[:1]
        # In pixels of the whole picture from here on.
        found = [FaceDetection(_in_whole(face.landmarks, factor), face.box * factor, face.score) for face in found]
        if factor > 1:
            # The largest factor at which each face is larger than its crop.
            most = min(self._times_larger(face.landmarks) for face in found)
            if most < factor and shrink_factor(most) < factor:
                picture, factor = read_image(image, lambda width, height: most)
        return [self._found(detector, picture, factor, face, count) for face in found]

    def check_detector(self) -> None:
        """
        Gets the face detector ready, if there may be need of it.

        Raises:
            OSError: It can't be had or read.
        """
        if self.do_align:
            self._face_detector().prepare()

    def _whole(self, picture: Image.Image) -> FaceCrop:
        """A picture that is an aligned crop."""
        size = self.size["width"], self.size["height"]
        crop = picture if picture.size == size else picture.resize(size, self.resample)
        return self._measured(FaceCrop(pixels_to_face(np.asarray(crop))), picture.size)

    def _found(
        self, detector: YuNetFaceDetector, picture: Image.Image, factor: int, face: FaceDetection, count: int
    ) -> FaceCrop:
        """A face that was found in a picture, which may be reduced."""
        box, points = face.box, _in_whole(face.landmarks, 1 / factor)
        again = look_again(detector, np.asarray(picture), FaceDetection(points, box / factor, face.score))
        crop = self._aligned(picture, factor, _in_whole(again.landmarks, factor), box, again.score)
        crop.num_faces = count
        return self._measured(crop, (picture.width * factor, picture.height * factor))

    def _measured(self, crop: FaceCrop, size: tuple[int, int]) -> FaceCrop:
        if self.measuring:
            pixels = face_to_pixels(crop.pixel_values)
            crop.measures = measure_face(pixels, crop.landmarks, size, crop.num_faces)
        return crop

    def _given(self, image: Any, landmarks: Any) -> FaceCrop:
        try:
            most = self._times_larger(landmarks)
        except (TypeError, ValueError):  # which is for the lines below to say
            most = 1.0
        picture, factor = read_image(image, lambda width, height: most)
        _check_size(picture, factor)
        size = picture.width * factor, picture.height * factor
        points = _given_points(landmarks, *size)
        return self._measured(self._aligned(picture, factor, points), size)

    def _times_larger(self, points: np.ndarray) -> float:
        """How many times larger than its crop a face of such points is."""
        matrix = similarity_transform(points, arcface_template((self.size["height"], self.size["width"])))
        return float(np.linalg.det(matrix[:, :2]) ** -0.5)

    def _aligned(
        self,
        picture: Image.Image,
        factor: int,
        points: np.ndarray,
        box: np.ndarray | None = None,
        score: float | None = None,
    ) -> FaceCrop:
        """The face of a reduced picture whose points, in pixels of the whole one, are known."""
        try:
            crop = align_face(picture, _in_whole(points, 1 / factor), (self.size["height"], self.size["width"]))
        except ValueError as error:
            raise FaceImageError(first_line(error)) from None
        return FaceCrop(pixels_to_face(crop), points, box, score)

    def _face_detector(self) -> YuNetFaceDetector:
        key = (self.detector, self.detector_threshold)
        return self._detectors.setdefault(key, YuNetFaceDetector(*key))


def looks_aligned(landmarks: np.ndarray, size: tuple[int, int]) -> bool:
    """
    Whether a picture is an aligned crop, of any size: its face lies where the ArcFace template has it.

    Args:
        landmarks (`np.ndarray` of shape (5, 2)): That were found in it, x, y in its pixels.
        size: Its width and height.
    """
    width, height = size
    unit = height / TEMPLATE_SIZE
    try:
        matrix = similarity_transform(landmarks, arcface_template((height, width)))
    except ValueError:  # points that are no face's
        return False
    scale = np.linalg.det(matrix[:, :2]) ** 0.5
    rotation = np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))
    middle = np.array([width - 1, height - 1]) / 2
    shift = np.linalg.norm(matrix[:, :2] @ middle + matrix[:, 2] - middle) / unit
    smaller, larger = CROP_SCALES
    return bool(smaller <= scale <= larger and abs(rotation) <= CROP_ROTATION and shift <= CROP_SHIFT)


def _in_whole(points: np.ndarray, factor: float) -> np.ndarray:
    """Points of a reduced picture in pixels of the whole one; by 1 / factor the other way round."""
    return points if factor == 1 else (points + 0.5) * factor - 0.5


def _check_size(picture: Image.Image, factor: int) -> None:
    width, height = picture.width * factor, picture.height * factor
    if min(width, height) < MIN_SIDE:
        raise FaceImageError(f"too small: {width}x{height} pixels, at least {MIN_SIDE} are needed")


def pixels_to_face(pixels: np.ndarray) -> np.ndarray:
    """RGB pixels `(H, W, 3)` uint8 to a canonical face `(3, H, W)` float32 in [-1, 1]."""
    face = np.empty((3, *pixels.shape[:2]), np.float32)
    np.divide(pixels.transpose(2, 0, 1), np.float32(127.5), out=face)
    face -= 1
    return face


def face_to_pixels(face: np.ndarray) -> np.ndarray:
    """A canonical face `(3, H, W)` in [-1, 1] to RGB pixels `(H, W, 3)` uint8, rounded."""
    return np.round((face.transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)


__all__ = ["FaceCrop", "FaceExtractor", "face_to_pixels", "looks_aligned", "pixels_to_face"]
