# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
JPEG files by Pillow's decoder without what Pillow reads around it, which takes longer than to decode a face crop; and
at a half, a quarter or an eighth of their size, which the decoder does at little more than that part of the cost.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from PIL import Image


JPEG_START = b"\xff\xd8\xff"
_ORIENTATION = 0x0112
_BYTE_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}


class JpegHeader(NamedTuple):
    """Width and height in pixels, and the number of channels: 1 or 3."""

    width: int
    height: int
    channels: int


def read_header(data: bytes) -> JpegHeader | None:
    """
    The header of a plain JPEG file: 8 bits, grey or of three channels, one picture, upright. `None` of any other, and
    of what is damaged.
    """
    if data[:3] != JPEG_START:
        return None
    at, header = 2, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:  # what follows is the picture
            return header
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if header is not None or length < 8 or data[at + 4] != 8 or data[at + 9] not in (1, 3):
                return None
            height, width = (int.from_bytes(data[at + start : at + start + 2], "big") for start in (5, 7))
            header = JpegHeader(width, height, data[at + 9])
            if not width or not height:
                return None
        elif marker == 0xE1 and not _is_upright(data[at + 4 : at + 2 + length]):
            return None
        elif marker == 0xE2 and data[at + 4 : at + 8] == b"MPF\0":  # several pictures
            return None
        elif not 0xC0 <= marker <= 0xFE or length < 2:
            return None
        at += 2 + length
    return None


def read_jpeg(data: bytes, shrink: Callable[[int, int], float] | None, most_pixels: int) -> tuple | None:
    """
    A plain JPEG file as Pillow reads it, RGB.

    Args:
        data: The file.
        shrink: Is given width and height, and says how much smaller the picture may be.
        most_pixels: A picture that has more is left to others.

    Returns:
        The picture, and by which factor it is smaller than that of the file: 1, 2, 4 or 8. `None` where it is not
        plain, or damaged.
    """
    header = read_header(data)
    if header is None or header.width * header.height > most_pixels:
        return None
    factor = shrink_factor(1.0 if shrink is None else shrink(header.width, header.height))
    size = -(-header.width // factor), -(-header.height // factor)
    mode = "RGB" if header.channels == 3 else "L"
    try:
        # The arguments of the decoder: the mode, how the file's colours are to be taken (as they say), and the scale.
        picture = Image.frombytes(mode, size, data, "jpeg", mode, "", factor, 0)
    except (OSError, ValueError):
        return None
    return picture if mode == "RGB" else picture.convert("RGB"), factor


def shrink_factor(most: float) -> int:
    """The largest of the decoder's factors 1, 2, 4 and 8 that is no larger than a number."""
    return next((factor for factor in (8, 4, 2) if factor <= most), 1)


def _is_upright(segment: bytes) -> bool:
    """Whether a segment of Exif or XMP says nothing of a turn, as far as it is read here."""
    if segment[:6] != b"Exif\0\0":
        return b"Orientation" not in segment
    order = _BYTE_ORDERS.get(segment[6:10])
    if order is None:
        return False
    tiff = segment[6:]
    at = int.from_bytes(tiff[4:8], order)
    for entry in range(int.from_bytes(tiff[at : at + 2], order)):
        start = at + 2 + 12 * entry
        if int.from_bytes(tiff[start : start + 2], order) == _ORIENTATION:
            return tiff[start + 2 : start + 8] == (3).to_bytes(2, order) + (1).to_bytes(4, order) and (
                int.from_bytes(tiff[start + 8 : start + 10], order) == 1
            )
    return True


__all__ = ["JPEG_START", "JpegHeader", "read_header", "read_jpeg", "shrink_factor"]
