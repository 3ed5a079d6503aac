# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores on Ray clusters of this machine: those of a call, each once, also where a node is lost in the middle."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures.clusters import MEMORY, ray_environment, ray_on
from fixtures.scripts import ROOT
from PIL import Image, ImageEnhance

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


@pytest.mark.parametrize("method, options", [("diffiqa-r", {}), ("diffiqa", {}), ("diffiqa", QUICK)])
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


def write_darker(folder: Path, of_each: int) -> list[Path]:
    """Each of the faces in so many brightnesses, so that a run takes long enough to be disturbed."""
    folder.mkdir()
    files = []
    for file in FILES:
        image = Image.open(file)
        for step in range(of_each):
            files.append(folder / f"{file.stem}_{step}.png")
            ImageEnhance.Brightness(image).enhance(1 - 0.5 * step / of_each).save(files[-1])
    return files


def test_a_node_is_killed_in_the_middle(tmp_path):
    """Of two nodes that work, one goes; the other has the room to make it good, and nothing is lost."""
    files = write_darker(tmp_path / "darker", 24)
    names = write_faces(tmp_path / "faces", files, 50)
    parts, shard = ScoreParts(tmp_path / "scores"), 5
    whole = len(files) // shard
    with ray_environment() as ray, ThreadPoolExecutor(1) as pool:
        from ray.cluster_utils import Cluster

        def actors() -> dict[str, dict]:
            # ray.util.state needs the dashboard.
            found = ray._private.state.actors()
            return {key: actor for key, actor in found.items() if "RayScorer" in actor["ActorClassName"]}

        def kill() -> tuple[int, set[str]]:
            """Parts there were at that time, and the actors that went."""
            deadline = time.monotonic() + 300  # a loaded machine takes a minute to import torch in two processes
            while time.monotonic() < deadline:
                alive = {key: actor for key, actor in actors().items() if actor["State"] == "ALIVE"}
                there = {key for key, actor in alive.items() if actor["Address"]["NodeID"] == second.node_id}
                count = len(parts.files())
                if len(alive) == 2 and there and count >= 3:
                    ray.kill(guest)
                    cluster.remove_node(second, allow_graceful=False)
                    return count, there
                time.sleep(0.02)
            raise TimeoutError(f"no actor on the second node, or no parts: {actors()}")

        head = {"num_cpus": 3, "object_store_memory": MEMORY, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            ray.init(cluster.address, log_to_driver=False)
            ray.data.DataContext.get_current().enable_progress_bars = False
            # Else all may be done by the first actor before the second one lives.
            ray.data.DataContext.get_current().wait_for_min_actors_s = 120
            # It takes so much of the head that one of two actors at least has to go to the other node.
            guest = ray.remote(num_cpus=2)(type("Guest", (), {})).remote()
            ray.get(guest.__ray_ready__.remote())
            second = cluster.add_node(num_cpus=2, object_store_memory=MEMORY)
            killed = pool.submit(kill)
            rows = ray.data.read_parquet(str(tmp_path / "faces"), override_num_blocks=len(files) // 50)
            where = {"num_actors": 2, "shard_size": shard, "id_column": "name", "align": False, "output": parts.folder}
            where |= {"preserve_order": True}  # Ray reads small files as one block, which is work for one actor
            scored = score_ray_dataset(rows, **where)
            count, gone = killed.result(10)
            assert count < whole and gone
            assert len([node for node in ray.nodes() if node["Alive"]]) == 1
            after = actors()
            assert any(after[key]["NumRestarts"] for key in gone)
            found = scored.take_all()
        finally:
            ray.shutdown()
            cluster.shutdown()
    assert_scores_of("diffiqa-r", found, names, files)
    assert join_score_parts(parts.folder, tmp_path / "scores.csv") == len(files)
