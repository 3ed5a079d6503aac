# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Five-point alignment onto the ArcFace template, and the face detector that finds the five points."""

import os
import threading
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from .file_utils import file_fault


# The template of insightface for a 112x112 crop (x, y), in the order of the picture from left to right: the eye on the
# left of the picture (the subject's right eye), the eye on its right, nose tip, left and right corner of the mouth.
ARCFACE_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
ARCFACE_TEMPLATE.setflags(write=False)
TEMPLATE_SIZE = 112

# How far each of the five points lies before the eyes, in pixels of the template: 28 mm for the nose of a head whose
# eyes are 63 mm apart (35 pixels), and 6 mm for the corners of the mouth.
TEMPLATE_DEPTH = np.array([0.0, 0.0, 15.7, 3.4, 3.4])
TEMPLATE_DEPTH.setflags(write=False)

DEFAULT_DETECTOR = "opencv/face_detection_yunet"
DETECTOR_FILE = "face_detection_yunet_2023mar.onnx"

# YuNet was trained on faces of about 10 to 300 pixels. At this longest side a face is found whether it is a fortieth
# or the whole of the picture; on larger inputs it begins to find faces inside one big face.
DETECTION_SIDE = 640


def arcface_template(size: tuple[int, int]) -> np.ndarray:
    """
    The ArcFace template for crops of another size.

    The template is scaled about pixel centres by `height / 112` and centred in the width, so that a 112x96 crop is the
    middle 96 columns of the 112x112 one, and a 224x224 crop reduced by two is the 112x112 one.

    Args:
        size (`tuple[int, int]`): Height and width of the crop in pixels.

    Returns:
        `np.ndarray` of shape (5, 2): x, y in pixels.
    """
    height, width = size
    scale = height / TEMPLATE_SIZE
    return (ARCFACE_TEMPLATE + 0.5) * scale - 0.5 + [(width - TEMPLATE_SIZE * scale) / 2, 0.0]


def similarity_transform(landmarks: np.ndarray, template: np.ndarray = ARCFACE_TEMPLATE) -> np.ndarray:
    """
    The rotation, uniform scale and shift that bring `landmarks` closest to `template` in the least-squares sense
    (Umeyama 1991, equations 40 to 43; no reflection). Closed form, so the same points always give the same matrix.

    Args:
        landmarks (`np.ndarray` of shape (N, 2)): x, y of the points in the picture, in pixels.
        template (`np.ndarray` of shape (N, 2)): Where they should lie, in pixels.

    Returns:
        `np.ndarray` of shape (2, 3), float64: maps picture coordinates to crop coordinates, as OpenCV's `warpAffine`
        takes it.

    Raises:
        ValueError: The shapes differ, a value is not finite, or the points coincide or cannot be told from a line
            that is no face.
    """
    source = np.asarray(landmarks, dtype=np.float64)
    target = np.asarray(template, dtype=np.float64)
    if source.shape != target.shape:
        raise ValueError(f"landmarks must be {len(target)} points x, y, not an array of shape {source.shape}")
    if not np.isfinite(source).all():
        raise ValueError("landmarks contain NaN or infinite values")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    source_centred, target_centred = source - source_mean, target - target_mean
    variance = (source_centred**2).sum() / len(source)
    u, singular, vt = np.linalg.svd(target_centred.T @ source_centred / len(source))
    # D of equation 43 flips the weaker axis where the best orthogonal matrix would be a reflection.
    sign = np.array([1.0, -1.0 if np.linalg.det(u) * np.linalg.det(vt) < 0 else 1.0])
    trace = (singular * sign).sum()
    if variance < 1.0 or trace < 1e-6 * np.sqrt(variance):
        raise ValueError("landmarks lie within a pixel or two of each other (they are in pixels of the picture)")
    scale = trace / variance
    linear = scale * (u * sign) @ vt
    return np.hstack([linear, (target_mean - linear @ source_mean)[:, None]])


def estimate_yaw(landmarks: np.ndarray) -> np.ndarray:
    """
    How far faces are turned to a side, by their five landmarks alone.

    Of a head with the template's proportions and a nose, turned by whole degrees of yaw and five of pitch, the view
    that a similarity transform brings closest to the points. It ranks faces well, and tells a half profile from a
    frontal face; noses differ, and detectors guess the eye that is hidden, so that a profile counts as 50 degrees.

    Args:
        landmarks (`np.ndarray` of shape (N, 5, 2) or (5, 2)): x, y in pixels of any crop, in the template's order.

    Returns:
        `np.ndarray` of shape (N,) or (): degrees from -90 to 90, positive where the nose points to the right of the
        picture; NaN where a point is not finite.
    """
    return estimate_pose(landmarks)[0]


