# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Rows in little memory are those that were put in; faces that are there twice count once."""

import math
import tracemalloc

import pytest

from diffiqa_hf.scoring.score_rows import PackedNames, ScoreRows, read_score_rows
from diffiqa_hf.scoring.tables import TableError


def test_names_are_a_list_of_strings():
    names = ["a", "", "é/ü.jpg", "\ud800", "b" * 300]
    packed = PackedNames(names)
    assert list(packed) == names and len(packed) == 5 and packed.index("") == 1
    assert packed[-1] == names[-1] and packed[1:4] == names[1:4]
    with pytest.raises(IndexError):
        packed[5]


def test_rows_come_back_as_they_were():
    rows = ScoreRows()
    rows.append("a", 0, 0.1 + 0.2, None, 12.5, {"yaw": 3.0, "roll": None}, 2, (1, 2, 3, 4))
    rows.append("b", 1, math.nan, "no face found")
    rows.append("c", 0, 1.0, None, None, {"sharpness": 7.0}, box=(5, 6, 7, 8))
    rows.group_by(["x", None, "y"])
    first, second, third = rows
    assert first["score"] == 0.1 + 0.2 and first["percentile"] == 12.5 and first["num_faces"] == 2
    assert first["measures"] == {"yaw": 3.0, "faces": 2.0} and list(first["box"]) == [1, 2, 3, 4]
    assert (second["error"], second["box"], second["measures"], second["group"]) == ("no face found", None, {}, None)
    assert third["measures"] == {"sharpness": 7.0} and list(third["box"]) == [5, 6, 7, 8] and third["face"] == 0
    assert list(rows.scores()) == [0.1 + 0.2, None, 1.0] and list(rows.groups()) == ["x", None, "y"]
    rows.keep([2, 0])
    assert [row["file"] for row in rows] == ["c", "a"] and list(rows.groups()) == ["y", "x"]


def write(path, *lines) -> str:
    path.write_text("\n".join(("file,face,score,error,who", *lines)) + "\n")
    return str(path)


def test_a_face_that_is_there_twice_counts_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = write(tmp_path / "1.csv", "a.jpg,0,,torn,x", "./a.jpg,0,.5,,x", "a.jpg,1,.25,,x", "b.jpg,0,.75,,y")
    two = write(tmp_path / "2.csv", f"{tmp_path}/b.jpg,0,.75001,,y", "c.jpg,0,,no face,y", "c.jpg,,.125,,y")
    rows, notes = read_score_rows([one, two], group_column="who")
    found = [(row["file"], row["face"], row["score"], row["group"]) for row in rows]
    assert found == [
        ("./a.jpg", "0", 0.5, "x"),
        ("a.jpg", "1", 0.25, "x"),
        ("b.jpg", "0", 0.75, "y"),
        ("c.jpg", None, 0.125, "y"),
    ]
    assert len(notes) == 2 and "1 row is of files that are there already" in notes[0]
    three = write(tmp_path / "3.csv", "b.jpg,0,.5,,y")
    with pytest.raises(TableError, match="3.csv: b.jpg is in another table too, with the scores 0.75 and 0.5"):
        read_score_rows([one, three])
    with pytest.raises(TableError, match="4.csv: column score: row 2: 'x' is no number"):
        read_score_rows([write(tmp_path / "4.csv", "a.jpg,0,1,,y", "b.jpg,0,x,,y")])
    with pytest.raises(TableError, match="5.csv: has no rows"):
        read_score_rows([one, write(tmp_path / "5.csv")])


def test_rows_take_little_memory(tmp_path):
    count = 20_000
    lines = (f"{tmp_path}/people/{i // 10:05}/photograph_{i % 10}.jpg,0,{i / count},,{i // 10}" for i in range(count))
    path = write(tmp_path / "s.csv", *lines)
    tracemalloc.start()
    rows, notes = read_score_rows([path])
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(rows) == count and not notes
    # Some 70 bytes of the name and 70 of all else; as dictionaries they are a thousand.
    assert kept < 250 * count and peak < 250 * count + 12_000_000
