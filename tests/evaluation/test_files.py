# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import json

import numpy as np
import pytest

from diffiqa_hf.evaluation.files import Names, TableError, read_pairs, read_table
from diffiqa_hf.file_utils import replace_file


def test_a_table_reads_the_same_in_every_format(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    # A comma and a separator of lines that is none in a file.
    name = "a,\u2028b.jpg"
    (tmp_path / "t.csv").write_text(f'file,score\n"{name}",0.5\nc.jpg,\n', encoding="utf-8-sig")
    rows = [{"file": name, "score": 0.5}, {"file": "c.jpg", "score": None}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.csv") == {"file": [name, "c.jpg"], "score": ["0.5", ""]}
    assert (
        read_table(tmp_path / "t.jsonl")
        == read_table(tmp_path / "t.parquet")
        == {
            "file": [name, "c.jpg"],
            "score": [0.5, None],
        }
    )


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("t.csv", "a,b\n1\n", "line 2: 1 values for 2 columns"),
        ("t.csv", "a,a\n1,2\n", "two columns have one name"),
        ("t.jsonl", "[1]\n", "not one JSON object a line"),
        ("t.jsonl", "{\n", "Expecting"),
        ("t.parquet", "no parquet", "t.parquet: "),
        ("t.dat", "a\n", "ends in .csv, .jsonl, .parquet or .txt"),
        ("t.txt", "a 1\n\nb\n", "t.txt: line 3: a file and its score are needed, not 'b'"),
        ("missing.csv", None, "No such file"),
    ],
)
def test_a_table_that_is_none(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(TableError, match=reason):
        read_table(tmp_path / name)


def test_names_by_what_they_end_in():
    index = Names(["lfw/Bo/Bo_0001.jpg", "lfw/Cy/Cy_0001.jpg", "x/1.png", "y/1.png", "2.png"], "scores.csv")
    wanted = ["Cy_0001", "Bo/Bo_0001.jpg", "lfw/Bo/Bo_0001.jpg", "y/1.png", "somewhere/else/2.png", "/2.jpg"]
    assert index.find(wanted, "pairs.txt").tolist() == [1, 0, 0, 3, 4, 4]
    with pytest.raises(TableError, match=r"pairs.txt: 1.png fits 2 images of scores.csv: x/1.png, y/1.png"):
        index.find(["1.png"], "pairs.txt")
    # A common ending is not enough.
    with pytest.raises(TableError, match="2 images are not in scores.csv, the first is Cy/Bo_0001.jpg"):
        index.find(["Cy/Bo_0001.jpg", "Bo_0001", "Dee_0001"], "pairs.txt")
    with pytest.raises(TableError, match="twice"):
        Names(["a.jpg", "a.jpg"], "scores.csv")


def test_pairs_of_every_kind(tmp_path):
    (tmp_path / "lfw.txt").write_text("1\nBo\t1\t2\nBo\t1\tCy\t1\n")
    (tmp_path / "flat.txt").write_text("Bo_0001.jpg 1\nBo_0002.jpg 1\nBo_0001.jpg 0\nCy_0001.jpg 0\n")
    (tmp_path / "pairs.csv").write_text("a,b,same,s\nBo_0001,Bo_0002,true,0.5\nBo_0001,Cy_0001,0,-1\n")
    lfw, flat = read_pairs(tmp_path / "lfw.txt"), read_pairs(tmp_path / "flat.txt")
    table = read_pairs(tmp_path / "pairs.csv", ("a", "b", "same"), "s")
    for pairs, ending in ((lfw, ""), (flat, ".jpg"), (table, "")):
        assert pairs.first == [f"Bo_0001{ending}"] * 2 and pairs.second == [f"Bo_0002{ending}", f"Cy_0001{ending}"]
        assert pairs.mated.tolist() == [True, False]
    assert lfw.identities == {"Bo_0001": "Bo", "Bo_0002": "Bo", "Cy_0001": "Cy"}
    assert table.identities is None and table.similarities.tolist() == [0.5, -1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("file_a,file_b\na,b\n", "no column 'mated'; it has file_a, file_b"),
        ("file_a,file_b,mated\na,b,yes\n", "pair 1: mated is 1 or 0"),
        ("file_a,file_b,mated\n", "has no pairs"),
        ("file_a,file_b,mated,similarity\na,b,1,x\n", "row 1 is no number: 'x'"),
        ("file_a,file_b,mated,similarity\na,b,1,.5\na,c,0,\n", "pair 2 has no similarity"),
    ],
)
def test_pairs_that_are_none(tmp_path, content, reason):
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(TableError, match=reason):
        read_pairs(tmp_path / "pairs.csv", similarity_column="similarity" if "similarity" in content else None)


def test_a_file_is_whole_or_absent(tmp_path):
    def fails(path):
        path.write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        replace_file(tmp_path / "new" / "file", fails)
    assert list((tmp_path / "new").iterdir()) == []
    replace_file(tmp_path / "file", lambda path: np.save(path.open("wb"), [1]))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["file"]