def estimate_pose(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Yaw and pitch of faces by their five landmarks alone, as [`estimate_yaw`] finds the first.

    Args:
        landmarks (`np.ndarray` of shape (N, 5, 2) or (5, 2)): As there.

    Returns:
        Two `np.ndarray` of shape (N,) or (): yaw as there; pitch in steps of five degrees from -40 to 40, above 0
        where the nose points down. Of a face that is turned far to a side the pitch is a guess.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape[-2:] != (5, 2):
        raise ValueError(f"landmarks must be (N, 5, 2) or (5, 2), not {points.shape}")
    yaws, pitches, views = _turned_templates()
    # As complex numbers a rotation and a scale are one factor, and the closest view is that of the largest product.
    places = points[..., 0] + 1j * points[..., 1]
    places = places - places.mean(-1, keepdims=True)
    closest = np.abs(places @ views.conj().T).argmax(-1)
    known = np.isfinite(places).all(-1)
    return np.where(known, yaws[closest], np.nan), np.where(known, pitches[closest], np.nan)


@lru_cache(maxsize=1)
def _turned_templates() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Yaw and pitch (V,), and the five points (V, 5), complex, centred and of unit length, of the views."""
    # From the middle of the range outwards, so that of equal views the least turned one comes first.
    degrees = np.array(sorted(range(-90, 91), key=abs), dtype=float)
    yaw, pitch = (part.ravel()[:, None] for part in np.meshgrid(degrees, np.arange(-40.0, 41, 5), indexing="ij"))
    x, y = (ARCFACE_TEMPLATE - ARCFACE_TEMPLATE.mean(0)).T
    turned = np.radians(yaw)
    across = np.cos(turned) * x + np.sin(turned) * TEMPLATE_DEPTH
    ahead = np.cos(turned) * TEMPLATE_DEPTH - np.sin(turned) * x
    down = np.cos(np.radians(pitch)) * y + np.sin(np.radians(pitch)) * ahead
    views = across + 1j * down
    views -= views.mean(1, keepdims=True)
    return yaw[:, 0], pitch[:, 0], views / np.linalg.norm(views, axis=1, keepdims=True)


def align_face(
    image: Image.Image | np.ndarray,
    landmarks: np.ndarray,
    size: tuple[int, int] = (TEMPLATE_SIZE, TEMPLATE_SIZE),
    margin: int = 0,
) -> np.ndarray:
    """
    Cuts out one face so that its five points lie on the ArcFace template.

    A bilinear warp, as insightface does it; what lies outside of the picture is black. Where the face is at least
    twice as large as the crop, the part of the picture that is needed is first reduced by a whole factor (mean over
    blocks), since a bilinear warp alone would skip pixels.

    Args:
        image (`PIL.Image.Image` or `np.ndarray` of shape (H, W, 3)): RGB, uint8.
        landmarks (`np.ndarray` of shape (5, 2)): x, y in pixels, in the order of `ARCFACE_TEMPLATE`.
        size (`tuple[int, int]`): Height and width of the crop.
        margin (`int`): Pixels that the crop has on each side besides.

    Returns:
        `np.ndarray` of shape (height, width, 3), RGB, uint8.

    Raises:
        ValueError: The landmarks are not five distinct, finite points.
    """
    import cv2

    height, width = (side + 2 * margin for side in size)
    matrix = similarity_transform(landmarks, arcface_template(size) + margin)
    image = np.asarray(image)
    factor = int(1.0 / np.sqrt(np.linalg.det(matrix[:, :2])) + 1e-6)  # 3, not 2, for 2.9999999
    if factor > 1:
        corners = np.array([[-1, -1], [width, -1], [-1, height], [width, height]], dtype=np.float64)
        needed = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        left, top = np.maximum(np.floor(needed.min(axis=0)).astype(int) - factor, 0)
        right, bottom = np.ceil(needed.max(axis=0)).astype(int) + factor
        part = image[top:bottom, left:right]
        if part.size:
            image = np.asarray(Image.fromarray(part).reduce(factor))
            # A reduced pixel i is the mean of the pixels from left + factor * i on, and stands for their centre.
            offset = np.array([left, top]) + (factor - 1) / 2
            matrix = np.hstack([matrix[:, :2] * factor, (matrix[:, 2] + matrix[:, :2] @ offset)[:, None]])
    return cv2.warpAffine(np.ascontiguousarray(image), matrix, (width, height), flags=cv2.INTER_LINEAR)


class FaceDetection(NamedTuple):
    """One face: `landmarks` (5, 2) in the order of `ARCFACE_TEMPLATE`, `box` (x, y, width, height), both float32 in
    pixels of the picture, and the detector's `score` in [0, 1]."""

    landmarks: np.ndarray
    box: np.ndarray
    score: float


# What OpenCV logs is set for all threads, so they change it one at a time.
_LOG_LEVEL = threading.Lock()


@contextmanager
def _quiet_opencv():
    """OpenCV 5 warns on stderr about options of its own defaults whenever a network is opened."""
    import cv2

    with _LOG_LEVEL:
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            yield
        finally:
            cv2.utils.logging.setLogLevel(level)


class MissingDetectorError(OSError):
    """The detector's file is not on this machine, and can't be had from the Hub."""

    def __init__(self, repository: str, reason: str):
        self.what = (
            f"the face detector {DETECTOR_FILE} could not be had from the Hub repository {repository} ({reason})"
        )
        super().__init__(
            f"{self.what}. Without a connection: download the file once, and give its path as `detector`; or give "
            "landmarks; or score faces that are already aligned, without alignment"
        )


class YuNetFaceDetector:
    """
    YuNet (Wu et al. 2023) through OpenCV's `FaceDetectorYN`: finds faces and their five landmarks.

    The network is opened at the first `detect`, not before, and as often as it is called at a time, since it keeps
    what it is working on. It is left out when the object is pickled.

    Args:
        model (`str` or `os.PathLike`): Path of an ONNX file, or a Hub repository that has
            `face_detection_yunet_2023mar.onnx`.
        threshold (`float`): Lowest score of a detection that counts, in [0, 1].
    """

    def __init__(self, model: str | os.PathLike = DEFAULT_DETECTOR, threshold: float = 0.6):
        self.model = os.fspath(model)
        self.threshold = threshold
        self._idle: list = []  # networks that nobody works with

    def __getstate__(self) -> dict:
        return {"model": self.model, "threshold": self.threshold}

    def __setstate__(self, state: dict) -> None:
        YuNetFaceDetector.__init__(self, **state)

    def _model_path(self) -> str:
        if os.path.isfile(self.model):
            return self.model
        if self.model.endswith(".onnx"):
            raise FileNotFoundError(f"face detector not found: no file {self.model}")
        from huggingface_hub import hf_hub_download

        try:
            return hf_hub_download(self.model, DETECTOR_FILE)
        except (OSError, ValueError) as error:
            raise MissingDetectorError(self.model, type(error).__name__) from error

    def _open(self) -> Any:
        import cv2

        path = self._model_path()
        if (reason := file_fault(path)) is not None:
            raise OSError(f"the face detector {path}: {reason}")
        try:
            with _quiet_opencv():
                return cv2.FaceDetectorYN.create(path, "", (320, 320), self.threshold)
        except cv2.error as error:
            raise OSError(f"the face detector {path} is not a network that OpenCV can read") from error

    def prepare(self) -> None:
        """
        Opens the network, so that what is wrong is known before the first picture.

        Raises:
            OSError: The detector's file can't be had or read.
        """
        if not self._idle:
            self._idle.append(self._open())

    def detect(self, image: np.ndarray) -> list[FaceDetection]:
        """
        Finds the faces of one picture.

        Pictures with a side of more than 640 pixels are scaled down for it. Where nothing is found, it is tried once
        more at half the size with a black margin of half the picture around: that finds faces that fill the frame.

        Args:
            image (`np.ndarray` of shape (H, W, 3)): RGB, uint8.

        Returns:
            `list[FaceDetection]`: largest box first; empty where there is no face.

        Raises:
            OSError: The detector's file can't be had or read.
        """
        longest = max(image.shape[:2])
        faces = self._detect_at(image, min(1.0, DETECTION_SIDE / longest), margin=0.0)
        if not faces:
            faces = self._detect_at(image, min(1.0, DETECTION_SIDE / 2 / longest), margin=0.5)
        return sorted(faces, key=lambda face: -face.box[2] * face.box[3])

    def _detect_at(self, image: np.ndarray, scale: float, margin: float) -> list[FaceDetection]:
        import cv2

        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        small = image if scale == 1.0 else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        left, top = round(width * margin), round(height * margin)
        small = cv2.copyMakeBorder(small[:, :, ::-1], top, top, left, left, cv2.BORDER_CONSTANT)
        try:
            network = self._idle.pop()
        except IndexError:
            network = self._open()
        network.setInputSize((small.shape[1], small.shape[0]))
        _, rows = network.detect(small)
        self._idle.append(network)
        if rows is None:
            return []
        to_image = np.array([image.shape[1] / width, image.shape[0] / height], dtype=np.float32)
        shift = np.array([left, top], dtype=np.float32)
        faces = []
        for row in rows:
            # x, y, width, height, five points x, y in the order of the template, score
            landmarks = (row[4:14].reshape(5, 2) - shift + 0.5) * to_image - 0.5
            box = np.concatenate([(row[:2] - shift) * to_image, row[2:4] * to_image])
            faces.append(FaceDetection(landmarks, box, float(row[14])))
        return faces
