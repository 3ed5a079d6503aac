# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa_hf.labelling.ray` on a local Ray cluster: the same labels as `training/label_quality.py`, to the bit."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, Image, load_dataset
from fixtures.clusters import ray_on
from fixtures.scripts import ROOT, load_script

from diffiqa_hf import FaceImageProcessor, FaceQualityOutput
from diffiqa_hf.labelling.labeller import LABEL_COLUMNS, QualityLabeller
from diffiqa_hf.labelling.ray import check_room, label_ray_dataset, room_for_actors, score_ray_dataset
from diffiqa_hf.training.data import read_face


FACES = json.loads((ROOT / "examples" / "faces" / "faces.json").read_text())["faces"][:11]
DAMAGED = 5  # the row that has no image
OPTIONS = {"num_timesteps": 1, "num_repeats": 1}  # of the default pipeline, to be quick


@pytest.fixture(scope="module")
def ray():
    """Ray on three CPUs: two actors of one, and one that reads and writes."""
    with ray_on(3) as ray:
        yield ray


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """Eleven faces with people in two Parquet files of seven and four rows."""
    folder = tmp_path_factory.mktemp("faces")
    data = [(ROOT / "examples" / "faces" / face["file"]).read_bytes() for face in FACES]
    data[DAMAGED] = b"no image"
    images = [{"bytes": file, "path": face["file"]} for file, face in zip(data, FACES, strict=True)]
    rows = Dataset.from_dict({"image": images, "identity": [face["person"] for face in FACES]})
    rows = rows.cast_column("image", Image(decode=False)).cast_column("image", Image())
    rows.select(range(7)).to_parquet(str(folder / "0.parquet"))
    rows.select(range(7, 11)).to_parquet(str(folder / "1.parquet"))
    return folder


