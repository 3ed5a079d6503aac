# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Whatever a person calls an image (path, PIL, NumPy, torch, an item of a `datasets` column) to an upright picture."""

import errno
import io
import os
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .jpeg import JPEG_START, read_header, read_jpeg, shrink_factor


# Pictures with more pixels are halved (or cut to a third...) when they are read, which bounds the memory.
LARGE_IMAGE_PIXELS = 64_000_000
# Of a file, in which the head of a picture is looked for: past the thumbnail that a camera may put before it.
HEAD_BYTES = 2**16
# What a HEIC or HEIF file calls itself in its bytes 8 to 11.
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

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
        image: Path, the bytes of a file or an open one (read from where it is), PIL image, NumPy array, torch tensor
            or `{"bytes", "path"}` dictionary.

    Returns:
        `PIL.Image.Image`: upright, mode RGB.

    Raises:
        FaceImageError: The image can't be read or its values are not defined as above; the message is the reason.
    """
    return read_image(image)[0]


def read_image(image: Any, shrink: Callable[[int, int], float] | None = None) -> tuple[Image.Image, int]:
    """
    As [`load_image`], and the factor by which a picture was reduced (1: not).

    Args:
        shrink (*optional*): Is given width and height of a JPEG file, and says how much smaller it may be decoded.
    """
    if isinstance(image, dict) and ("bytes" in image or "path" in image):
        image = io.BytesIO(image["bytes"]) if image.get("bytes") is not None else image.get("path")
    image = readable_again(image)
    if isinstance(image, (str, os.PathLike, io.BytesIO)):
        return _read(image, shrink)
    if isinstance(image, Image.Image):
        with _reasons():  # a file that Pillow has opened but not read yet may be damaged
            with _LOADING[id(image) % len(_LOADING)]:
                image.load()
            return _upright_rgb(image)
    if _is_tensor(image):
        return _upright_rgb(_from_array(image.detach().cpu(), channels_first=True))
    if isinstance(image, np.ndarray):
        return _upright_rgb(_from_array(image, channels_first=False))
    raise FaceImageError(
        f"{type(image).__name__} is no image: a path, bytes, an open file, a PIL image, a NumPy array or a torch "
        "tensor is needed"
    )


def readable_again(image: Any) -> Any:
    """What can be read more than once in place of an open file, which can't, and of bytes; another image as it is."""
    if isinstance(image, (bytes, bytearray, memoryview)):
        return io.BytesIO(image)
    if is_open_file(image) and not isinstance(image, io.BytesIO):
        with _reasons():
            return io.BytesIO(_content(image))
    return image


def is_open_file(image: Any) -> bool:
    """Whether it is an open file, of any kind, and no image of another kind that can be read from."""
    return hasattr(image, "read") and not isinstance(image, (os.PathLike, Image.Image, np.ndarray))


def _content(file: Any) -> bytes:
    content = file.read()
    if not isinstance(content, bytes):
        raise FaceImageError("the file is open as text: an image is read from one that is open as bytes ('rb')")
    return content


def _is_tensor(image: Any) -> bool:
    torch = sys.modules.get("torch")  # who has a tensor has imported it
    return torch is not None and isinstance(image, torch.Tensor)


def _read(file: str | os.PathLike | io.BytesIO, shrink: Callable[[int, int], float] | None) -> tuple[Image.Image, int]:
    with _reasons():
        data = file.getbuffer() if isinstance(file, io.BytesIO) else _jpeg_data(file)
        if data is not None and data[:3] == JPEG_START:
            found = read_jpeg(bytes(data), shrink, LARGE_IMAGE_PIXELS)
            if found is not None:
                return found
        elif data is not None and len(data) == 0:
            raise FaceImageError("empty file")
        with _opened(file) as picture:
            if picture.format == "EPS":  # Pillow would have Ghostscript run it
                raise FaceImageError("EPS is a program that draws, and is not run")
            width, height = picture.size
            most = 1.0 if shrink is None else shrink(width, height)
            # JPEG only: decodes at a half of the size, in a quarter of the memory.
            factor = shrink_factor(max(most, 2.0 if width * height > LARGE_IMAGE_PIXELS else 1.0))
            if factor > 1:
                picture.draft("RGB", (width // factor, height // factor))
            drafted = round(width / picture.width)
            rgb, factor = _upright_rgb(picture)
            return rgb, factor * drafted


def picture_size(path: str | os.PathLike) -> tuple[int, int] | None:
    """Width and height of a picture by the head of its file alone; `None` of what can't be read."""
    try:
        if not os.path.isfile(path):  # a pipe, say, must not be opened at all, for that would block
            return None
        with open(path, "rb", buffering=0) as opened:
            header = read_header(opened.read(HEAD_BYTES))
        if header is not None:
            return header.width, header.height
        with _opened_by_pillow(path) as picture:
            return picture.size
    except Exception:  # Pillow's parsers raise whatever they trip over; who reads the picture learns what
        return None


def _jpeg_data(file: str | os.PathLike) -> bytes | None:
    """What is in a file that begins as a JPEG does; `None` of others."""
    status = os.stat(file)
    if not stat.S_ISREG(status.st_mode):  # a pipe, say, must not be opened at all, for that would block
        raise FaceImageError("is a directory, not an image" if stat.S_ISDIR(status.st_mode) else "not a regular file")
    if status.st_size == 0:
        raise FaceImageError("empty file")
    with open(file, "rb", buffering=0) as opened:
        head = opened.read(len(JPEG_START))
        return head + opened.readall() if head == JPEG_START else None


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
        raise FaceImageError(f"too large: {first_line(error)}") from None
    except OSError as error:
        # The text of an operating system's error has the file name, `strerror` has not.
        raise FaceImageError(_ERRNO_REASONS.get(error.errno or 0) or error.strerror or first_line(error)) from None
    except Exception as error:  # Pillow's parsers raise whatever they trip over in a damaged header
        raise FaceImageError(f"damaged file: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type where it has none."""
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
    if _is_tensor(array):
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


__all__ = [
    "FaceImageError",
    "NoFaceError",
    "first_line",
    "is_open_file",
    "load_image",
    "picture_size",
    "read_image",
    "readable_again",
]
