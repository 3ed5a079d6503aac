# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""A table in parts is the table, in whatever form it comes, and what is wrong with it is said in the same words."""

import json

import pytest

from diffiqa_hf.scoring import table_blocks as module
from diffiqa_hf.scoring.table_blocks import table_blocks
from diffiqa_hf.scoring.tables import TableError, read_table


def joined(path, in_parts: bool = True) -> dict[str, list]:
    whole: dict[str, list] = {}
    for block in table_blocks(path, rows=2):
        assert in_parts == all(len(values) <= 2 for values in block.values())
        for name, values in block.items():
            whole.setdefault(name, []).extend(values)
    return whole


ROWS = [("a.jpg", "0.5"), ("b, c.jpg", ""), ('d "e"\nf.jpg', "1"), ("é.jpg", "2"), ("g.jpg", "3")]
CSV = "file,score,\n" + "".join('"{}",{},\n'.format(name.replace('"', '""'), score) for name, score in ROWS)


@pytest.mark.parametrize(
    "name,content",
    [
        ("a.csv", CSV.encode()),
        ("a.csv", CSV.encode("utf-8-sig")),
        ("a.csv", CSV.encode("utf-16")),
        ("a.csv", CSV.replace("\n", "\r\n").encode()),
        ("a.csv", b"sep=;\nfile;score\na;1\nb;2\nc;3\n"),
        ("a.csv", b"file,name;score\na,x;1\nb,y;2\nc,z;3\n"),
        ("a.csv", b"file;score\na;1,5\n\n;\nb;2\nc;3"),
        ("a.csv", b"file,score\n"),
        ("a.tsv", b"file\tscore\na b\t1\nc\t2\nd\t3\n"),
        ("a.txt", b"a.jpg 1\nb.jpg 2\nc.jpg 3\n"),
        ("a.jsonl", "".join(json.dumps({"file": n, "score": s}) + "\n" for n, s in ROWS).encode()),
        ("a.jsonl", b'{"file": "a"}\n\n{"file": "b", "score": null}\n{"score": 2, "file": "c\xe2\x80\xa8d"}'),
        ("a.json", b'[{"file": "a"}, {"file": "b"}, {"file": "c"}]'),
    ],
)
def test_the_parts_are_the_table(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    whole = name in ("a.txt", "a.json") or content.startswith(b"sep=")  # which are read at once
    assert joined(path, in_parts=not whole) == read_table(path)


def test_the_parts_of_a_parquet_file(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {
        "file": [f"{i}.jpg" for i in range(5)],
        "score": [0.5, None, 1.0, float("inf"), 2.0],
        "box": [[1.0]] * 5,
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert joined(tmp_path / "a.parquet") == read_table(tmp_path / "a.parquet") == {
        name: columns[name] for name in ("file", "score")
    }  # fmt: skip
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[4:40] = bytes(36)
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(TableError, match="a.parquet"):
        joined(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "name,content",
    [
        ("a.csv", b"file,score\na,1\nb\n"),
        ("a.csv", b'file,score\na,1\n"b,2\n'),
        ("a.csv", b"file,file\na,1\n"),
        ("a.csv", b"file,score\na,1\n\xff,2\n"),
        ("a.csv", b"file,score\na,1\nb\0,2\n"),
        ("a.csv", b"PK\3\4"),
        ("a.jsonl", b'{"file": "a"}\n{"file": \n'),
        ("a.jsonl", b'{"file": "a", "file": "b"}\n'),
        ("a.jsonl", b"[1]\n"),
        ("a.parquet", b"PAR1"),
        ("a.xlsx", b""),
        ("gone.csv", None),
    ],
)
def test_what_is_wrong_is_said_as_by_the_other_reader(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TableError) as expected:
        read_table(path)
    with pytest.raises(TableError) as found:
        joined(path)
    assert str(found.value) == str(expected.value)


def test_a_large_table_is_never_in_memory_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("file,score\n" + "".join(f"{i}.jpg,{i}\n" for i in range(1000)))
    monkeypatch.setattr(module, "read_table", None)  # it would be a fault to ask it
    assert sum(len(block["file"]) for block in table_blocks(path, rows=10)) == 1000
