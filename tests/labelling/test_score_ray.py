# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores on Ray clusters of this machine: those of a call, each once, also where a node is lost in the middle."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures.clusters import MEMORY, ray_environment, ray_on
from fixtures.scripts import ROOT

from diffiqa_hf import load_method
from diffiqa_hf.cli import main
from diffiqa_hf.labelling.ray import score_ray_dataset
from diffiqa_hf.labelling.score_parts import ScoreParts, join_score_parts
from diffiqa_hf.scoring.tables import read_table


pytestmark = pytest.mark.slow

FILES = sorted((ROOT / "examples" / "faces").glob("*.jpg"))
DAMAGED = 3  # the row that has no image
QUICK = {"num_timesteps": 1, "num_repeats": 1}


def write_faces(folder: Path, files: list[Path], rows_of_a_file: int) -> list[str]:
    """Parquet files of these faces, one of them damaged; their names."""
    folder.mkdir()
    names = [file.stem for file in files]
    data = [file.read_bytes() for file in files]
    data[DAMAGED] = b"no image"
    images = [{"bytes": content, "path": name} for content, name in zip(data, names, strict=True)]
    table = pa.table({"image": images, "name": names})
    for number, start in enumerate(range(0, len(files), rows_of_a_file)):
        pq.write_table(table.slice(start, rows_of_a_file), folder / f"{number}.parquet", row_group_size=3)
    return names


def assert_scores_of(method: str, rows: list[dict], names: list[str], files: list[Path], **options) -> None:
    """Every face is there once, with the score and the terms that a call gives it; the damaged one with its reason."""
    assert sorted(row["file"] for row in rows) == sorted(names)
    output = load_method(method, align=False, **options)([str(file) for file in files])
    expected = dict(zip(names, output.scores.tolist(), strict=True))
    terms = {name: dict(zip(names, values.tolist(), strict=True)) for name, values in output.terms.items()}
    for row in rows:
        if row["file"] == names[DAMAGED]:
            assert row["score"] is None and row["error"]
            continue
        assert row["error"] is None
        assert row["score"] == pytest.approx(expected[row["file"]], abs=1e-5)
        for name, values in terms.items():
            assert row[name] == pytest.approx(values[row["file"]], abs=1e-5)


@pytest.fixture(scope="module")
def ray():
    with ray_on(3) as ray:
        yield ray


@pytest.mark.parametrize("method, options", [("diffiqa-r", {}), ("diffiqa", QUICK)])
def test_the_scores_are_those_of_a_call(ray, tmp_path, method, options):
    names = write_faces(tmp_path / "faces", FILES[:7], 4)
    rows = ray.data.read_parquet(str(tmp_path / "faces"), override_num_blocks=2)
    where = {"num_actors": 2, "shard_size": 2, "preserve_order": True, "id_column": "name", "align": False}
    found = score_ray_dataset(rows, method=method, **where, **options).take_all()
    assert [row["file"] for row in found] == names
    assert_scores_of(method, found, names, FILES[:7], **options)


def test_what_is_written_is_not_scored_again(ray, tmp_path):
    names = write_faces(tmp_path / "faces", FILES[:10], 5)
    options = {"id_column": "name", "align": False, "output": tmp_path / "scores", "shard_size": 2}
    first = score_ray_dataset(ray.data.read_parquet(str(tmp_path / "faces" / "0.parquet")), **options)
    assert sorted(row["file"] for row in first.take_all()) == sorted(names[:5])
    before = {path: path.stat().st_mtime_ns for path in ScoreParts(tmp_path / "scores").files()}
    everything = score_ray_dataset(ray.data.read_parquet(str(tmp_path / "faces")), **options)
    assert_scores_of("diffiqa-r", everything.take_all(), names, FILES[:10])
    after = {path: path.stat().st_mtime_ns for path in ScoreParts(tmp_path / "scores").files()}
    assert before.items() <= after.items() and len(after) > len(before)
    new = [row["file"] for path in after.keys() - before.keys() for row in pq.read_table(path).to_pylist()]
    assert sorted(new) == sorted(names[5:])
    manifest = json.loads((tmp_path / "scores" / "manifest.json").read_text())
    assert manifest["complete"] and (manifest["rows"], manifest["failed"]) == (10, 1)


