# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""From whatever a person has (path, PIL, NumPy, torch, an item of a `datasets` column) to canonical faces."""

import copy
import errno
import io
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypedDict

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from transformers import AutoImageProcessor, PreTrainedConfig

# diffusers looks in the module where a component's class was defined for the base class `ImageProcessingMixin`, to
# learn how the component is loaded. Without this name a pipeline saves and does not load.
from transformers.image_processing_utils import (
    BaseImageProcessor,
    BatchFeature,
    ImageProcessingMixin,  # noqa: F401
)
from transformers.image_utils import SizeDict
from transformers.utils import is_torch_tensor

from .alignment import ARCFACE_TEMPLATE, DEFAULT_DETECTOR, YuNetFaceDetector, align_face, similarity_transform


# Pictures with more pixels are halved (or cut to a third...) when they are read, which bounds the memory.
LARGE_IMAGE_PIXELS = 64_000_000
# Longest side of a canonical face.
MAX_SIDE = 4096
# A shorter side below this holds no face that anything could be said of.
MIN_SIDE = 16
# What a HEIC or HEIF file calls itself in its bytes 8 to 11.
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Farthest that an aligned landmark may lie from the template, in pixels of a 112x112 crop. It is 14.5 at most over LFW
# and 23.9 where a profile hides the far half; with the eyes in the wrong order it is 24.8 or more.
MAX_LANDMARK_DISTANCE = 24.0

_ERRNO_REASONS = {
    errno.ENOENT: "no such file",
    errno.EISDIR: "is a directory, not an image",
    errno.EACCES: "no permission to read the file",
    errno.ELOOP: "symbolic link loop",
}


class FaceImageError(ValueError):
    """No face can be made from an image. The message is the reason in one line, without the name of the file."""


