# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Runs over very many files: lists, shards, tables that are gone on with, labels of the picture."""

import csv
import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf.cli import main
from diffiqa_hf.cli.score_table import ScoreTable, table_columns
from diffiqa_hf.scoring.contact_sheet import _short_names


def save_face(path: Path, seed: int = 0) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    Image.fromarray(small).resize((112, 112), Image.Resampling.BICUBIC).save(path)
    return str(path)


def files_of(path: Path) -> list[str]:
    with open(path, newline="", encoding="utf-8") as file:
        return [row["file"] for row in csv.DictReader(file)]


@pytest.fixture
def faces(tmp_path, monkeypatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return [save_face(Path(f"people/{name}/{i}.png"), seed) for seed, (name, i) in enumerate(
        (name, i) for name in ("ann", "bob, jr") for i in range(3)
    )]  # fmt: skip


def test_lists_of_files(faces, monkeypatch):
    Path("lines.txt").write_text("\ufeff" + "\n".join(faces[:2]) + "\n\n", encoding="utf-8")
    args = ["score", "--device", "cpu", "--quiet", "--output"]
    assert main([*args, "lines.csv", "--files-from", "lines.txt"]) == 0
    assert files_of(Path("lines.csv")) == faces[:2]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\0".join(faces[3:]).encode())))
    assert main([*args, "zeros.csv", faces[0], "--files-from", "-"]) == 0
    assert files_of(Path("zeros.csv")) == [faces[0], *faces[3:]]


def test_lists_that_are_none(faces, capsys):
    Path("empty.txt").write_text("\n")
    for name, message in (("gone.txt", "No such file"), ("empty.txt", "names no files")):
        for command in (["score"], ["best", "--group-by", "folder"], ["calibrate", "--output", "c.json"]):
            assert main([*command, "--files-from", name]) == 2
            err = capsys.readouterr().err
            assert message in err and err.count("\n") == 1
    for args in (["score"], ["calibrate", "--output", "c.json"], ["score", "x", "--shard", "3/2"]):
        with pytest.raises(SystemExit) as stop:
            main(args)
        assert stop.value.code == 2


def test_shards_share_the_work_and_best_takes_their_tables(faces, capsys):
    args = ["score", "people", "--recursive", "--device", "cpu", "--quiet"]
    assert main([*args, "--output", "all.csv"]) == 0
    tables = []
    for number in (1, 2, 3, 4):
        tables.append(f"{number}.csv")
        assert main([*args, "--shard", f"{number}/4", "--output", tables[-1]]) == 0
    assert sorted(file for table in tables for file in files_of(Path(table))) == sorted(faces)
    capsys.readouterr()
    group = ["--group-by", "folder", "--top", "2"]
    assert main(["best", "--scores", "all.csv", *group]) == 0
    whole = capsys.readouterr().out
    assert main(["best", *(part for table in tables for part in ("--scores", table)), *group]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(whole.splitlines())
    # A face that two tables have counts once, and has one score.
    assert main(["best", "--scores", "all.csv", "--scores", "1.csv", *group]) == 0
    assert capsys.readouterr().out == whole
    lines = Path("1.csv").read_text().splitlines()
    row = lines[1].split('"')[-1].split(",") if '"' in lines[1] else lines[1].split(",")
    Path("1.csv").write_text("\n".join([lines[0], lines[1].replace(row[2], "0.987")]) + "\n")
    assert main(["best", "--scores", "all.csv", "--scores", "1.csv", *group]) == 2
    assert "is in another table too, with the scores" in capsys.readouterr().err
    assert main([*args, "--shard", "9/9"]) == 2
    assert "fewer images than shards" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_table_that_is_gone_on_with_is_not_in_memory(tmp_path, ending):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    path, columns = tmp_path / f"s.{ending}", table_columns((), ())
    count = 20_000
    table = ScoreTable(path, {"seed": 0}, {}, resume=False, terms=())
    for number in range(count):
        error = "no face found" if number % 1000 == 7 else None
        score = None if error else number / count
        table.append([dict(zip(columns, (f"folder/image_{number:07}.jpg", 0, score, error), strict=True))])
    table.close()
    tracemalloc.start()
    table = ScoreTable(path, {"seed": 0}, {}, resume=True, terms=(), tried_again=lambda file: "0007007" in file)
    assert len(table.rows) == count - 1
    total = sum(row["score"] or 0 for row in table.rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    table.append([dict(zip(columns, ("folder/image_0007007.jpg", 0, 0.5, None), strict=True))])
    table.close()
    assert total == pytest.approx(sum(n / count for n in range(count) if n % 1000 != 7))
    # A list of these rows takes eleven million bytes; a group of a Parquet file is taken at once.
    assert peak < (60_000_000 if ending == "parquet" else 3_000_000)
    assert len(ScoreTable(path, {"seed": 0}, {}, resume=True, terms=()).rows) == count


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory of a process is told in other units")
def test_best_decides_over_a_million_rows_in_300_mb(tmp_path):
    path = tmp_path / "scores.csv"
    score = np.random.default_rng(0).random(1_000_000).tolist()
    with open(path, "w") as file:
        file.write("file,face,score,percentile,error\n")
        for row, value in enumerate(score):
            name = f"/archive/photographs/{row // 10 % 1000:03}/person_{row // 10:07}/photograph_{row % 10:04}.jpg"
            file.write(f"{name},0,{value:.6f},{100 * value:.3f},\n")
    command = [sys.executable, "-m", "diffiqa_hf", "best", "--scores", str(path), "--group-by", "parent"]
    command += ["--min-percentile", "50", "--again", str(tmp_path / "again.csv"), "--output", str(tmp_path / "o.csv")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0 and used.ru_maxrss * 1024 < 300e6
    people = np.array(score).reshape(-1, 10).max(axis=1).round(6)
    assert len(files_of(tmp_path / "o.csv")) == (people >= 0.5).sum()
    assert len(files_of(tmp_path / "again.csv")) == (people < 0.5).sum()


def test_labels_of_the_picture_tell_files_apart():
    files = ["a/x/0.png", "a/y/0.png", "b/x/0.png", "c/1.png", "a/x/0.png", "./c/1.png"]
    assert _short_names(files) == ["a/x/0", "y/0", "b/x/0", "c/1", "a/x/0", "c/1"]
    assert _short_names(["p/0.png", "q/1.png"]) == ["0", "1"]
    assert _short_names(["0.png", "p/0.png"]) == ["0", "p/0"]


def test_one_row_of_a_table_of_people_is_not_everybodys_file(faces, capsys):
    Path("who.csv").write_text("file,identity\n0.png,Al\n")
    assert main(["best", "people", "--recursive", "--group-by", "who.csv"]) == 2
    err = capsys.readouterr().err
    assert "people/ann/0.png and people/bob, jr/0.png both fit 0.png of who.csv" in err


def test_several_faces_in_a_photograph_are_said(faces, capsys, monkeypatch):
    """By the numbers of the records alone: what a detector finds is for the tests of alignment."""
    from diffiqa_hf.images import extraction

    whole = extraction.FaceExtractor._whole

    def with_others(self, picture):
        crop = whole(self, picture)
        crop.num_faces = 4
        return crop

    monkeypatch.setattr(extraction.FaceExtractor, "_whole", with_others)
    assert main(["score", *faces[:2], "--device", "cpu"]) == 0
    line = f"2 photographs show several faces, such as {faces[0]} (4); the largest was taken; --faces all scores each"
    assert line in capsys.readouterr().err
    assert main(["best", faces[0], "--group-by", "folder", "--device", "cpu"]) == 0
    assert f"1 photograph shows several faces, such as {faces[0]} (4)" in capsys.readouterr().err
