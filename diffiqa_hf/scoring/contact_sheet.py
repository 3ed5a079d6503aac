# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""A contact sheet: faces in the order of their scores, such as the picture of `diffiqa score --plot`."""

import math
import os
import unicodedata
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFont

from ..images.extraction import FaceExtractor, face_to_pixels
from ..quality_record import shown_score
from .errors import one_line


MAX_FACES = 60
FACE, GAP, MARGIN, BAR, CAPTION, TITLE = 112, 14, 24, 5, 40, 52  # pixels
INK, GREY, PAPER = (30, 30, 34), (118, 118, 126), (255, 255, 255)
BAD, MIDDLE, GOOD = (197, 64, 60), (232, 186, 76), (58, 150, 98)


def contact_sheet(
    image_processor: FaceExtractor, rows: Sequence[dict], place: Callable[[dict], str], method: str = "DifFIQA"
) -> Image.Image:
    """
    The sheet of scored faces, of which at most `MAX_FACES` are shown. They are read again: who scores many keeps none.

    Args:
        image_processor: That made the faces.
        rows: With `file`, `face` and `score`, in any order.
        place: Where the file of a row lies.
        method: Whose scores they are, for the title.
    """
    ranked = sorted(rows, key=lambda row: -row["score"])
    chosen = choose(ranked)
    faces = []
    for row in chosen:
        crops = image_processor.extract_faces(place(row))
        faces.append(Image.fromarray(face_to_pixels(crops[row["face"]].pixel_values)))
    return draw(faces, chosen, len(ranked), method)


def choose(rows: Sequence[dict]) -> list[dict]:
    """At most `MAX_FACES` of the sorted rows: the first, the last, and evenly spaced ranks between them."""
    if len(rows) <= MAX_FACES:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (MAX_FACES - 1))] for i in range(MAX_FACES)]


def draw(faces: Sequence[Image.Image], rows: Sequence[dict], total: int, method: str = "DifFIQA") -> Image.Image:
    """Draws the faces row by row, each with its score and name below.

    Args:
        faces: The crops, best first.
        rows: Their rows of the table, in the same order.
        total: How many faces were scored; the title says so where not all are shown.
        method: Whose scores they are, for the title.
    """
    # Wide rather than high, as pages and screens are.
    columns = min(len(faces), max(6, math.ceil(math.sqrt(1.9 * len(faces)))))
    lines = math.ceil(len(faces) / columns)
    width = max(2 * MARGIN + columns * (FACE + GAP) - GAP, 420)
    height = TITLE + lines * (FACE + BAR + CAPTION + GAP) + MARGIN - GAP
    picture = Image.new("RGB", (width, height), PAPER)
    canvas = ImageDraw.Draw(picture)
    title_font, score_font, name_font = (ImageFont.load_default(size) for size in (19, 15, 11))
    title = f"{method} scores, best first: {total} faces"
    if total > len(faces):
        title = f"{method} scores, best first: {len(faces)} of {total} faces, evenly spaced ranks"
    canvas.text((MARGIN, 17), title, INK, title_font)

    names = _short_names([row["file"] for row in rows])
    scores = [row["score"] for row in rows]
    spread = max(scores) - min(scores) or 1.0
    for i, (face, row) in enumerate(zip(faces, rows, strict=True)):
        x = MARGIN + (i % columns) * (FACE + GAP)
        y = TITLE + (i // columns) * (FACE + BAR + CAPTION + GAP)
        picture.paste(face.convert("RGB").resize((FACE, FACE), Image.Resampling.BICUBIC), (x, y))
        # The bar says where the score lies between the lowest and the highest one of the picture.
        share = (row["score"] - min(scores)) / spread
        canvas.rectangle((x, y + FACE, x + FACE - 1, y + FACE + BAR - 1), (233, 233, 236))
        canvas.rectangle((x, y + FACE, x + max(2, round(share * FACE)) - 1, y + FACE + BAR - 1), _colour(share))
        canvas.text((x, y + FACE + BAR + 4), shown_score(row["score"]), INK, score_font)
        # Pillow's own font has the letters of ASCII only: accents go, other letters become question marks.
        name = one_line(names[i])
        name = unicodedata.normalize("NFKD", name)
        name = "".join(c for c in name if not unicodedata.combining(c)).encode("ascii", "replace").decode()
        if row["face"]:
            name += f" #{row['face']}"
        canvas.text((x, y + FACE + BAR + 23), _shorten(name, name_font), GREY, name_font)
    return picture


def _short_names(files: Sequence[str]) -> list[str]:
    """What tells the files apart: the name without its ending, behind as many of its folders as that takes."""
    paths = [os.path.splitext(os.path.normpath(file).replace("\\", "/"))[0].split("/") for file in files]
    parts = [1] * len(files)
    while True:
        names = ["/".join(path[-count:]) for path, count in zip(paths, parts, strict=True)]
        of_name: dict[str, set[str]] = {}
        for name, file in zip(names, files, strict=True):
            of_name.setdefault(name, set()).add(file)
        more = [
            len(of_name[name]) > 1 and count < len(path) for name, count, path in zip(names, parts, paths, strict=True)
        ]
        if not any(more):
            return names
        parts = [count + longer for count, longer in zip(parts, more, strict=True)]


def _shorten(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    # The middle goes: names mostly differ at their ends.
    short, cut = name, len(name)
    while font.getlength(short) > FACE:
        cut -= 1
        short = name[: (cut + 1) // 2] + "..." + name[len(name) - cut // 2 :]
    return short


def _colour(share: float) -> tuple[int, int, int]:
    low, high, t = (BAD, MIDDLE, 2 * share) if share < 0.5 else (MIDDLE, GOOD, 2 * share - 1)
    red, green, blue = (round(a + (b - a) * t) for a, b in zip(low, high, strict=True))
    return red, green, blue


__all__ = ["MAX_FACES", "choose", "contact_sheet", "draw"]
