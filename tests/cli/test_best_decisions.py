# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa best`: who has a photograph that is good enough, who must come again, and the page that says so."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf.cli import main


def save_face(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    Image.fromarray(small).resize((112, 112), Image.Resampling.BICUBIC).save(path)


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def scores(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [
        # file, score, percentile, brightness, error
        ("ann/1.png", 0.60, 55.0, 40, ""),
        ("ann/2.png", 0.70, 80.0, 45, ""),
        ("bob/1.png", 0.20, 3.0, 7, ""),
        ("bob/2.png", 0.10, 1.0, 5, ""),
        ("cy/1.png", "", "", "", "no face found"),
        ("cy/2.png", "", "", "", "no face found"),
        ("di, <i>/1.png", 0.40, 20.0, 50, ""),
    ]
    for seed, (file, *_) in enumerate(rows):
        save_face(Path(file), seed)
    lines = ["file,face,score,percentile,brightness,error"]
    lines += [f'"{file}",0,{score},{percentile},{light},{error}' for file, score, percentile, light, error in rows]
    Path("scores.csv").write_text("\n".join(lines) + "\n")
    return Path("scores.csv")


ARGS = ["best", "--scores", "scores.csv", "--group-by", "folder"]


@pytest.mark.parametrize("least", [["--min-percentile", "20"], ["--min-score", "0.4"]])
def test_who_is_below_or_has_nothing_must_come_again(scores, least, capsys):
    assert main([*ARGS, *least, "--again", "new/again.csv", "--output", "best.csv"]) == 1
    captured = capsys.readouterr()
    assert [line.split("\t")[0] for line in captured.out.splitlines()] == ["ann", "di, <i>"]
    assert "4 people: 2 with a photograph at" in captured.err
    assert "2 must come again (1 without a usable photograph)" in captured.err
    again = read_csv(Path("new/again.csv"))
    assert list(again[0]) == ["identity", "file", "score", "percentile", "photographs", "reason"]
    assert [(row["identity"], row["file"]) for row in again] == [("bob", "bob/1.png"), ("cy", "")]
    assert f"the best of 2 is below {least[0][6:]} {least[1]}: dark: brightness 7 %" == again[0]["reason"]
    assert again[1]["reason"] == "no usable photograph of 2: no face found (2)"
    chosen = read_csv(Path("best.csv"))
    assert [(row["identity"], row["rank"], row["file"]) for row in chosen] == [
        ("ann", "1", "ann/2.png"),
        ("di, <i>", "1", "di, <i>/1.png"),
    ]
    assert [float(row["percentile"]) for row in chosen] == [80.0, 20.0]


def test_without_a_threshold_only_who_has_nothing_comes_again(scores, capsys):
    assert main([*ARGS, "--again", "again.csv", "--top", "2", "--copy-to", "best"]) == 1
    assert [row["identity"] for row in read_csv(Path("again.csv"))] == ["cy"]
    assert sorted(str(path) for path in Path("best").rglob("*.png")) == [
        "best/ann/1.png", "best/ann/2.png", "best/bob/1.png", "best/bob/2.png", "best/di, <i>/1.png",
    ]  # fmt: skip


def test_nobody_above_the_threshold_is_no_failure_of_the_run(scores, capsys):
    assert main([*ARGS, "--min-score", "2", "--again", "again.csv", "--link-to", "best"]) == 1
    assert len(read_csv(Path("again.csv"))) == 4 and not Path("best").exists()


class Page(HTMLParser):
    """The texts of a page, and what it would load."""

    def __init__(self):
        super().__init__()
        self.texts, self.sources, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_needs_nothing_else_and_has_the_worst_first(scores, capsys):
    assert main([*ARGS, "--min-percentile", "20", "--report", "page.html"]) == 1
    page = Page()
    page.feed(Path("page.html").read_text(encoding="utf-8"))
    assert page.open == []
    text = "\n".join(page.texts)
    places = [text.index(part) for part in ("\nbob\n", "\ncy\n", "\nann\n", "\ndi, <i>\n")]
    assert places == sorted(places)
    assert "dark: brightness 7 %" in text and "no usable photograph of 2" in text
    assert "\nbob/1.png\n" in text and str(Path.cwd()) in text
    assert len(page.sources) == 3  # ann, bob and di have a picture
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert not re.search(r"https?://|@import|url\(", Path("page.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--min-percentile", "101"], "between 0 and 100"),
        (["--min-score", "nan"], "is not a number"),
        (["--again", "again.xlsx"], "--again again.xlsx: the ending is .csv"),
        (["--report", "page.pdf"], "--report page.pdf: the ending is .html"),
        (["--name-column", "file", "--score-column", "other"], "has no column 'other'"),
    ],
)
def test_bad_usage(scores, arguments, message, capsys):
    assert main([*ARGS, *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_table_without_percentiles_has_no_threshold_of_them(scores, capsys):
    Path("plain.csv").write_text("file,score\na/1.png,0.5\nb/1.png,0.4\n")
    args = ["best", "--scores", "plain.csv", "--group-by", "folder", "--min-percentile", "5"]
    assert main(args) == 2
    assert "has no column 'percentile'" in capsys.readouterr().err


def test_images_that_are_scored_here(tmp_path, monkeypatch, capsys):
    """Empty folders, pictures of a kind that can't be read, several people: all are accounted for."""
    monkeypatch.chdir(tmp_path)
    for seed in range(4):
        save_face(Path(f"people/{'ann' if seed < 2 else 'bob'}/{seed}.png"), seed)
    Path("people/cy").mkdir()
    Path("people/di").mkdir()
    Path("people/di/1.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    args = ["best", "people", "--group-by", "folder", "--device", "cpu", "--report", "page.html"]
    assert main([*args, "--again", "again.csv", "--output", "best.csv", "--min-percentile", "0"]) == 1
    err = capsys.readouterr().err
    assert "1 folder (people/cy) without images" in err and "cy: no images" in err
    again = {row["identity"]: row for row in read_csv(Path("again.csv"))}
    assert set(again) == {"cy", "di"} and again["cy"]["reason"] == "no photograph"
    assert again["di"]["reason"].startswith("no usable photograph of 1: ")
    chosen = read_csv(Path("best.csv"))
    assert [row["identity"] for row in chosen] == ["ann", "bob"]
    assert "people/cy" in Path("page.html").read_text(encoding="utf-8")
    # Noise has no percentile that a threshold of people's photographs would pass.
    assert main([*args, "--again", "again.csv", "--min-percentile", "50"]) == 1
    assert {row["identity"] for row in read_csv(Path("again.csv"))} == {"ann", "bob", "cy", "di"}


def test_a_calibration_that_does_not_hold_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_face(Path("a/1.png"))
    Path("c.json").write_text(json.dumps({"no": "calibration"}))
    args = ["best", "a", "--group-by", "folder", "--device", "cpu", "--min-percentile", "5"]
    assert main([*args, "--calibration", "c.json"]) == 2
    assert main([*args, "--num-repeats", "3"]) == 2
    assert "--min-percentile needs a calibration of this model with these settings" in capsys.readouterr().err
