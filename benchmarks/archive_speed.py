# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
How long an archive takes: `diffiqa score` on whole photographs on disk, JPEG files of 250 pixels, 2 and 12 megapixels,
and on aligned crops beside them; whole processes on one core that take turns. What counts is the time of the
processor, which other work on the machine changes less than that of the clock.

    python benchmarks/archive_speed.py PHOTOGRAPHS --detector YUNET.onnx [--files 60] [--rounds 3]
        [--output benchmarks/results/archive_speed.md]

PHOTOGRAPHS is a folder of small photographs, one face each. Larger ones are made of them: each photograph is enlarged
and pasted on a canvas of soft noise, so that its face is a third of the picture high. The start of a process is
measured by itself, and taken off.
"""

import argparse
import datetime
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from engine_speed import processor, score, timed
from PIL import Image, ImageFilter


# Width and height, and the side of the photograph that is pasted; 0: it is the photograph itself.
KINDS = {
    "aligned crop, 112x112": (112, 112, 0),
    "photograph, 250x250": (250, 250, 0),
    "photograph, 1632x1224 (2 MP)": (1632, 1224, 900),
    "photograph, 4000x3000 (12 MP)": (4000, 3000, 2200),
}
ARCHIVE = 40_000_000
SECONDS_A_DAY = 86_400


def processor_seconds(command: list[str]) -> float:
    """Of a process, user and system."""
    _, used = timed(command)
    return used.ru_utime + used.ru_stime


def canvas(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Soft shapes with some noise, as a sensor has it."""
    small = Image.fromarray(rng.integers(40, 216, (height // 60, width // 60, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    pixels = pixels + rng.normal(0, 6, pixels.shape).astype(np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))


def make(kind: str, photographs: list[Path], count: int, folder: Path, rng: np.random.Generator) -> Path:
    width, height, side = KINDS[kind]
    folder.mkdir()
    background = canvas(width, height, rng) if side else None
    for number in range(count):
        photograph = Image.open(photographs[number % len(photographs)]).convert("RGB")
        if side:
            picture = background.copy()
            place = (width - side) // 2 + int(rng.integers(-width // 8, width // 8)), (height - side) // 2
            picture.paste(photograph.resize((side, side), Image.Resampling.BICUBIC), place)
        elif width == 112:
            middle = photograph.width // 2
            picture = photograph.crop((middle - 56, middle - 56, middle + 56, middle + 56))
        else:
            picture = photograph
        picture.save(folder / f"{number:05}.jpg", quality=92)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--detector", required=True)
    parser.add_argument("--files", type=int, default=60, help="of each size, and ten times as many crops (60)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # one core, for the processes that are started as well
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    photographs = sorted(args.photographs.glob("*.jpg"))
    load = os.getloadavg()[0]
    rng = np.random.default_rng(0)
    options = ("--detector", args.detector, "--threads", "1")
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    starts: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        counts = {kind: args.files * (1 if KINDS[kind][0] > 112 else 10) for kind in KINDS}
        folders = {
            kind: make(kind, photographs, counts[kind], Path(name, str(number)), rng)
            for number, kind in enumerate(KINDS)
        }
        sizes = {kind: statistics.mean(file.stat().st_size for file in folders[kind].iterdir()) for kind in KINDS}
        first = next(folders["aligned crop, 112x112"].iterdir())
        tables = 0
        for _ in range(args.rounds):
            for kind, folder in (("start", first), *folders.items()):
                tables += 1
                took = processor_seconds(score(folder, Path(name, f"{tables}.csv"), *options))
                (starts if kind == "start" else seconds[kind]).append(took)
                print(f"  {kind}: {took:.2f} s", file=sys.stderr)
    start = statistics.median(starts)
    rows = []
    for kind in KINDS:
        each = (statistics.median(seconds[kind]) - start) / counts[kind]
        days = each * ARCHIVE / SECONDS_A_DAY
        rows.append(f"| {kind} | {sizes[kind] / 1000:,.0f} | {counts[kind]} | {1 / each:,.1f} | {days:,.1f} |")
    text = report(rows, start, args.rounds, load)
    print(text)
    if args.output is not None:
        args.output.write_text(text, encoding="utf-8")


def report(rows: list[str], start: float, rounds: int, load: float) -> str:
    lines = [
        "# How long an archive takes",
        "",
        f"{processor()}, of which one was used; Python {platform.python_version()}; "
        f"{datetime.date.today():%d %B %Y}; other work on the machine, load average before {load:.1f}.",
        "",
        f"`diffiqa score FOLDER --threads 1`, DifFIQA(R) in ONNX Runtime, from JPEG files on disk (quality 92, read "
        f"before and so in memory) to the table: seconds of the processor, the median of {rounds} rounds in which all "
        f"take turns, less the {start:.2f} s of a process with one crop. Photographs are decoded, searched for the "
        f"face by YuNet, looked at again twice and aligned.",
        "",
        f"| | kB a file | files | images a second, one core | days for {ARCHIVE // 10**6} million, one core |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "The time goes down with the number of cores and machines (`--shard`). The larger photographs are small ones, "
        "enlarged and pasted on soft noise, with one face each. A camera's file of 12 MP may have three times the "
        "bits of these, and takes longer to decode.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
