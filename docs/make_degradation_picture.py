# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Draw `docs/images/degradation.jpg`: what the degradations make of a few faces.

    python docs/make_degradation_picture.py [FACE ...] [--output docs/images/degradation.jpg]

For each face: the face and draws of `degrade_face`, the mildest first. Below, for the first face, the blend of
Equation 6 with its worst draw, and `degrade_at` at its named strengths.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from diffiqa_hf.degradations import STRENGTHS, blend, blend_weight, degrade_at, degrade_face


ROOT = Path(__file__).resolve().parent.parent
DEFAULT_FACES = [
    ROOT / "examples" / "faces" / f"{name}.jpg" for name in ("astronaut", "sample3_smile", "sample6_left")
]
SIDE, GAP, HEADING = 112, 4, 22
DRAWS = 64
SHOWN = 7
BLEND_STEPS = (0, 5, 20, 35, 50, 70, 85, 99)


def draw_range(face: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Out of `DRAWS` degraded copies, `SHOWN` at even ranks of the mean squared error."""
    copies = [degrade_face(face, rng, size=SIDE) for _ in range(DRAWS)]
    copies.sort(key=lambda copy: np.mean((copy.astype(float) - face) ** 2))
    return [copies[round(rank)] for rank in np.linspace(0, DRAWS - 1, SHOWN)]


def blend_over_time(face: np.ndarray, degraded: np.ndarray) -> list[np.ndarray]:
    steps = torch.tensor(BLEND_STEPS)
    clean, worst = (torch.from_numpy(image).float().expand(len(steps), -1, -1, -1) for image in (face, degraded))
    return list(blend(clean, worst, steps, 100).round().byte().numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", nargs="*", type=Path, default=DEFAULT_FACES, help="aligned face crops")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "degradation.jpg")
    args = parser.parse_args()

    faces = [np.array(Image.open(path).convert("RGB").resize((SIDE, SIDE))) for path in args.faces]
    rng = np.random.default_rng(0)
    ranges = [draw_range(face, rng) for face in faces]
    weights = blend_weight(torch.tensor(BLEND_STEPS), 100).tolist()
    blended = "   ".join(f"t = {step}: {weight:.2f}" for step, weight in zip(BLEND_STEPS, weights, strict=True))
    sections = [
        (
            f"clean, then degrade_face: {SHOWN} of {DRAWS} draws, by mean squared error",
            [[f, *r] for f, r in zip(faces, ranges, strict=True)],
        ),
        (f"blend with the last draw, weight at {blended}", [blend_over_time(faces[0], ranges[0][-1])]),
        (
            f"clean, then degrade_at: {', '.join(STRENGTHS)}",
            [[faces[0], *(degrade_at(faces[0], name, 0) for name in STRENGTHS)]],
        ),
    ]

    width = (SHOWN + 1) * (SIDE + GAP) + GAP
    height = sum(HEADING + len(rows) * (SIDE + GAP) for _, rows in sections) + GAP
    canvas = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=13)
    top = 0
    for heading, rows in sections:
        pen.text((GAP, top + 4), heading, fill="black", font=font)
        top += HEADING
        for row in rows:
            for column, image in enumerate(row):
                canvas.paste(Image.fromarray(image), (GAP + column * (SIDE + GAP), top))
            top += SIDE + GAP
    args.output.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(args.output, quality=85, optimize=True)


if __name__ == "__main__":
    main()
