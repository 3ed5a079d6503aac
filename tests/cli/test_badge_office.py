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
    return face.filter(ImageFilter.GaussianBlur(3 * scale_of(face)))


def scale_of(face: Image.Image) -> float:
    """How large a face is, by that of a crop: those of the whole photographs here are about 1.3 times as large."""
    return 1.0 if face.width == 112 else 1.3


def reduced(face: Image.Image, factor: float) -> Image.Image:
    return face.resize(tuple(max(1, round(side / factor)) for side in face.size), Image.Resampling.BOX)


def small(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    return reduced(face, 8 * scale_of(face)).resize(face.size, Image.Resampling.BICUBIC)


def noisy(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(face).astype(float)
    return Image.fromarray(np.clip(pixels + rng.normal(0, 60, pixels.shape), 0, 255).astype(np.uint8))


def compressed(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    reduced(face, 3.5 * scale_of(face)).save(file, "JPEG", quality=5)
    return Image.open(file).resize(face.size, Image.Resampling.BICUBIC)


DAMAGES = (dark, bright, blurred, small, noisy, compressed)


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def on_canvas(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A whole photograph, where there is a crop alone: 1.3 times as large, somewhere on soft shapes and noise."""
    shapes = Image.fromarray(rng.integers(60, 200, (6, 8, 3), dtype=np.uint8)).resize(
        (400, 300), Image.Resampling.BICUBIC
    )
    pixels = np.asarray(shapes) + rng.normal(0, 4, (300, 400, 3))
    canvas = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    side = round(1.3 * face.width)
    canvas.paste(
        face.resize((side, side), Image.Resampling.BICUBIC),
        tuple(rng.integers(20, (400 - side - 20, 300 - side - 20))),
    )
    return canvas


def pictures(shared_dir: Path, whole: bool, rng: np.random.Generator) -> list[tuple[str, Image.Image]]:
    """One of each person of dev_test, in random order: whole photographs as they were before alignment, if there."""
    pq = pytest.importorskip("pyarrow.parquet")
    folder = shared_dir / "data" / "lfw"
    found: dict[str, bytes] = {}
    known = set()
    for name in ("raw_sample", "dev_test") if whole else ("dev_test",):
        table = pq.read_table(folder / f"{name}.parquet", columns=["image", "identity"])
        for image, person in zip(table["image"].to_pylist(), table["identity"].to_pylist(), strict=True):
            found.setdefault(person, image["bytes"])
        if name == "raw_sample":
            known = set(found)
    people = rng.permutation(sorted(found)).tolist()
    # All that there are before the others: they are too few to be left to chance.
    people = [*(p for p in people if p in known), *(p for p in people if p not in known)][: 6 * PEOPLE]
    order = rng.permutation(2 * PEOPLE).tolist() + list(range(2 * PEOPLE, len(people)))
    opened = []
    for person in (people[at] for at in order):
        face = Image.open(io.BytesIO(found[person])).convert("RGB")
        opened.append((person, on_canvas(face, rng) if whole and person not in known else face))
    return opened


@pytest.mark.parametrize("whole", [False, True], ids=["crops", "photographs"])
def test_the_undamaged_photograph_is_chosen_and_who_has_none_comes_again(
    shared_dir, tmp_path, monkeypatch, capsys, whole
):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    has_one = set()
    for number, (person, face) in enumerate(pictures(shared_dir, whole, rng)):
        if number >= 2 * PEOPLE:  # photographs that are known to be good, of others
            Path("good").mkdir(exist_ok=True)
            face.save(Path("good", f"{person}.png"))
            continue
        folder = Path("people", person)
        folder.mkdir(parents=True)
        for place, kind in enumerate(rng.choice(len(DAMAGES), 3, replace=False)):
            DAMAGES[kind](face, rng).save(folder / f"{place}.png")
        if number < PEOPLE:
            face.save(folder / "undamaged.png")
            has_one.add(person)
    detector = ["--detector", str(shared_dir / "weights" / "yunet" / "yunet_n_dynamic.onnx")]

    assert main(["calibrate", "good", "--output", "mine.json", *detector]) == 0
    best = ["best", "people", "--group-by", "folder", *detector]
    args = ["--calibration", "mine.json", "--min-percentile", "2", "--again", "again.csv", "--output", "chosen.csv"]
    # A damaged photograph may show no face any more, and has a line then.
    assert main([*best, *args, "--report", "best.html"]) in (0, 1)
    again = {row["identity"] for row in read_csv(Path("again.csv"))}
    assert len(again - has_one) >= 0.95 * PEOPLE
    assert len(again & has_one) <= 0.05 * PEOPLE
    # Without a threshold, so that it is the order of a person's photographs that counts; by the table of their scores.
    assert main(["score", "people", "--recursive", "--output", "people.csv", "--quiet", *detector]) in (0, 1)
    best = ["best", "--scores", "people.csv", "--group-by", "folder"]
    assert main([*best, "--output", "all.csv"]) in (0, 1)
    chosen = {row["identity"]: Path(row["file"]).name for row in read_csv(Path("all.csv"))}
    assert sum(chosen[person] == "undamaged.png" for person in has_one) >= 0.99 * PEOPLE
    # The same threshold by the calibration of the package, which the README's command has.
    assert main([*best, "--min-percentile", "2", "--again", "again_2.csv"]) in (0, 1)
    again = {row["identity"] for row in read_csv(Path("again_2.csv"))}
    assert len(again - has_one) >= 0.95 * PEOPLE
    assert len(again & has_one) <= 0.05 * PEOPLE
