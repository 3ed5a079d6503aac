# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import json
import math

import pytest

from diffiqa_hf.scoring.tables import TableError, as_number, as_text, names_of, numbers, read_table


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
        ("t.csv", "a,a\n1,2\n", "two columns have one name, 'a'"),
        ("t.txt", "p/a b.jpg 0.5 0.7\np/c.jpg 1 2\n", "line 1: p/a b.jpg has two numbers, and nothing says which is"),
        ("t.txt", "a.jpg,0.5,0.7\n", "line 1: a.jpg has two numbers"),
        ("t.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "t.csv: a Git LFS pointer"),
        ("t.parquet", "version https://git-lfs.github.com/spec/v1\n", "t.parquet: a Git LFS pointer"),
        ("t.txt", "<!doctype html>\n<p>", "t.txt: an HTML or XML page"),
        ("t.csv", 'file,score\na.jpg,1\n"b.jpg,2\n', "line 3: unexpected end of data"),
        ("t.csv", "PK\x03\x04xl", "t.csv: no text but a workbook"),
        ("t.csv", b"file,score\nJ\xfcrgen.jpg,1\n", "t.csv: line 2: not a text in UTF-8; Excel calls it CSV UTF-8"),
        ("t.csv", b"a,b\n1,\0\n", "no text"),
        ("t.jsonl", '{"a": 1}\n[1]\n', "not one JSON object a line"),
        ("t.jsonl", "{}\n{\n", "line 2: no JSON: Expecting"),
        ("t.jsonl", '{"a": 1, "a": 2}\n', "line 1: two values have one name"),
        ("t.jsonl", "[" * 100_000, "line 1: no JSON"),
        ("t.json", '{"a": [1]}', "not a list of JSON objects"),
        ("t.parquet", "no parquet", "t.parquet: "),
        ("t.dat", "a\n", "a table ends in .csv, .tsv, .txt, .jsonl, .json or .parquet"),
        ("t.xlsx", "a\n", "of a workbook save it as CSV UTF-8"),
        ("t.txt", "a 1\n\nb\n", "t.txt: line 3: a file and its score are needed, not 'b'"),
        ("missing.csv", None, "No such file"),
    ],
)
def test_a_table_that_is_none(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TableError, match=reason) as error:
        read_table(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name)) and "\n" not in str(error.value)


ROWS = {"file": ["p/a.jpg", "p/b.jpg"], "score": ["0.5", "0.25"]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "file,score\r\np/a.jpg,0.5\r\np/b.jpg,0.25\r\n"),
        ("t.csv", "file;score\np/a.jpg;0.5\np/b.jpg;0.25"),
        ("t.csv", "sep=;\nfile;score\np/a.jpg;0.5\np/b.jpg;0.25"),
        ("t.csv", "file;score;\np/a.jpg;0.5;\np/b.jpg;0.25;\n"),  # a semicolon at the end of each line
        ("t.csv", ",file,score\n0,p/a.jpg,0.5\n1,p/b.jpg,0.25\n"),  # the index of pandas
        ("t.csv", "file,score\np/a.jpg,0.5\n,\n\np/b.jpg,0.25\n,\n"),  # a spreadsheet's empty lines
        ("T.CSV", "file\tscore\np/a.jpg\t0.5\np/b.jpg\t0.25\n"),
        ("t.tsv", "file\tscore\np/a.jpg\t0.5\np/b.jpg\t0.25\n"),
        ("t.csv", '"file"|"score"\n"p/a.jpg"|"0.5"\n"p/b.jpg"|"0.25"\n'),
        ("t.csv", " file , score\np/a.jpg,0.5\np/b.jpg,0.25\n"),
        ("t.txt", "p/a.jpg 0.5\np/b.jpg 0.25\n"),
        ("t.txt", "p/a.jpg\t0.5\r\np/b.jpg\t0.25\r\n"),
        ("t.txt", "p/a.jpg,0.5\np/b.jpg,0.25\n"),
        ("t.txt", "img;score\np/a.jpg;0.5\np/b.jpg;0.25\n"),
        ("t.json", json.dumps([{"file": "p/a.jpg", "score": "0.5"}, {"file": "p/b.jpg", "score": "0.25"}])),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_one_table_in_many_spellings(tmp_path, name, content, encoding):
    (tmp_path / name).write_bytes(content.encode(encoding))
    assert read_table(tmp_path / name) == ROWS


def test_tables_of_other_programs(tmp_path):
    # OFIQ: semicolons, and values that are missing as -1 or nothing.
    (tmp_path / "ofiq.csv").write_text("Filename;UnifiedQualityScore;Sharpness.scalar;\na, b.png;27.5;;\n")
    assert read_table(tmp_path / "ofiq.csv") == {
        "Filename": ["a, b.png"],
        "UnifiedQualityScore": ["27.5"],
        "Sharpness.scalar": [""],
    }
    # FaceQnet: an array of one number.
    (tmp_path / "faceqnet.txt").write_text("img;score\n/data/a 1.jpg;[0.4921]\n")
    table = read_table(tmp_path / "faceqnet.txt")
    assert table["file"] == ["img", "/data/a 1.jpg"] or table["file"] == ["/data/a 1.jpg"]
    assert numbers(table["score"], "t").tolist() == [0.4921]
    # A path with commas and spaces, and a table of many columns that ends in .txt.
    (tmp_path / "spaces.txt").write_text("Dow, Ann/1 2.jpg 0.5\nRoe, Bo/1.jpg 1e-3\n")
    assert read_table(tmp_path / "spaces.txt")["file"] == ["Dow, Ann/1 2.jpg", "Roe, Bo/1.jpg"]
    (tmp_path / "many.txt").write_text("file,face,score\na.jpg,0,0.5\n")
    assert list(read_table(tmp_path / "many.txt")) == ["file", "face", "score"]


def test_parquet_of_every_kind(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {
        "frame": pa.array([1, None, 3]),
        "person": pa.array(["a", None, "a"]).dictionary_encode(),
        "score": pa.array([0.5, math.nan, None]),
        "image": pa.array([{"bytes": b"x", "path": "a"}] * 3),
        "raw": pa.array([b"x"] * 3),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert list(table) == ["frame", "person", "score"] and table["frame"] == [1, None, 3]
    assert table["person"] == ["a", None, "a"]
    with pytest.raises(TableError, match="column frame: row 2 has no name"):
        names_of(table["frame"], "t.parquet: column frame")
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "twice.parquet")
    with pytest.raises(TableError, match="two columns have one name, 'a'"):
        read_table(tmp_path / "twice.parquet")


def test_what_is_missing_is_no_name_and_no_number():
    for missing in (None, "", " ", math.nan, "nan", "NaN", "None", "null", "<NA>"):
        assert as_text(missing) is None
    assert [as_text(value) for value in ("Nan", "NA", 7, 7.0, " a ", 0, False)] == [
        "Nan",
        "NA",
        "7",
        "7",
        "a",
        "0",
        "False",
    ]
    for missing in (None, "", " ", math.nan, "nan"):
        assert math.isnan(as_number(missing))
    assert [as_number(value) for value in ("1e-3", " 2 ", "[3.5]", 4)] == [1e-3, 2, 3.5, 4]
    for wrong in ("good", "1_000", True, [1], {}, 10**400, "[1 2]"):
        with pytest.raises(ValueError, match="is no number"):
            as_number(wrong)
    with pytest.raises(TableError, match="t.csv: column score: row 2: '0,5' has a comma in place of its point"):
        numbers(["1", "0,5"], "t.csv: column score")
