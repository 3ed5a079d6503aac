# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""From whatever a person has (path, PIL, NumPy, torch, an item of a `datasets` column) to canonical faces."""

import errno
import io
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from transformers import AutoImageProcessor

# diffusers looks in the module where a component's class was defined for the base class `ImageProcessingMixin`, to
# learn how the component is loaded. Without this name a pipeline saves and does not load.
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature, ImageProcessingMixin  # noqa: F401
from transformers.utils import is_torch_tensor

from .alignment import DEFAULT_DETECTOR, YuNetFaceDetector, align_face, similarity_transform
from .models.modeling_face import FaceModelConfig


# Pictures with more pixels are halved (or cut to a third...) when they are read, which bounds the memory.
LARGE_IMAGE_PIXELS = 64_000_000

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
      orientation. Grey and two-level images are repeated in the three channels. Transparent pixels (RGBA, LA,
      palette) are laid on mid grey, the middle of [-1, 1]. CMYK, YCbCr and HSV are converted as Pillow does, without
      colour profiles. 16-bit grey (Pillow's modes `I;16` and `I`) is scaled by 1/257; 16-bit colour comes as 8 bits
      from Pillow. 32-bit float (`F`) has to lie in [0, 1]. Animations give their first frame (a PIL image: the
      frame it is at).
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
        return _upright_rgb(image)
    if is_torch_tensor(image):
        return _upright_rgb(_from_array(image.detach().cpu(), channels_first=True))
    if isinstance(image, np.ndarray):
        return _upright_rgb(_from_array(image, channels_first=False))
    raise FaceImageError(
        f"{type(image).__name__} is no image: a path, a PIL image, a NumPy array or a torch tensor is needed"
    )


def _read(file: str | os.PathLike | io.BytesIO) -> tuple[Image.Image, int]:
    try:
        # isfile() is False for what must not be opened at all, such as a pipe, which would block.
        if not isinstance(file, io.BytesIO) and os.stat(file) and not os.path.isfile(file):
            raise FaceImageError("is a directory, not an image" if os.path.isdir(file) else "not a regular file")
        if (len(file.getbuffer()) if isinstance(file, io.BytesIO) else os.path.getsize(file)) == 0:
            raise FaceImageError("empty file")
        with warnings.catch_warnings():
            # Pillow warns at half of the size that it refuses; up to there we reduce the picture ourselves.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                if picture.width * picture.height > LARGE_IMAGE_PIXELS:
                    # JPEG only: decodes at a half of the size, in a quarter of the memory.
                    picture.draft("RGB", (picture.width // 2, picture.height // 2))
                return _upright_rgb(picture)
    except FaceImageError:
        raise
    except UnidentifiedImageError:
        raise FaceImageError("not an image, or in a format that Pillow can't read") from None
    except Image.DecompressionBombError as error:
        raise FaceImageError(f"too large: {_first_line(error)}") from None
    except OSError as error:
        raise FaceImageError(_ERRNO_REASONS.get(error.errno, _first_line(error))) from None
    except Exception as error:  # Pillow's parsers raise whatever they trip over in a damaged header
        raise FaceImageError(f"damaged file: {_first_line(error)}") from None