@pytest.mark.slow
def test_the_labels_are_those_of_label_quality(ray, faces, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        args = ["--train_parquet", str(faces / "0.parquet"), str(faces / "1.parquet"), "--shard_size", "3"]
        args += ["--process_index", "0", "--num_processes", "1", "--device", "cpu"]
        args += ["--output_dir", str(tmp_path / "script"), "--method_options", json.dumps(OPTIONS)]
        load_script("label_quality").main(args)
    finally:
        torch.set_num_threads(threads)
    expected = pa.concat_tables(pq.read_table(file) for file in sorted((tmp_path / "script" / "data").iterdir()))

    rows = ray.data.read_parquet(str(faces), override_num_blocks=2)
    labelled = label_ray_dataset(rows, num_actors=2, num_cpus=1, shard_size=3, **OPTIONS)
    labelled.write_parquet(str(tmp_path / "ray"))
    files = sorted((tmp_path / "ray").iterdir())
    table = pa.concat_tables(pq.read_table(file) for file in files)
    assert [pq.read_metadata(file).num_rows for file in files] == [3, 3, 3, 2]
    assert table.schema.equals(expected.schema)
    for name in ("image", "identity", "quality_error"):
        assert table[name].to_pylist() == expected[name].to_pylist()
    for name in LABEL_COLUMNS[:-1]:
        assert table[name].null_count == 0
        assert table[name].type == expected[name].type
        np.testing.assert_allclose(table[name].to_numpy(), expected[name].to_numpy(), atol=1e-5, rtol=0)
    assert np.flatnonzero(~np.isfinite(table["quality"].to_numpy())).tolist() == [DAMAGED]

    # And what trains a student reads them; to `datasets` they are pictures once it is told.
    after = load_dataset("parquet", data_files=list(map(str, files)), split="train")
    assert read_face(after, 0, "image", FaceImageProcessor()).shape == (3, 112, 112)
    assert after.cast_column("image", Image())[0]["image"].size == (112, 112)


@pytest.mark.slow
def test_arrays_and_a_lost_actor(ray, tmp_path):
    class Brightness:
        """Takes its first process down with it."""

        def __call__(self, images, landmarks):
            if not (tmp_path / "was-here").exists():
                (tmp_path / "was-here").touch()
                os._exit(1)
            scores = torch.tensor([float(image.mean()) for image in images])
            indices = torch.arange(len(images))
            return FaceQualityOutput(scores=scores, terms={}, image_indices=indices, errors=[None] * len(images))

    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    rows = ray.data.from_numpy(images).rename_columns({"data": "face"})
    labelled = label_ray_dataset(rows, num_actors=(1, 2), shard_size=2, method=Brightness(), image_column="face")
    table = pa.concat_tables(ray.get(labelled.to_arrow_refs()))
    assert (tmp_path / "was-here").exists()
    np.testing.assert_array_equal(table["quality"].to_numpy(), images.mean((1, 2, 3)).astype(np.float32))
    assert table.column_names == ["face", *LABEL_COLUMNS] and table["quality_error"].null_count == 5


@pytest.mark.slow
def test_the_reason_of_a_failure_is_told(ray, faces):
    rows = ray.data.read_parquet(str(faces))
    with pytest.raises(ray.exceptions.RayTaskError, match="diffiqa has no option 'sharpness'"):
        label_ray_dataset(rows, sharpness=3).materialize()
    with pytest.raises(ValueError, match="shard_size"):
        label_ray_dataset(rows, shard_size=0)


def test_a_block_goes_to_the_method_as_label_quality_sends_a_shard():
    sizes = []

    def method(images, landmarks):
        sizes.append(len(images))
        scores = torch.tensor([float(image["bytes"][0]) for image in images])
        errors = [None] * len(images)
        return FaceQualityOutput(scores=scores, terms={}, image_indices=torch.arange(len(images)), errors=errors)

    rows = load_script("label_quality").ROWS_AT_A_TIME
    table = QualityLabeller(method).label_table(pa.table({"image": [bytes([i]) for i in range(2 * rows + 6)]}))
    assert sizes == [rows, rows, 6]
    assert table["quality"].to_pylist() == list(range(2 * rows + 6))


def test_a_table_that_has_labels_is_refused():
    table = pa.table({"image": [b""], "quality": [0.5]})
    with pytest.raises(ValueError, match="a column 'quality' already"):
        QualityLabeller("embedding-norm").label_table(table)


@pytest.mark.parametrize("function", (label_ray_dataset, score_ray_dataset))
def test_without_ray_the_extra_is_named(monkeypatch, function):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'diffiqa-hf\[ray\]'"):
        function(None)


@pytest.mark.slow
def test_a_cluster_without_room_is_refused(ray, faces):
    """Where Ray itself would wait for ever: nothing is left to read the rows, or there is no GPU."""
    rows = ray.data.read_parquet(str(faces))
    for options in ({"num_actors": 3}, {"num_actors": (5, 9)}, {"num_actors": 2, "num_cpus": 1.5}):
        with pytest.raises(ValueError, match="leave none of the cluster's 3 to read the rows"):
            label_ray_dataset(rows, **options)
        with pytest.raises(ValueError, match="leave none of the cluster's 3 to read the rows"):
            score_ray_dataset(rows, **options)
    with pytest.raises(ValueError, match="2 actors of 1 GPUs are asked for, and the cluster has 0"):
        label_ray_dataset(rows, num_actors=2, num_gpus=1)
    label_ray_dataset(rows, num_actors=2)
    label_ray_dataset(rows, num_actors=4, num_cpus=0.5)


@pytest.mark.parametrize(
    "cpus, actors, num_cpus, room",
    [
        ([2], 2, 1, 1),
        ([1], 1, 1, 0),
        ([1, 1], 2, 1, 1),
        ([2], 1, 1, 1),
        ([2], 2, 0.5, 2),
        ([4], 4, 1, 3),
        ([2, 2], 4, 1, 3),
        ([1, 1, 1], 1, 2, 0),  # no node has two
        ([1.5, 1.5], 2, 1, 1),  # half a CPU is left on each node, and who reads needs a whole one
        ([0, 2], 2, 1, 1),  # a head that computes nothing
        ([3], 2**31, 0, 2**31),
        ([], 1, 1, 0),
    ],
)
def test_one_cpu_is_left_to_read(cpus, actors, num_cpus, room):
    nodes = [{"CPU": count} for count in cpus]
    assert room_for_actors(nodes, num_cpus, 0) == room
    for count in {max(room, 1), actors}:
        if count <= room:
            check_room(nodes, count, num_cpus, 0)
        else:
            with pytest.raises(ValueError, match="leave none of the cluster's|do not fit the cluster's"):
                check_room(nodes, count, num_cpus, 0)


def test_actors_with_gpus_need_nodes_that_have_both():
    nodes = [{"CPU": 8}, {"CPU": 4, "GPU": 2}]
    assert room_for_actors(nodes, 1, 1) == 2
    assert room_for_actors(nodes, 1, 0.5) == 4  # who reads does so on the node without a GPU
    assert room_for_actors(nodes[1:], 1, 0.5) == 3
    with pytest.raises(ValueError, match="the cluster's 2 nodes with a CPU left to read the rows: room for 1"):
        check_room([{"CPU": 1.5, "GPU": 1}] * 2, 2, 1, 1)
