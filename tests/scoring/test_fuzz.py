# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Whatever lies in a file or folder, its reader gives a result or one line that names the file: no traceback. The same
inputs at each run; with `--run-slow` ten thousand for each reader.
"""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffiqa_hf.evaluation.pair_lists import read_pairs
from diffiqa_hf.evaluation.study.config import ConfigError, StudyConfig
from diffiqa_hf.scoring.embeddings import read_embeddings
from diffiqa_hf.scoring.image_files import find_images
from diffiqa_hf.scoring.names import Names
from diffiqa_hf.scoring.people import PeopleError, parse_people
from diffiqa_hf.scoring.score_files import read_scores
from diffiqa_hf.scoring.table_blocks import table_blocks
from diffiqa_hf.scoring.tables import TableError, read_table


QUICK, THOROUGH = 40, 10_000
SETTINGS = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}


def fuzzed(strategy):
    """The test with a few inputs, and, as slow, with many."""

    def decorate(check):
        @pytest.mark.parametrize("count", [QUICK, pytest.param(THOROUGH, marks=pytest.mark.slow)])
        def test(tmp_path, count, monkeypatch):
            monkeypatch.chdir(tmp_path)
            given(strategy)(settings(max_examples=count, **SETTINGS)(lambda value: check(tmp_path, value)))()

        return test

    return decorate


def result_or_line(path, call, *kinds):
    try:
        return call()
    except kinds as error:
        text = str(error)
        assert str(path.name) in text and "\n" not in text and len(text) < 2000, text
        return None


# -- what may stand in a file -----------------------------------------------------------------------------------------

NAMES = ["file", "score", "face", "error", "identity", "file_a", "file_b", "mated", "similarity", "", "a b", "é"]
CELLS = st.one_of(
    st.sampled_from(
        ["p/a.jpg", "./p/a.jpg", "p/b.jpg", "p\\b.jpg", "/x/p/a.jpg", "a", "", "1", "0", "-1", "0.5", "1e999", "nan"]
        + ["inf", "0,5", "[0.5]", "1_0", "true", "None", "é", "é", " ", '"', "'", "..", "\x00", "\ufeff", "\u2028"]
    ),
    st.text(max_size=6),
    st.floats().map(str),
)


def delimited(draw_names=None):
    if draw_names is None:
        draw_names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5)

    @st.composite
    def text(draw):
        delimiter = draw(st.sampled_from([",", ";", "\t", "|", " ", ", "]))
        names = draw(draw_names)
        rows = draw(st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), max_size=5))
        lines = [delimiter.join(names)] + [delimiter.join(row) for row in rows]
        if draw(st.integers(0, 3)) == 0:
            lines.insert(draw(st.integers(0, len(lines))), draw(st.text(max_size=20)))
        return draw(st.sampled_from(["\n", "\r\n", "\r"])).join(lines)

    return text()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)
JSON_LINES = st.lists(VALUES.map(json.dumps) | st.text(max_size=12), max_size=5).map("\n".join)
TEXTS = st.one_of(
    delimited(),
    delimited(st.just(["file", "score"])),
    delimited(st.just(["file", "face", "score", "error"])),
    delimited(st.just(["file", "identity"])),
    delimited(st.just(["file_a", "file_b", "mated"])),
    JSON_LINES,
    st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5), max_size=4).map(json.dumps),
    st.lists(st.lists(CELLS, min_size=1, max_size=5).map(" ".join), max_size=6).map("\n".join),
    st.text(max_size=60),
    st.sampled_from(
        ["version https://git-lfs.github.com/spec/v1\n", "<!DOCTYPE html>", "[" * 3000, "{" * 3000, "PAR1"]
    ),
)
ENCODED = st.tuples(TEXTS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])).map(
    lambda made: made[0].encode(made[1], "replace")
)
CONTENT = st.one_of(ENCODED, ENCODED, st.binary(max_size=60))
TEXT_ENDINGS = st.sampled_from([".csv", ".tsv", ".txt", ".jsonl", ".json"])


@fuzzed(st.tuples(CONTENT, TEXT_ENDINGS))
def test_tables(folder, made):
    path = folder / f"t{made[1]}"
    path.write_bytes(made[0])
    table = result_or_line(path, lambda: read_table(path), TableError)
    assert table is None or len({len(column) for column in table.values()}) <= 1


@fuzzed(st.tuples(CONTENT, TEXT_ENDINGS, st.integers(1, 3)))
def test_parts_of_tables(folder, made):
    path = folder / f"t{made[1]}"
    path.write_bytes(made[0])

    def joined():
        whole = {}
        for block in table_blocks(path, rows=made[2]):
            for name, values in block.items():
                whole.setdefault(name, []).extend(values)
        return whole

    def outcome(read):
        try:
            return repr(read())  # in which a NaN is itself
        except TableError as error:
            return str(error)

    assert outcome(joined) == outcome(lambda: read_table(path))


@fuzzed(st.tuples(CONTENT, TEXT_ENDINGS, st.booleans()))
def test_scores(folder, made):
    path = folder / f"t{made[1]}"
    path.write_bytes(made[0])
    read = result_or_line(path, lambda: read_scores(path, several_faces=made[2]), TableError)
    if read is not None:
        assert len(read.names) == len(read.rows) == len(read.scores["score"]) == len(read.errors) <= read.num_rows
        assert all(isinstance(name, str) and name for name in read.names)


@fuzzed(st.tuples(CONTENT, TEXT_ENDINGS, st.booleans()))
def test_pairs(folder, made):
    path = folder / f"t{made[1]}"
    path.write_bytes(made[0])
    pairs = result_or_line(
        path, lambda: read_pairs(path, similarity_column="similarity" if made[2] else None), TableError
    )
    if pairs is not None:
        assert len(pairs.first) == len(pairs.second) == len(pairs.mated) > 0


PARTS = st.sampled_from(["p", "Ann", "Bob", "train", "frontal", "..", ".", ".git", "1.jpg", "A_1", "é", "\udcff", ""])
PATHS = st.lists(PARTS | st.text(max_size=4), min_size=1, max_size=5).map("/".join)
RULES = st.sampled_from(["folder", "first-folder", "parent", "each-folder", "name"])


@fuzzed(st.tuples(CONTENT, TEXT_ENDINGS, st.lists(PATHS, max_size=4)))
def test_tables_of_people(folder, made):
    path = folder / f"t{made[1]}"
    path.write_bytes(made[0])
    files = [*made[2], "p/a.jpg", "b.jpg"]
    people = result_or_line(path, lambda: parse_people(path.name, "--identities")(files), PeopleError)
    assert people is None or len(people.labels) == len(files)


@fuzzed(
    st.tuples(
        st.lists(PATHS, max_size=6),
        RULES | st.text(max_size=8).map("regex:{}".format),
        st.booleans(),
    )
)  # fmt: skip
def test_people_in_paths(folder, made):
    files, how, one_is_enough = made
    try:
        people = parse_people(how, "--identities", ["p"], one_is_enough)(files)
    except PeopleError as error:
        assert str(error).startswith("--identities ") or "--identities first-folder" in str(error)
        return
    assert len(people.labels) == len(files)
    assert all(label is None or (isinstance(label, str) and label) for label in people.labels)
    assert people.said()


@fuzzed(st.tuples(st.lists(PATHS, max_size=6), st.lists(PATHS, max_size=4), st.booleans()))
def test_names(folder, made):
    try:
        index = Names(made[0], "t.csv")
        rows = index.lookup(made[1], "pairs.txt", made[2])
    except TableError as error:
        assert "t.csv" in str(error)
        return
    assert len(rows) == len(made[1]) and all(-1 <= row < len(made[0]) for row in rows)


@fuzzed(st.lists(st.tuples(PATHS, st.sampled_from(["file", "folder", "link", "pipe"]), PATHS), max_size=6))
def test_folders(folder, made):
    root = folder / "root"
    shutil.rmtree(root, ignore_errors=True)  # of the input before
    root.mkdir()
    for name, kind, target in made:
        path = os.path.normpath(os.path.join(root, name.replace("\0", "").replace("..", "")))
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if kind == "file":
                open(path, "xb").close()
            elif kind == "folder":
                os.makedirs(path, exist_ok=True)
            elif kind == "pipe":
                os.mkfifo(path)
            else:
                os.symlink(target.replace("\0", ""), path)
        except (OSError, ValueError):
            continue  # not a name on this disk, or taken
    found = find_images([str(root), "root/1.jpg", "root"], recursive=True)
    assert len(set(found.files)) == len(found.files)
    assert all(line.isprintable() and len(line) < 2000 for line in (*found.problems, *found.notes))


@st.composite
def parquet(draw):
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = draw(st.integers(0, 3))
    kinds = st.sampled_from(
        [pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.binary(), pa.date32(), pa.timestamp("ns"), pa.uint64()]
        + [pa.decimal128(5, 2), pa.list_(pa.int64()), pa.struct([("bytes", pa.binary())]), pa.null(), pa.float16()]
    )
    names, arrays = [], []
    for _ in range(draw(st.integers(0, 4))):
        values = draw(st.lists(st.none() | st.integers(0, 99) | CELLS, min_size=count, max_size=count))
        try:
            arrays.append(pa.array(values, draw(kinds)))
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            arrays.append(pa.nulls(count))
        names.append(draw(st.sampled_from(NAMES)))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, names=names), sink)
    content = bytearray(sink.getvalue().to_pybytes())
    for _ in range(draw(st.sampled_from([0, 0, 1, 4]))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.sampled_from([len(content), len(content), len(content) // 2]))])


@fuzzed(parquet())
def test_parquet(folder, content):
    path = folder / "t.parquet"
    path.write_bytes(content)
    table = result_or_line(path, lambda: read_table(path), TableError)
    assert table is None or len({len(column) for column in table.values()}) <= 1
    result_or_line(path, lambda: read_scores(path, several_faces=True), TableError)
    result_or_line(path, lambda: read_pairs(path), TableError)


@st.composite
def npy(draw):
    header = draw(
        st.sampled_from(["{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }", "{'descr': '|O'}", "("])
    )
    header = bytearray(header.encode() + b"\n")
    for _ in range(draw(st.integers(0, 3))):
        header[draw(st.integers(0, len(header) - 1))] = draw(st.integers(0, 255))
    head = b"\x93NUMPY" + bytes([draw(st.sampled_from([1, 2, 9])), 0]) + len(header).to_bytes(2, "little")
    return head + bytes(header) + draw(st.binary(max_size=30) | st.just(bytes(24)))


@fuzzed(npy() | st.binary(max_size=40))
def test_embeddings(folder, content):
    path = folder / "e.npy"
    path.write_bytes(content)
    read = result_or_line(path, lambda: read_embeddings(path, 3, "the dataset"), TableError)
    assert read is None or (read.shape[0] == 3 and np.issubdtype(read.dtype, np.floating))


STUDY = {
    "title": "t",
    "methods": [{"name": "a", "method": "diffiqa-r"}, {"name": "b", "scores": "s.txt"}],
    "fr_models": [{"name": "fr"}],
    "benchmarks": [
        {"name": "own", "folder": "faces", "identities": "folder"},
        {"name": "x", "parquet": ["x.parquet"]},
    ],
    "ablations": [{"title": "w/o", "fr_model": "fr", "variants": ["a", {"name": "c", "terms": ["noisy"]}]}],
    "protocols": ["default"],
    "limits": [0.2],
    "notes": ["n"],
    "fmr": 1e-3,
}
YAML = st.one_of(
    st.sampled_from(
        [
            "!!int a",
            "!!timestamp a",
            "!!bool a",
            "2001-99-99",
            "[" * 2000,
            "{" * 2000,
            "&a [*a]",
            "? [a]\n: b",
            "- - -",
        ]
        + ["!!python/object/apply:os.getcwd []", "a: &a [x]\nb: [*a, *a]", "\t", "%YAML 9.9\n---\n", "a: !!float x"]
    ),
    st.text("ab:-[]{}&*!|>?%@,'\"# \n0123456789.é", max_size=60),
    st.text(max_size=40),
)


@st.composite
def studies(draw):
    study = json.loads(json.dumps(STUDY))
    for _ in range(draw(st.integers(0, 2))):
        place = study
        while True:
            key = draw(st.sampled_from(sorted(place)) if isinstance(place, dict) else st.integers(0, len(place) - 1))
            inner = place[key]
            if isinstance(inner, (dict, list)) and inner and draw(st.booleans()):
                place = inner
                continue
            place[key] = draw(VALUES)
            break
    return json.dumps(study)


# A small file that stands for 9^9 values.
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@fuzzed(st.tuples(studies() | YAML | st.just(BOMB), st.sampled_from([".yaml", ".json"])))
def test_studies(folder, made):
    path = folder / f"study{made[1]}"
    path.write_text(made[0], "utf-8")
    result_or_line(path, lambda: StudyConfig.from_file(path), ConfigError)


def test_a_study_is_what_it_is(tmp_path):
    """The one that is fuzzed is sound."""
    (tmp_path / "study.json").write_text(json.dumps(STUDY))
    assert StudyConfig.from_file(tmp_path / "study.json").title == "t"
