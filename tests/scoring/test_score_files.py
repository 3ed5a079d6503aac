# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import math

import pytest

from diffiqa_hf.scoring.score_files import read_scores
from diffiqa_hf.scoring.tables import TableError


def write(path, *rows, header="file,score"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_one_file_twice_counts_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = ["p/a.jpg,0.5", "p/b.jpg,", f"{tmp_path}/p/a.jpg,0.5000001", "./p/b.jpg,0.25", "p/c.jpg,", "p/x/../c.jpg,"]
    read = read_scores(write(tmp_path / "s.csv", *rows))
    assert read.names == ["p/a.jpg", "./p/b.jpg", "p/c.jpg"] and read.rows == [0, 3, 4] and read.num_rows == 6
    assert read.scores["score"][:2] == [0.5, 0.25] and math.isnan(read.scores["score"][2])
    assert len(read.notes) == 1 and "3 rows are of files that are there already and count once" in read.notes[0]
    with pytest.raises(TableError, match="./a.jpg is there twice, with the scores 0.5 and 0.6"):
        read_scores(write(tmp_path / "s.csv", "a.jpg,0.5", "./a.jpg,0.6"))


def test_a_table_from_another_folder(tmp_path):
    """Nothing of it is there: a relative name is the one absolute name that ends in it."""
    rows = ["/data/p/1.jpg,0.5", "p/1.jpg,0.5", "/data/q/1.jpg,0.4", "2.jpg,0.3"]
    assert read_scores(write(tmp_path / "s.csv", *rows)).names == ["/data/p/1.jpg", "/data/q/1.jpg", "2.jpg"]
    # 1.jpg may be either: it is a file of its own.
    assert len(read_scores(write(tmp_path / "s.csv", *rows, "1.jpg,0.5")).names) == 4


def test_faces_of_one_picture(tmp_path):
    path = write(tmp_path / "s.csv", "a.jpg,0,0.5", "a.jpg,1,0.7", "b.jpg,0,0.2", header="file,face,score")
    assert read_scores(path, several_faces=True).scores["score"] == [0.5, 0.7, 0.2]
    with pytest.raises(TableError, match="a.jpg has several faces, and there must be one score for each image"):
        read_scores(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("file,quality\na,1\n", r"s.csv: has no column 'score'; it has file, quality \(--score-column\)"),
        ("file,score\n", "s.csv: has no rows"),
        ("file,score\n,1\n", "column file: row 1 has no name"),
        ("file,score\na,high\n", "column score: row 1: 'high' is no number"),
        ('file,score\na,"0,5"\n', "has a comma in place of its point"),
    ],
)
def test_what_is_no_table_of_scores(tmp_path, content, reason):
    (tmp_path / "s.csv").write_text(content)
    with pytest.raises(TableError, match=reason):
        read_scores(tmp_path / "s.csv", hints=("", " (--score-column)"))