class NoFaceError(FaceImageError):
    """The detector found no face in the image."""


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
    """

    pixel_values: np.ndarray
    landmarks: np.ndarray | None = None
    box: np.ndarray | None = None
    detection_score: float | None = None


def load_image(image: Any) -> Image.Image:
    """
    Any image as an upright RGB picture of 8 bits a channel.

    - Files (a path, or the `{"bytes", "path"}` of a `datasets` column) and PIL images: turned upright by their EXIF
      orientation. Grey and two-level images are repeated in the three channels. Transparent pixels (RGBA, LA, or
      a transparent colour) are laid on mid grey, the middle of [-1, 1]. CMYK, YCbCr and HSV are converted as Pillow
      does, without colour profiles. 16-bit grey (Pillow's modes `I;16` and `I`) is scaled by 1/257; 16-bit colour
      comes as 8 bits from Pillow. 32-bit float (`F`) has to lie in [0, 1]. Animations give their first frame (a PIL
      image: the frame it is at).
    - NumPy: (H, W) or (H, W, C), C = 1, 3 or 4. torch: (H, W) or (C, H, W). uint8, or floating point in [0, 1].

    Pictures of more than 64 million pixels are reduced by the smallest whole factor that brings them below; from the
    limit of Pillow on (twice `PIL.Image.MAX_IMAGE_PIXELS`, 179 million unless changed) they are refused.

    Args:
        image: Path, PIL image, NumPy array, torch tensor or `{"bytes", "path"}` dictionary.

    Returns:
        `PIL.Image.Image`: upright, mode RGB.

    Raises:
        FaceImageError: The image can't be read or its values are not defined as above; the message is the reason.
    """
    return _load(image)[0]


def _load(image: Any) -> tuple[Image.Image, int]:
    """`load_image`, and the factor by which a large picture was reduced (1: not)."""
    if isinstance(image, dict) and ("bytes" in image or "path" in image):
        image = io.BytesIO(image["bytes"]) if image.get("bytes") is not None else image.get("path")
    if isinstance(image, (str, os.PathLike, io.BytesIO)):
        return _read(image)
    if isinstance(image, Image.Image):
        with _reasons():  # a file that Pillow has opened but not read yet may be damaged
            with _LOADING[id(image) % len(_LOADING)]:
                image.load()
            return _upright_rgb(image)
    if is_torch_tensor(image):
        return _upright_rgb(_from_array(image.detach().cpu(), channels_first=True))
    if isinstance(image, np.ndarray):
        return _upright_rgb(_from_array(image, channels_first=False))
    raise FaceImageError(
        f"{type(image).__name__} is no image: a path, a PIL image, a NumPy array or a torch tensor is needed"
    )


def _read(file: str | os.PathLike | io.BytesIO) -> tuple[Image.Image, int]:
    with _reasons():
        # isfile() is False for what must not be opened at all, such as a pipe, which would block.
        if not isinstance(file, io.BytesIO) and os.stat(file) and not os.path.isfile(file):
            raise FaceImageError("is a directory, not an image" if os.path.isdir(file) else "not a regular file")
        if (len(file.getbuffer()) if isinstance(file, io.BytesIO) else os.path.getsize(file)) == 0:
            raise FaceImageError("empty file")
        with _opened(file) as picture:
            if picture.format == "EPS":  # Pillow would have Ghostscript run it
                raise FaceImageError("EPS is a program that draws, and is not run")
            width = picture.width
            if picture.width * picture.height > LARGE_IMAGE_PIXELS:
                # JPEG only: decodes at a half of the size, in a quarter of the memory.
                picture.draft("RGB", (picture.width // 2, picture.height // 2))
            drafted = round(width / picture.width)
            rgb, factor = _upright_rgb(picture)
            return rgb, factor * drafted


# Pillow reads a file at the first use of its picture, and two threads with one picture would read it together. (Many
# locks, so that different pictures seldom wait for each other.)
_LOADING = tuple(threading.Lock() for _ in range(64))

# Which warnings are shown is set for all threads, so they change it one at a time.
_WARNINGS = threading.Lock()


def _opened(file: str | os.PathLike | io.BytesIO) -> Image.Image:
    try:
        return _opened_by_pillow(file)
    except UnidentifiedImageError:
        if not _is_heif(file):
            raise
    # A telephone's picture: the package that reads it is an extra, and is imported for the first of them.
    try:
        import pillow_heif
    except ImportError:
        raise FaceImageError("a HEIC or HEIF picture: `pip install 'diffiqa-hf[heif]'` lets it be read") from None
    pillow_heif.register_heif_opener()
    return _opened_by_pillow(file)


def _opened_by_pillow(file: str | os.PathLike | io.BytesIO) -> Image.Image:
    # Pillow warns at half of the size that it refuses; up to there we reduce the picture ourselves.
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(file)


def _is_heif(file: str | os.PathLike | io.BytesIO) -> bool:
    if isinstance(file, io.BytesIO):
        head = file.getvalue()[:12]
    else:
        with open(file, "rb") as opened:
            head = opened.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS


@contextmanager
def _reasons() -> Iterator[None]:
    """Turns what Pillow and the file system raise into a `FaceImageError` with the reason in one line."""
    try:
        yield
    except FaceImageError:
        raise
    except UnidentifiedImageError:
        raise FaceImageError("not an image, or in a format that Pillow can't read") from None
    except Image.DecompressionBombError as error:
        raise FaceImageError(f"too large: {_first_line(error)}") from None
    except OSError as error:
        # The text of an operating system's error has the file name, `strerror` has not.
        raise FaceImageError(_ERRNO_REASONS.get(error.errno) or error.strerror or _first_line(error)) from None
    except Exception as error:  # Pillow's parsers raise whatever they trip over in a damaged header
        raise FaceImageError(f"damaged file: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _upright_rgb(picture: Image.Image) -> tuple[Image.Image, int]:
    """Upright, at most `LARGE_IMAGE_PIXELS` pixels, RGB; and the factor by which it was reduced."""
    picture.load()  # a truncated file is found out here, and how large an icon really is
    factor = 1
    while picture.width * picture.height > LARGE_IMAGE_PIXELS * factor**2:
        factor += 1
    if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    if factor > 1:
        # `reduce` knows no palette and no 16-bit grey, and what becomes RGB takes up to 32 times the memory.
        reducible = picture.mode in ("L", "LA", "RGB", "RGBA", "CMYK") and "transparency" not in picture.info
        picture = picture.reduce(factor) if reducible else _reduced_in_parts(picture, factor)
    return _to_rgb(picture), factor


def _reduced_in_parts(picture: Image.Image, factor: int) -> Image.Image:
    """What `_to_rgb(picture).reduce(factor)` is, of which there is never more than a part at a time."""
    result = Image.new("RGB", (-(-picture.width // factor), -(-picture.height // factor)))
    side = 1024 * factor
    for top in range(0, picture.height, side):
        for left in range(0, picture.width, side):
            box = left, top, min(left + side, picture.width), min(top + side, picture.height)
            result.paste(_to_rgb(picture.crop(box)).reduce(factor), (left // factor, top // factor))
    return result


def _to_rgb(picture: Image.Image) -> Image.Image:
    transparent = picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info
    if picture.mode == "RGB" and not transparent:
        return picture
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise FaceImageError("integer grey values outside of 0 to 65535")
        values = values.astype(np.uint32)
        values += 128  # in place: the arrays of a large picture are large
        values //= 257
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        return Image.fromarray(_to_uint8(np.asarray(picture))).convert("RGB")
    if transparent:
        ground = Image.new("RGBA", picture.size, (128, 128, 128, 255))
        picture = Image.alpha_composite(ground, picture.convert("RGBA"))
    return picture.convert("RGB")


def _to_uint8(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise FaceImageError("NaN or infinite pixel values")
    if values.min() < 0 or values.max() > 1:
        raise FaceImageError(
            f"floating point pixels have to lie in [0, 1], these lie in [{values.min():.3g}, {values.max():.3g}]"
        )
    return np.round(values.astype(np.float64) * 255).astype(np.uint8)


def _from_array(array: Any, channels_first: bool) -> Image.Image:
    if is_torch_tensor(array):
        # NumPy has no bfloat16.
        array = array.float().numpy() if array.is_floating_point() else array.numpy()
    if array.size == 0:
        raise FaceImageError("empty array")
    if array.ndim == 3 and channels_first:
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        wanted = "(H, W) or (C, H, W)" if channels_first else "(H, W) or (H, W, C)"
        raise FaceImageError(f"an array of shape {tuple(array.shape)} is no image: {wanted}, C = 1, 3 or 4, is needed")
    if np.issubdtype(array.dtype, np.floating):
        array = _to_uint8(array)
    if array.dtype != np.uint8:
        raise FaceImageError(f"pixels of type {array.dtype} are not defined: uint8, or floating point in [0, 1]")
    return Image.fromarray(np.ascontiguousarray(array))


def _given_points(landmarks: Any, width: int, height: int) -> np.ndarray:
    try:
        points = np.asarray(landmarks, dtype=np.float64)
        matrix = similarity_transform(points)
    except (TypeError, ValueError) as error:
        raise FaceImageError(_first_line(error)) from None
    if not ((points > -1) & (points < [width, height])).all(axis=1).any():
        raise FaceImageError(f"all landmarks lie outside of the picture of {width}x{height} pixels")
    aligned = points @ matrix[:, :2].T + matrix[:, 2]
    if np.linalg.norm(aligned - ARCFACE_TEMPLATE, axis=1).max() > MAX_LANDMARK_DISTANCE:
        raise FaceImageError(
            "landmarks do not lie like those of a face: left eye, right eye, nose, left and right corner of the mouth "
            "as seen in the picture, in this order"
        )
    return points


class FaceImageProcessorKwargs(TypedDict, total=False):
    """The state of a [`FaceImageProcessor`], which is what a call may override."""

    size: int | tuple[int, int] | dict[str, int]
    resample: int
    do_align: bool
    multiple_faces: str
    detector: str
    detector_threshold: float


def _size(size: Any) -> dict[str, int]:
    if isinstance(size, (Mapping, SizeDict)):
        sides = [dict(size).get("height"), dict(size).get("width")]
    elif isinstance(size, (list, tuple)):
        sides = list(size)
    else:
        sides = [112, 112] if size is None else [size, size]
    if len(sides) != 2 or not all(isinstance(x, Integral) and 1 <= x <= MAX_SIDE for x in sides):
        raise ValueError(
            f"size is a number of pixels from 1 to {MAX_SIDE}, (height, width) or a dictionary with 'height' and "
            f"'width', not {size!r}"
        )
    return {"height": int(sides[0]), "width": int(sides[1])}


def _resample(resample: Any) -> int:
    if not isinstance(resample, Integral) or int(resample) not in [*Image.Resampling]:
        raise ValueError(f"resample is one of Pillow's filters, 0 to 5, not {resample!r}")
    return int(resample)


def _do_align(do_align: Any) -> bool:
    if not isinstance(do_align, (bool, np.bool_)):
        raise ValueError(f"do_align is true or false, not {do_align!r}")
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
    if not isinstance(threshold, Real) or not 0 <= threshold <= 1:
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


class FaceImageProcessor(BaseImageProcessor):
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
        do_align (`bool`, *optional*, defaults to `False`):
            Whether an image without landmarks goes through the face detector.
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
        do_align: bool = False,
        multiple_faces: str = "largest",
        detector: str | os.PathLike = DEFAULT_DETECTOR,
        detector_threshold: float = 0.6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.size = size
        self.resample = resample
        self.do_align = do_align
        self.multiple_faces = multiple_faces
        self.detector = detector
        self.detector_threshold = detector_threshold
        self._detectors: dict[tuple[str, float], YuNetFaceDetector] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        # Wherever a value comes from, a caller, a file or an assignment, it is in one form from here on.
        super().__setattr__(name, _CHECKS[name](value) if name in _CHECKS else value)

    def to_dict(self) -> dict[str, Any]:
        state = super().to_dict()
        state.pop("_detectors", None)
        return state

    def _overridden(self, overrides: dict[str, Any]) -> "FaceImageProcessor":
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
        The faces of one image.

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
            return self._overridden(overrides).extract_faces(image, landmarks)
        picture, factor = _load(image)
        if min(picture.size) < MIN_SIDE:
            raise FaceImageError(f"too small: {picture.width}x{picture.height} pixels, at least {MIN_SIDE} are needed")
        if landmarks is not None:
            points = _given_points(landmarks, picture.width * factor, picture.height * factor)
            return [self._aligned(picture, (points + 0.5) / factor - 0.5, points)]
        if not self.do_align:
            crop = picture.resize((self.size["width"], self.size["height"]), self.resample)
            return [FaceCrop(pixels_to_face(np.asarray(crop)))]
        found = self._face_detector().detect(np.asarray(picture))
        if not found:
            raise NoFaceError("no face found")
        if self.multiple_faces == "largest":
            found = found[:1]
        return [
            self._aligned(
                picture, face.landmarks, (face.landmarks + 0.5) * factor - 0.5, face.box * factor, face.score
            )
            for face in found
        ]

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
        processor = self._overridden(overrides)
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

    def _aligned(self, picture, points, landmarks, box=None, score=None) -> FaceCrop:
        try:
            crop = align_face(picture, points, (self.size["height"], self.size["width"]))
        except ValueError as error:
            raise FaceImageError(_first_line(error)) from None
        return FaceCrop(pixels_to_face(crop), landmarks, box, score)

    def _face_detector(self) -> YuNetFaceDetector:
        key = (self.detector, self.detector_threshold)
        return self._detectors.setdefault(key, YuNetFaceDetector(*key))


def pixels_to_face(pixels: np.ndarray) -> np.ndarray:
    """RGB pixels `(H, W, 3)` uint8 to a canonical face `(3, H, W)` float32 in [-1, 1]."""
    return np.ascontiguousarray((pixels.astype(np.float32) / 127.5 - 1.0).transpose(2, 0, 1))


def face_to_pixels(face: np.ndarray) -> np.ndarray:
    """A canonical face `(3, H, W)` in [-1, 1] to RGB pixels `(H, W, 3)` uint8, rounded."""
    return np.round((face.transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)


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