def test_the_reason_of_a_failure_is_told(ray, tmp_path):
    write_faces(tmp_path / "faces", FILES[:4], 4)
    rows = ray.data.read_parquet(str(tmp_path / "faces"))
    with pytest.raises(ray.exceptions.RayTaskError, match="has no option 'sharpness'"):
        score_ray_dataset(rows, sharpness=3).materialize()
    with pytest.raises(ray.exceptions.RayTaskError, match="no column 'id'; they have image, name"):
        score_ray_dataset(rows, id_column="id").materialize()
    with pytest.raises(ValueError, match="shard_size"):
        score_ray_dataset(rows, shard_size=0)


def test_the_command_gives_the_table_that_it_gives_here(ray, tmp_path, capsys):
    """Of a folder and of Parquet files, in a run that goes on, with rows that fail."""
    names = write_faces(tmp_path / "faces", FILES[:7], 7)
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for file in FILES[7:10]:
        (photographs / file.name).write_bytes(file.read_bytes())
    (photographs / "broken.jpg").write_bytes(b"no image")
    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    assert main(["score", str(photographs), "--output", str(here), "--quiet"]) == 1
    common = ["--ray", "auto", "--ray-actors", "2", "--shard-size", "2", "--quiet"]
    assert main(["score", str(photographs), "--output", str(there), *common]) == 1
    assert "broken.jpg" in capsys.readouterr().err
    one, other = read_table(here), read_table(there)
    assert list(one) == list(other)
    order = np.argsort(other["file"])
    assert [other["file"][i] for i in order] == sorted(one["file"])
    ours = {name: float(score or "nan") for name, score in zip(one["file"], one["score"], strict=True)}
    for i in order:
        assert float(other["score"][i] or "nan") == pytest.approx(ours[other["file"][i]], abs=1e-5, nan_ok=True)
    parquet = str(tmp_path / "faces" / "0.parquet")
    args = ["score", str(photographs), parquet, "--output", str(there), "--id-column", "name", "--resume", *common]
    (photographs / "broken.jpg").write_bytes(FILES[11].read_bytes())
    assert main(args) == 1
    table = read_table(there)
    files = [str(path) for path in sorted(photographs.iterdir())]
    assert sorted(table["file"]) == sorted([*files, *names])
    assert [name for name, error in zip(table["file"], table["error"], strict=True) if error] == [names[DAMAGED]]
    assert main(args) == 1  # what failed is tried again
    assert "names no files" not in capsys.readouterr().err
    assert sorted(read_table(there)["file"]) == sorted([*files, *names])


def test_a_node_is_killed_in_the_middle(tmp_path):
    """Two nodes with an actor each: one node goes, which the other has the room to make good, and nothing is lost."""
    names = write_faces(tmp_path / "faces", FILES, 6)
    parts = ScoreParts(tmp_path / "scores")
    seen = {}
    with ray_environment() as ray:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 3, "object_store_memory": MEMORY, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            second = cluster.add_node(num_cpus=2, object_store_memory=MEMORY)
            ray.init(cluster.address, log_to_driver=False)
            ray.data.DataContext.get_current().enable_progress_bars = False

            def kill() -> None:
                while len(parts.files()) < 3:
                    time.sleep(0.05)
                seen["parts"] = len(parts.files())
                actors = ray._private.state.actors().values()
                seen["actors"] = [actor["State"] for actor in actors if actor["Address"]["NodeID"] == second.node_id]
                cluster.remove_node(second, allow_graceful=False)
                seen["killed"] = True

            killer = threading.Thread(target=kill, daemon=True)
            killer.start()
            rows = ray.data.read_parquet(str(tmp_path / "faces"), override_num_blocks=4)
            where = {"num_actors": 2, "shard_size": 2, "id_column": "name", "align": False, "output": parts.folder}
            scored = score_ray_dataset(rows, method="diffiqa", num_repeats=1, **where)
            killer.join(60)
            assert seen["killed"] and seen["parts"] < len(FILES) // 2 and "ALIVE" in seen["actors"]
            assert len([node for node in ray.nodes() if node["Alive"]]) == 1
            found = scored.take_all()
        finally:
            ray.shutdown()
            cluster.shutdown()
    assert_scores_of("diffiqa", found, names, FILES, num_repeats=1)
    assert join_score_parts(parts.folder, tmp_path / "scores.csv") == len(FILES)
