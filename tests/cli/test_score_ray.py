# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa score --ray` without a cluster: options, units of work, and what an actor makes of them."""

import argparse
import pickle
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures.scripts import ROOT

from diffiqa_hf.cli import main, make_parser
from diffiqa_hf.cli.errors import CommandError
from diffiqa_hf.cli.score import load_row_scorer
from diffiqa_hf.cli.score_ray import UnitScorer, file_units, for_actors, left_of, split_tables, table_units
from diffiqa_hf.scoring.tables import read_table
from diffiqa_hf.scoring.threads import use_cores


FACES = ROOT / "examples" / "faces"
FILES = sorted(FACES.glob("*.jpg"))


@pytest.fixture(scope="module")
def parquet(tmp_path_factory) -> str:
    """Seven faces in row groups of three; the fifth is damaged."""
    path = tmp_path_factory.mktemp("faces") / "faces.parquet"
    data = [file.read_bytes() for file in FILES[:7]]
    data[4] = b"no image"
    table = pa.table({"photo": [{"bytes": b, "path": None} for b in data], "id": list(range(70, 77))})
    pq.write_table(table, path, row_group_size=3)
    return str(path)


def options(*argv: str) -> argparse.Namespace:
    """What `run` makes of a command line, before anything is read."""
    args = make_parser(["score"]).parse_args(["score", "x", "--method", "diffiqa-r", "--ray", "auto", *argv])
    args.options, args.videos = {}, []
    return args


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--ray-actors", "2"], "--ray-actors goes with --ray"),
        (["--id-column", "name"], "--id-column goes with --ray"),
        (["--ray", "auto", "--shard", "1/2"], "--shard does not go with --ray"),
        (["--ray", "auto", "--plot", "faces.png"], "--plot does not go with --ray"),
        (["--ray", "auto", "--ray-cpus", "0"], "--ray-cpus is a positive number"),
    ],
)
def test_options_that_make_no_sense(argv, message, capsys):
    pytest.importorskip("ray")
    assert main(["score", str(FACES), *argv]) == 2
    assert message in capsys.readouterr().err


def test_without_ray_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["score", str(FACES), "--ray", "auto"]) == 2
    assert "pip install 'diffiqa-hf[ray]'" in capsys.readouterr().err


def test_rows_of_a_parquet_file_have_names(parquet):
    args = options("--image-column", "photo", "--shard-size", "2")
    units = list(table_units(parquet, args))
    assert [unit.rows for unit in units] == [(0, 1), (2,), (0, 1), (2,), (0,)]
    assert [name for unit in units for name in unit.names] == [f"{parquet}#{row}" for row in range(7)]
    named = list(table_units(parquet, options("--image-column", "photo", "--id-column", "id")))
    assert [unit.names for unit in named] == [("70", "71", "72"), ("73", "74", "75"), ("76",)]
    left = list(left_of(named, {"71", "72", "76"}))
    assert [(unit.names, unit.rows) for unit in left] == [(("71", "72"), (1, 2)), (("76",), (0,))]
    with pytest.raises(CommandError, match="no column 'image'; it has photo, id"):
        list(table_units(parquet, options()))
    with pytest.raises(CommandError, match="test_score_ray.py: Parquet"):
        list(table_units(__file__, options()))


def test_tables_are_told_from_images(parquet, tmp_path):
    (tmp_path / "x.jpg").touch()
    assert split_tables([parquet, str(tmp_path), "face.jpg"]) == ([parquet], [str(tmp_path), "face.jpg"])
    assert split_tables([str(Path(parquet).parent)]) == ([parquet], [])


@pytest.mark.parametrize("further", ([], ["--reasons", "--iso"]))
def test_an_actor_makes_the_rows_that_the_command_makes(parquet, tmp_path, further, monkeypatch):
    monkeypatch.chdir(FACES)
    here = tmp_path / "here.csv"
    files = [file.name for file in FILES[:5]]
    assert main(["score", *files, "--method", "diffiqa-r", "--output", str(here), "--quiet", *further]) == 0
    args = options("--image-column", "photo", "--id-column", "id", *further)
    units = [*file_units(files, 2), *table_units(parquet, args)]
    load = pickle.loads(pickle.dumps(partial(load_row_scorer, for_actors(args))))
    monkeypatch.chdir(tmp_path)  # an actor is anywhere
    try:
        table = UnitScorer(load, 1)({"item": pickle.loads(pickle.dumps(units))})
    finally:
        use_cores(None)
    expected = read_table(here)
    assert table.column_names == list(expected)
    assert table["file"].to_pylist() == [*files, *map(str, range(70, 77))]
    for name in expected.keys() - {"file", "error"}:
        ours = np.array([np.nan if value is None else value for value in table[name].to_pylist()], float)
        theirs = np.array([float(value or "nan") for value in expected[name]])
        atol = 1e-5 * np.nan_to_num(np.abs(theirs)).max(initial=1)
        np.testing.assert_allclose(ours[:5], theirs, atol=atol)
        if not further or name in ("score", "percentile"):  # of whom the same faces are in Parquet
            np.testing.assert_allclose(ours[5:9], ours[:4], atol=atol)
    failed = [name for name, error in zip(table["file"].to_pylist(), table["error"].to_pylist(), strict=True) if error]
    assert failed == ["74"]
