# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The job of a badge office, by the commands of docs/choosing.md, on people of LFW that no training has seen."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from diffiqa_hf.cli import main


pytestmark = [pytest.mark.slow, pytest.mark.shared]

PEOPLE = 100  # with an undamaged photograph, and as many without one


def dark(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    return Image.fromarray((np.asarray(face) * 0.08).astype(np.uint8))


def bright(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(np.clip(np.asarray(face).astype(float) * 3 + 90, 0, 255).astype(np.uint8))


def blurred(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    return face.filter(ImageFilter.GaussianBlur(3 * face.width / 112))


def small(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    return face.resize((14, 14), Image.Resampling.BOX).resize(face.size, Image.Resampling.BICUBIC)


def noisy(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(face).astype(float)
    return Image.fromarray(np.clip(pixels + rng.normal(0, 60, pixels.shape), 0, 255).astype(np.uint8))


def compressed(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    face.resize((32, 32), Image.Resampling.BOX).save(file, "JPEG", quality=5)
    return Image.open(file).resize(face.size, Image.Resampling.BICUBIC)


DAMAGES = (dark, bright, blurred, small, noisy, compressed)


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_undamaged_photograph_is_chosen_and_who_has_none_comes_again(shared_dir, tmp_path, monkeypatch, capsys):
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(tmp_path)
    table = pq.read_table(shared_dir / "data" / "lfw" / "dev_test.parquet", columns=["image", "identity"])
    first: dict[str, int] = {}
    for row, person in enumerate(table["identity"].to_pylist()):
        first.setdefault(person, row)
    rng = np.random.default_rng(0)
    people = rng.permutation(sorted(first))[: 6 * PEOPLE].tolist()
    for number, person in enumerate(people):
        content = table["image"][first[person]].as_py()["bytes"]
        if number >= 2 * PEOPLE:  # photographs that are known to be good, of others
            Path("good").mkdir(exist_ok=True)
            Path("good", f"{person}.jpg").write_bytes(content)
            continue
        folder = Path("people", person)
        folder.mkdir(parents=True)
        face = Image.open(io.BytesIO(content)).convert("RGB")
        for place, kind in enumerate(rng.choice(len(DAMAGES), 3, replace=False)):
            DAMAGES[kind](face, rng).save(folder / f"{place}.png")
        if number < PEOPLE:
            face.save(folder / "undamaged.png")
    has_one = set(people[:PEOPLE])

    assert main(["calibrate", "good", "--output", "mine.json"]) == 0
    args = ["--calibration", "mine.json", "--min-percentile", "2", "--again", "again.csv", "--output", "chosen.csv"]
    assert main(["best", "people", "--group-by", "folder", *args, "--report", "best.html"]) == 0
    again = {row["identity"] for row in read_csv(Path("again.csv"))}
    assert len(again - has_one) >= 0.95 * PEOPLE
    assert len(again & has_one) <= 0.05 * PEOPLE
    # Without a threshold, so that it is the order of a person's photographs that counts.
    assert main(["best", "people", "--group-by", "folder", "--output", "all.csv"]) == 0
    chosen = {row["identity"]: Path(row["file"]).name for row in read_csv(Path("all.csv"))}
    assert sum(chosen[person] == "undamaged.png" for person in has_one) >= 0.99 * PEOPLE
