# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Photographs for a page of HTML: small, with frames around their faces, inside of the page itself."""

import base64
import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont


FRAME = (255, 190, 40)
LABEL = (20, 20, 24)


def framed(picture: Image.Image, boxes: Sequence[Sequence[float]], side: int, numbered: bool = False) -> Image.Image:
    """
    A photograph with a frame around each of its faces, no side longer than `side` pixels.

    Args:
        boxes: For each face x, y, width, height, in pixels of the photograph.
        numbered: Whether the faces are numbered, from 1.
    """
    scale = min(1.0, side / max(picture.size))
    width, height = (max(1, round(length * scale)) for length in picture.size)
    if scale < 1:
        picture = picture.resize((width, height), Image.Resampling.BOX, reducing_gap=2.0)
    else:
        picture = picture.copy()
    canvas = ImageDraw.Draw(picture)
    line = max(2, round(max(width, height) / 300))
    font = ImageFont.load_default(max(14, 8 * line))
    for number, box in enumerate(boxes, 1):
        x, y, wide, high = (float(value) * scale for value in box)
        canvas.rectangle((x, y, x + wide, y + high), outline=FRAME, width=line)
        if numbered:
            text = str(number)
            left, top = max(x, 0), max(y, 0)
            padding = 2 * line
            right = left + font.getlength(text) + 2 * padding
            canvas.rectangle((left, top, right, top + font.size + padding), fill=FRAME)
            canvas.text((left + padding, top), text, LABEL, font)
    return picture


def data_uri(picture: Image.Image, exact: bool = False) -> str:
    """A picture as the source of an `<img>`: JPEG, or PNG where every pixel counts."""
    file = io.BytesIO()
    if exact:
        picture.save(file, "PNG")
    else:
        picture.save(file, "JPEG", quality=82)
    kind = "png" if exact else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


__all__ = ["data_uri", "framed"]
