# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
How far a score moves where nothing of the face changes: the size of the photograph, its JPEG quality, where the
picture is cut. Writes README.md, spread.csv and a figure.

    python docs/make_spread.py PHOTOGRAPHS --detector face_detection_yunet_2023mar.onnx --output docs/results/spread

PHOTOGRAPHS is a folder of whole photographs, one face each, of people that nothing was trained on.
"""

import argparse
import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from diffiqa_hf import load_method
from diffiqa_hf.alignment import YuNetFaceDetector
from diffiqa_hf.evaluation.figures import COLORS, GREY, in_style, new_figure, save_figure


SIZES = (200, 300, 500, 900, 2000)  # pixels of the longer side
QUALITIES = (50, 60, 70, 80, 90, 95)
SHIFTS = (0, 2, 5, 10, 20)  # pixels of 250, of both sides
WINDOW = 0.92  # of the photograph's sides, which is what is left of it


def resized(photograph: Image.Image, side: int) -> Image.Image:
    scale = side / max(photograph.size)
    size = tuple(max(1, round(length * scale)) for length in photograph.size)
    return photograph.resize(size, Image.Resampling.BICUBIC)


def compressed(photograph: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    photograph.save(file, "JPEG", quality=quality)
    return Image.open(file)


def shifted(photograph: Image.Image, pixels: int) -> Image.Image:
    """A window of the photograph, so many pixels (of 250) from its left and upper border."""
    width, height = (round(length * WINDOW) for length in photograph.size)
    step = round(pixels * max(photograph.size) / 250)
    return photograph.crop((step, step, step + width, step + height))


KINDS: dict[str, tuple[tuple[int, ...], Callable[[Image.Image, int], Image.Image]]] = {
    "size": (SIZES, resized),
    "JPEG quality": (QUALITIES, compressed),
    "shift": (SHIFTS, shifted),
}
SAID = {"size": "pixels of the longer side", "JPEG quality": "of Pillow", "shift": "pixels of 250"}


def scores_of(method, photographs: list[Image.Image], detector: YuNetFaceDetector | None = None):
    """
    By kind (photographs, versions), NaN where there is no face; with a detector by the points of its first look, else
    as the method aligns.
    """
    found = {}
    for kind, (values, change) in KINDS.items():
        rows = []
        for photograph in photographs:
            versions = [change(photograph, value) for value in values]
            landmarks = None
            if detector is not None:
                faces = [detector.detect(np.asarray(version.convert("RGB"))) for version in versions]
                if not all(faces):
                    rows.append([np.nan] * len(values))
                    continue
                landmarks = [found[0].landmarks for found in faces]
            rows.append(method(versions, landmarks=landmarks).scores.tolist())
        found[kind] = np.array(rows)
    return found


def spread(scores: np.ndarray) -> tuple[float, float, int]:
    """
    Of (photographs, versions): the standard deviation over the versions of one photograph (root of the mean variance),
    the difference of two versions of one photograph that 95 of 100 stay below, and how many photographs these are of.
    """
    whole = scores[~np.isnan(scores).any(axis=1)]
    first, second = np.triu_indices(whole.shape[1], 1)
    differences = np.abs(whole[:, first] - whole[:, second])
    return float(np.sqrt(whole.var(axis=1, ddof=1).mean())), float(np.quantile(differences, 0.95)), len(whole)


def draw(scores: dict[str, np.ndarray], path: Path) -> None:
    figure = new_figure(9, 2.8)
    with in_style():
        axes = figure.subplots(1, len(scores), sharey=True)
    for axis, (kind, values) in zip(axes, scores.items(), strict=True):
        away = values - np.nanmean(values, axis=1, keepdims=True)
        at = np.arange(values.shape[1])
        low, middle, high = np.nanquantile(away, (0.05, 0.5, 0.95), axis=0)
        axis.fill_between(at, low, high, color=COLORS[0], alpha=0.2, linewidth=0)
        axis.plot(at, middle, color=COLORS[0], marker="o", markersize=3.5)
        axis.axhline(0, color=GREY, linewidth=0.8, zorder=0)
        axis.set_xticks(at, [str(value) for value in KINDS[kind][0]])
        axis.set_xlabel(f"{kind}, {SAID[kind]}")
    axes[0].set_ylabel("score less its mean")
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--detector", required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    files = sorted(path for path in args.photographs.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    photographs = [Image.open(path).convert("RGB") for path in files]
    method = load_method(align=True, detector=args.detector)
    scores = scores_of(method, photographs)
    once = scores_of(method, photographs, YuNetFaceDetector(args.detector))
    args.output.mkdir(parents=True, exist_ok=True)
    with open(args.output / "spread.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "kind", "value", "score", "score_one_detection"])
        for kind, (values, _) in KINDS.items():
            for row, path in enumerate(files):
                for at, value in enumerate(values):
                    cells = (f"{found[kind][row, at]:.6f}" for found in (scores, once))
                    writer.writerow([path.name, kind, value, *cells])
    draw(scores, args.output / "spread")
    (args.output / "README.md").write_text(report(scores, once, len(files)), encoding="utf-8")


def report(scores: dict[str, np.ndarray], once: dict[str, np.ndarray], count: int) -> str:
    between = float(np.std(np.nanmean(scores["JPEG quality"], axis=1), ddof=1))
    rows = []
    for kind, (values, _) in KINDS.items():
        deviation, bound, number = spread(scores[kind])
        before = spread(once[kind])[0]
        listed = ", ".join(map(str, values))
        rows.append(
            f"| {kind}: {listed} ({SAID[kind]}) | {deviation:.4f} | {bound:.3f} | {before:.4f} | "
            f"{before / deviation:.1f} | {number} |"
        )
    still = max(spread(scores[kind])[1] for kind in ("size", "shift"))
    compressed = spread(scores["JPEG quality"])[1]
    return TEXT.format(
        count=count, rows="\n".join(rows), between=between, still=f"{still:.2f}", compressed=f"{compressed:.2f}"
    )


TEXT = """\
# How far a score moves where nothing of the face changes

DifFIQA(R), default weights, {count} whole photographs of people that nothing was trained on, aligned as all commands
do it. [spread.csv](spread.csv) has all scores.

![Score less the mean of its photograph: the median, and where 90 of 100 photographs lie](spread.png)

| what changes | standard deviation | 95 of 100 differences below | with one detection | ratio | photographs |
|---|---|---|---|---|---|
{rows}

The standard deviation is over the versions of one photograph, the root of the mean variance; the differences are of
any two versions of one photograph. "With one detection" is the same by the points of the detector's first look, as
alignment was before it looked again; the ratio is that of the two. Between the photographs, which are of different
people, the standard deviation is {between:.3f}.

So do not rank two photographs on a difference of less than {still}: as much comes from the size of the file and from
where it was cut alone. Where they are compressed differently, on none of less than {compressed}.

- Sizes are made by bicubic resampling from photographs of 250 pixels. A larger one has no more detail then, which a
  camera's has: what is measured is that alignment and resampling hold still, not what a better camera brings.
- The photographs are JPEG files themselves, and are compressed once more.
- Shifts cut the picture elsewhere: a window of 92 % of its sides. What is cut off is no part of the aligned face.

Made by

<!-- parsed: LFW's photographs are not ours to share -->
```bash
python docs/make_spread.py PHOTOGRAPHS --detector face_detection_yunet_2023mar.onnx --output docs/results/spread
```

with the 64 photographs of LFW dev_test that were at hand as they were before alignment.
"""


if __name__ == "__main__":
    main()
