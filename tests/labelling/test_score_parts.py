# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Parts of a table of scores: what they are called, what is skipped, and what becomes of them; without Ray."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fixtures.scripts import ROOT

from diffiqa_hf import load_method
from diffiqa_hf.labelling.ray import RayScorer, leave_out_written
from diffiqa_hf.labelling.score_parts import ScoreParts, join_score_parts, name_digests, names_of_rows
from diffiqa_hf.scoring.score_files import read_scores
from diffiqa_hf.scoring.tables import read_table


FILES = sorted(str(path) for path in (ROOT / "examples" / "faces").glob("*.jpg"))[:4]


def rows_of(files: list[str]) -> pa.Table:
    """As `datasets` writes images, with a name for each."""
    images = [{"bytes": Path(file).read_bytes(), "path": Path(file).name} for file in files]
    return pa.table({"image": images, "name": [Path(file).stem for file in files], "other": [0] * len(files)})


def actor(output: Path | None, **options) -> RayScorer:
    options = {"method": "embedding-norm", "align": False, "device": "cpu", **options}
    return RayScorer("image", options.pop("id_column", "name"), None, output and str(output), 1, **options)


def test_rows_are_those_of_a_call():
    table = rows_of(FILES)
    scored = actor(None)(table)
    assert scored.column_names[:3] == ["file", "face", "score"] and scored.column_names[-1] == "error"
    assert scored["file"].to_pylist() == table["name"].to_pylist()
    expected = load_method("embedding-norm", align=False)(FILES).scores.numpy()
    np.testing.assert_allclose(scored["score"].to_numpy(), expected, atol=1e-5 * expected.max(), rtol=0)


def test_a_row_without_an_image_is_a_row():
    table = rows_of(FILES[:2])
    damaged = pa.table({**dict(zip(table.column_names, table.columns, strict=True)), "image": [{"bytes": b"x"}, None]})
    scored = actor(None)(damaged)
    assert scored["score"].null_count == 2 and scored["error"].null_count == 0
    assert scored["file"].to_pylist() == table["name"].to_pylist()


def test_a_part_is_the_same_rows_in_any_order(tmp_path):
    scorer = actor(tmp_path)
    table = rows_of(FILES)
    scorer(table.slice(0, 2))
    (path,) = ScoreParts(tmp_path).files()
    before = path.stat().st_mtime_ns
    scorer(table.slice(0, 2).take([1, 0]))  # done again, as where a machine was lost after it had written
    assert ScoreParts(tmp_path).files() == [path] and path.stat().st_mtime_ns == before
    scorer(table.slice(1, 3))  # and among others
    assert len(ScoreParts(tmp_path).files()) == 2
    names = [row["file"] for row in ScoreParts(tmp_path).rows()]
    assert sorted(names) == sorted(table["name"].to_pylist())


def test_a_torn_part_is_made_again(tmp_path):
    scorer = actor(tmp_path)
    scorer(rows_of(FILES[:2]))
    (path,) = ScoreParts(tmp_path).files()
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    scorer(rows_of(FILES[:2]))
    assert path.read_bytes() == whole


def test_what_is_written_is_left_out(tmp_path):
    actor(tmp_path)(rows_of(FILES[1:3]))
    written = ScoreParts(tmp_path).digests()
    assert len(written) == 2
    left = leave_out_written(rows_of(FILES), "image", "name", written)
    assert left["name"].to_pylist() == [Path(FILES[0]).stem, Path(FILES[3]).stem]
    assert left.column_names == ["image", "name", "other"]
    assert not len(leave_out_written(rows_of(FILES).slice(0, 0), "image", "name", written))


def test_other_settings_are_refused(tmp_path):
    actor(tmp_path)(rows_of(FILES[:1]))
    with pytest.raises(ValueError, match="made with other settings .*seed: 0 there, 1 now"):
        actor(tmp_path, seed=1)(rows_of(FILES[1:]))


@pytest.mark.parametrize("ending", (".csv", ".jsonl", ".parquet"))
def test_the_table_is_one_that_score_writes(tmp_path, ending):
    parts = ScoreParts(tmp_path / "parts")
    scorer = actor(tmp_path / "parts")
    scorer(rows_of(FILES[:3]))
    table = tmp_path / f"scores{ending}"
    with pytest.raises(ValueError, match="has not all scores"):
        join_score_parts(tmp_path / "parts", table)
    scorer(rows_of(FILES[2:]))
    assert parts.complete()["rows"] == 5  # of which one is there twice
    assert json.loads((parts.folder / "manifest.json").read_text())["complete"]
    assert join_score_parts(str(tmp_path / "parts"), table) == 4
    assert tuple(read_table(table)) == tuple(scorer.scorer.columns)
    scores = read_scores(table)
    expected = load_method("embedding-norm", align=False)(FILES).scores.tolist()
    found = dict(zip(scores.names, scores.scores["score"], strict=True))
    assert found == pytest.approx({Path(f).stem: s for f, s in zip(FILES, expected, strict=True)}, rel=1e-5)
    with pytest.raises(ValueError, match="the ending is one of"):
        join_score_parts(tmp_path / "parts", tmp_path / "scores.xlsx")


def test_names():
    table = rows_of(FILES[:2])
    assert names_of_rows(table, "image", None) == [Path(file).name for file in FILES[:2]]
    assert names_of_rows(table, "image", "other") == ["0", "0"]
    assert names_of_rows(pa.table({"path": FILES}), "path", None) == FILES
    with pytest.raises(ValueError, match="no column 'id'; they have image, name, other"):
        names_of_rows(table, "image", "id")
    with pytest.raises(ValueError, match="have no paths"):
        names_of_rows(pa.table({"image": [b"x"]}), "image", None)
    with pytest.raises(ValueError, match="row 1 of a batch has no name"):
        names_of_rows(pa.table({"image": FILES[:2], "id": ["a", None]}), "image", "id")


def test_digests_depend_on_each_name_alone():
    names = [f"face {i}" for i in range(1000)]
    digests = name_digests(names)
    assert len(set(digests.tolist())) == 1000
    np.testing.assert_array_equal(name_digests(names[500:]), digests[500:])
