# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`training/label_quality.py` and `diffiqa_hf.labelling` on the example faces, with a tiny pipeline."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, Features, Image, Value, load_dataset
from fixtures.hub import LocalHub, Repository
from fixtures.networks import make_scheduler, make_unet
from fixtures.scripts import ROOT, load_script, run_on_two_processes

from diffiqa_hf import (
    DifFIQAPipeline,
    FaceImageProcessor,
    FaceQualityOutput,
    MobileFaceNetConfig,
    MobileFaceNetModel,
)
from diffiqa_hf.fingerprints import fingerprint
from diffiqa_hf.labelling.labeller import (
    LABEL_COLUMNS,
    TERM_COLUMNS,
    QualityLabeller,
    labelled_features,
)
from diffiqa_hf.labelling.shards import LabelFolder, ParquetStream, Share, find_share
from diffiqa_hf.methods import load_method


label_quality = load_script("label_quality")

DAMAGED = 5  # the row that has no image


def save_pipeline(folder: Path, seed: int = 0) -> DifFIQAPipeline:
    torch.manual_seed(seed)
    unet = make_unet(widths=(4, 4), add_attention=False)
    scheduler = make_scheduler()
    stages = [[8, 8, 1, 2], [8, 8, 1, 2], [8, 8, 1, 2]]
    config = MobileFaceNetConfig(embedding_size=16, stem_width=8, stem_groups=8, stages=stages, feature_width=16)
    pipe = DifFIQAPipeline(
        unet, scheduler, MobileFaceNetModel(config).eval(), FaceImageProcessor(), num_timesteps=2, num_repeats=1
    )
    pipe.save_pretrained(folder)
    return pipe


@pytest.fixture(scope="module")
def setup(tmp_path_factory) -> Path:
    """A pipeline, and eleven faces with people as a Parquet file and as a folder, one of them damaged."""
    folder = tmp_path_factory.mktemp("labels")
    save_pipeline(folder / "pipeline")
    faces = json.loads((ROOT / "examples" / "faces" / "faces.json").read_text())["faces"][:11]
    (folder / "faces").mkdir()
    for face in faces:
        shutil.copy(ROOT / "examples" / "faces" / face["file"], folder / "faces")
    (folder / "faces" / faces[DAMAGED]["file"]).write_bytes(b"no image")
    images = [{"bytes": (folder / "faces" / face["file"]).read_bytes(), "path": face["file"]} for face in faces]
    dataset = Dataset.from_dict({"image": images, "identity": [face["person"] for face in faces]})
    dataset.cast_column("image", Image(decode=False)).cast_column("image", Image()).to_parquet(
        str(folder / "faces.parquet")
    )
    return folder


def label(setup: Path, output_dir: Path, *extra: str, process: int = 0, processes: int = 1) -> None:
    args = ["--output_dir", str(output_dir), "--shard_size", "3"]
    if "--method" not in extra:
        args += ["--model", str(setup / "pipeline")]
    args += ["--process_index", str(process), "--num_processes", str(processes), "--device", "cpu"]
    if "--train_data_dir" not in extra and "--dataset_name" not in extra:
        args += ["--train_parquet", str(setup / "faces.parquet")]
    label_quality.main([*args, *extra])


def contents(output_dir: Path) -> dict[str, bytes]:
    return {p.relative_to(output_dir).as_posix(): p.read_bytes() for p in output_dir.rglob("*") if p.is_file()}


def load(output_dir: Path) -> Dataset:
    files = sorted(map(str, (output_dir / "data").glob("*.parquet")))
    return load_dataset("parquet", data_files=files, split="train").cast_column("image", Image(decode=False))


@pytest.fixture(scope="module")
def labelled(setup) -> Path:
    label(setup, setup / "one")
    return setup / "one"


def test_rows_come_out_with_the_scores_of_the_pipeline(setup, labelled):
    before = load_dataset("parquet", data_files=str(setup / "faces.parquet"), split="train")
    before = before.cast_column("image", Image(decode=False))
    after = load(labelled)
    assert after.column_names == ["image", "identity", *LABEL_COLUMNS]
    assert after["identity"][:] == before["identity"][:]
    assert [image["bytes"] for image in after["image"]] == [image["bytes"] for image in before["image"]]
    output = DifFIQAPipeline.from_pretrained(setup / "pipeline")(before["image"][:], batch_size=20)
    np.testing.assert_allclose(after["quality"][:], output.scores, atol=1e-4)
    for name in TERM_COLUMNS:
        np.testing.assert_allclose(after[name][:], output.terms[name.removeprefix("quality_")], atol=1e-4)
    errors = after["quality_error"][:]
    assert np.isnan(after["quality"][DAMAGED]) and errors.pop(DAMAGED).startswith("not an image")
    assert errors == [None] * 10 and np.isfinite(np.delete(after["quality"][:], DAMAGED)).all()
    # `datasets` finds the shards in the folder as well, and decodes their images.
    assert load_dataset(str(labelled), split="train")[0]["image"].size == (112, 112)


def test_manifest(setup, labelled):
    manifest = json.loads((labelled / "manifest.json").read_text())
    assert manifest["complete"] and (manifest["rows"], manifest["failed"]) == (11, 1)
    assert [(shard["rows"], shard["failed"]) for shard in manifest["shards"]] == [(3, 0), (3, 1), (3, 0), (2, 0)]
    assert all((labelled / shard["file"]).exists() for shard in manifest["shards"])
    settings = manifest["settings"]
    assert settings["weights"] == fingerprint(DifFIQAPipeline.from_pretrained(setup / "pipeline"))
    assert settings["weights"] != fingerprint(save_pipeline(setup / "other", seed=1))
    assert (settings["num_timesteps"], settings["num_repeats"], settings["shard_size"]) == (2, 1, 3)


def test_any_number_of_processes_gives_the_same_files(setup, labelled, tmp_path):
    label(setup, tmp_path, process=1, processes=2)
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["train-000001.parquet", "train-000003.parquet"]
    assert not json.loads((tmp_path / "manifest.json").read_text())["complete"]
    label(setup, tmp_path, process=0, processes=2)
    assert contents(tmp_path) == contents(labelled)


def test_streaming_gives_the_same_files(setup, labelled, tmp_path):
    label(setup, tmp_path, "--streaming", process=1, processes=3)
    label(setup, tmp_path, "--streaming")
    assert contents(tmp_path) == contents(labelled)


def test_of_streamed_parquet_files_only_what_is_labelled_is_read(setup, labelled, tmp_path):
    """Row groups of 2, shards of 3: the second shard is rows 3 to 5, in the second and the third group."""
    rows = load_dataset("parquet", data_files=str(setup / "faces.parquet"), split="train")
    rows = rows.cast_column("image", Image(decode=False)).cast_column("image", Image())
    rows.to_parquet(str(tmp_path / "faces.parquet"), batch_size=2)
    metadata = pq.read_metadata(tmp_path / "faces.parquet")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [2, 2, 2, 2, 2, 1]
    data = bytearray((tmp_path / "faces.parquet").read_bytes())
    for i in (0, 3, 4, 5):
        group = metadata.row_group(i)
        for column in (group.column(j) for j in range(group.num_columns)):
            start = column.dictionary_page_offset or column.data_page_offset
            data[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    (tmp_path / "faces.parquet").write_bytes(data)
    args = ["--streaming", "--train_parquet", str(tmp_path / "faces.parquet")]
    label(setup, tmp_path / "out", *args, process=1, processes=4)
    assert [path.name for path in (tmp_path / "out" / "data").iterdir()] == ["train-000001.parquet"]
    name = "data/train-000001.parquet"
    assert (tmp_path / "out" / name).stat().st_size == (labelled / name).stat().st_size
    ours, theirs = (pq.read_table(folder / name).to_pandas() for folder in (tmp_path / "out", labelled))
    pd.testing.assert_frame_equal(ours, theirs)
    with pytest.raises(OSError):
        label(setup, tmp_path / "out", *args)


def test_a_stream_of_several_files(setup, tmp_path):
    """Files of 4, 0, 6 and 1 rows; a shard lies in three of them, and an empty row group between two."""
    rows = load_dataset("parquet", data_files=str(setup / "faces.parquet"), split="train").with_format("arrow")[:]
    files = [str(tmp_path / f"{i}.parquet") for i in range(4)]
    for file, start, stop in zip(files, (0, 4, 4, 10), (4, 4, 10, 11), strict=True):
        pq.write_table(rows.slice(start, stop - start), file, row_group_size=3)
    features = load_dataset("parquet", data_files=files[0], split="train").features
    stream = ParquetStream(files, features)
    assert len(stream) == 11
    for size in (1, 4, 11):
        parts = [stream.select(range(i, min(i + size, 11))).with_format("arrow")[:] for i in range(0, 11, size)]
        assert [row for part in parts for row in part.to_pylist()] == rows.to_pylist()


def test_a_dataset_on_the_hub(setup, labelled, tmp_path):
    """A private one, at a revision; with and without streaming, which asks for parts of the files."""
    faces = (setup / "faces.parquet").read_bytes()
    people = load_dataset("parquet", data_files=str(setup / "faces.parquet"), split="train").select([0])
    people.to_parquet(str(tmp_path / "one.parquet"))
    repository = Repository(private=True)
    repository.commit("main", {"data/train-0.parquet": faces}, "eleven faces")
    repository.refs["v1"] = repository.refs["main"]
    repository.commit("main", {"data/train-0.parquet": (tmp_path / "one.parquet").read_bytes()}, "one face")
    code = """
import sys
sys.path.insert(0, tests)
from fixtures.scripts import load_script
for name, extra in ("map", []), ("stream", ["--streaming"]), ("main", ["--streaming", "--revision", "main"]):
    load_script("label_quality").main([*args, "--output_dir", out + "/" + name, *extra])
result = None
"""
    args = ["--dataset_name", "ann/faces", "--revision", "v1", "--model", str(setup / "pipeline"), "--shard_size", "3"]
    with LocalHub({"token-of-ann": "ann"}) as hub:
        hub.repositories["datasets", "ann/faces"] = repository
        values = {"tests": str(ROOT / "tests"), "args": [*args, "--device", "cpu"], "out": str(tmp_path)}
        hub.run(code, tmp_path / "home", "token-of-ann", **values)
    assert contents(tmp_path / "map") == contents(tmp_path / "stream")
    assert load(tmp_path / "map")["image"][:] == load(labelled)["image"][:]
    np.testing.assert_allclose(load(tmp_path / "map")["quality"][:], load(labelled)["quality"][:], atol=1e-4)
    manifest = json.loads((tmp_path / "map" / "manifest.json").read_text())
    assert manifest["described"]["source"] == "ann/faces" and hub.ranges
    assert len(load(tmp_path / "main")) == 1


def test_one_process_pushes(tmp_path):
    """Whoever completes the folder; where nothing was left to do, the first."""
    table = pa.table({"a": [1, 2]})
    features = Features({"a": Value("int64")})
    shares = [Share(process, 3, process, "cpu") for process in range(3)]

    def start() -> list[LabelFolder]:
        return [LabelFolder(tmp_path, "train", {"seed": 0}, source="x") for _ in shares]

    def finish(folders: list[LabelFolder]) -> list[bool]:
        return [folders[process].finish([2, 2], shares[process]) for process in (2, 0, 1)]

    folders = start()
    folders[0].write(0, table, features, 0)
    assert finish(folders) == [False] * 3
    assert not json.loads((tmp_path / "manifest.json").read_text())["complete"]
    folders[1].write(1, table, features, 0)
    assert finish(folders) == [True, False, False]
    assert json.loads((tmp_path / "manifest.json").read_text())["complete"]
    assert finish(start()) == [False, True, False]
    # A shard is lost, and made again by one that is not the first.
    (tmp_path / "data" / "train-000001.parquet").unlink()
    folders = start()
    assert folders[0].finish([2, 2], shares[0]) is False
    folders[1].write(1, table, features, 0)
    assert finish(folders)[0] and not (tmp_path / ".incomplete").exists()
    # Killed before it was completed, or between that and the upload.
    for complete in (False, True):
        folders[1].write(1, table, features, 0)
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "complete": complete}))
        assert finish(start()) == [True, False, False]


def test_the_share_is_that_of_the_launcher(monkeypatch):
    for name, value in {"RANK": "79", "WORLD_SIZE": "80", "LOCAL_RANK": "7"}.items():
        monkeypatch.setenv(name, value)
    args = label_quality.parse_args(["--train_parquet", "x.parquet", "--output_dir", "y", "--device", "cpu"])
    assert find_share(args) == Share(79, 80, 7, "cpu")
    args.process_index, args.num_processes = 1, 3
    assert find_share(args) == Share(1, 3, 7, "cpu") and [n for n in range(8) if find_share(args).has(n)] == [1, 4, 7]


def test_a_folder_of_faces(setup, labelled, tmp_path):
    for name, extra in (("map", []), ("stream", ["--streaming"])):
        label(setup, tmp_path / name, "--train_data_dir", str(setup / "faces"), *extra)
    assert contents(tmp_path / "map") == contents(tmp_path / "stream")
    after = load(tmp_path / "map")
    # The files themselves are in the shards, under their names.
    names = [image["path"] for image in after["image"]]
    assert names == sorted(p.name for p in (setup / "faces").iterdir())
    expected = dict(zip([image["path"] for image in load(labelled)["image"]], load(labelled)["quality"], strict=True))
    np.testing.assert_allclose(after["quality"][:], [expected[name] for name in names], atol=1e-4)


def test_a_stopped_run_goes_on_where_it_was(setup, labelled, tmp_path):
    shutil.copytree(labelled, tmp_path, dirs_exist_ok=True)
    lost, torn = tmp_path / "data" / "train-000001.parquet", tmp_path / "data" / "train-000002.parquet"
    lost.unlink()
    torn.write_bytes(torn.read_bytes()[:500])
    kept = tmp_path / "data" / "train-000000.parquet"
    os.utime(kept, (1, 1))
    label(setup, tmp_path)
    assert kept.stat().st_mtime == 1
    assert contents(tmp_path) == contents(labelled)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(setup, labelled, tmp_path):
    command = [sys.executable, str(ROOT / "training" / "label_quality.py"), "--model", str(setup / "pipeline")]
    command += ["--train_parquet", str(setup / "faces.parquet"), "--output_dir", str(tmp_path), "--shard_size", "3"]
    command += ["--process_index", "0", "--num_processes", "1", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for shards in (1, 2, 3):
        run = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while len(list(tmp_path.glob("data/*.parquet"))) < shards and run.poll() is None:
            time.sleep(0.001)
        run.send_signal(signal.SIGKILL)
        run.wait()
    label(setup, tmp_path)
    found = {name: data for name, data in contents(tmp_path).items() if not name.endswith(".tmp")}
    assert found == contents(labelled)


@pytest.mark.slow
def test_launched_processes_share_the_work(setup, labelled, tmp_path):
    args = ["--model", str(setup / "pipeline"), "--shard_size", "3", "--output_dir", str(tmp_path)]
    stderr = run_on_two_processes("label_quality", [*args, "--train_parquet", str(setup / "faces.parquet")])
    assert "[0/2] shard 2 is written" in stderr and "[1/2] shard 3 is written" in stderr
    assert (tmp_path / "manifest.json").read_bytes() == (labelled / "manifest.json").read_bytes()
    # Not to the bit: this test runs with another number of threads.
    np.testing.assert_allclose(load(tmp_path)["quality"][:], load(labelled)["quality"][:], atol=1e-4)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--seed", "1"], "seed: 0 there, 1 now"),
        (["--method_options", '{"num_repeats": 2}'], "num_repeats: 1 there, 2 now"),
        (["--shard_size", "4"], "shard_size: 3 there, 4 now"),
        (["--degraded_copies", "1"], "degraded_copies: 0 there, 1 now"),
        (["--image_column", "picture"], "no column 'picture'"),
    ],
)
def test_other_settings_are_an_error(setup, labelled, extra, message):
    with pytest.raises(ValueError, match=message):
        label(setup, labelled, *extra)


def test_other_faces_and_foreign_shards_are_an_error(setup, labelled, tmp_path):
    with pytest.raises(ValueError, match="dataset: "):
        label(setup, labelled, "--train_data_dir", str(setup / "faces"))
    shutil.copytree(labelled / "data", tmp_path / "data")
    with pytest.raises(ValueError, match="train-000000.parquet was made with other settings"):
        label(setup, tmp_path, "--seed", "1")
    with pytest.raises(ValueError, match="has a column 'quality' already"):
        label_quality.main(["--train_parquet", str(labelled / "data/train-000000.parquet"), "--output_dir", "x"])


def test_degraded_faces_are_labelled_as_they_are(setup, labelled, tmp_path):
    for name, size in (("three", "3"), ("four", "4")):
        label(setup, tmp_path / name, "--degraded_copies", "2", "--shard_size", size)
    after, other, before = load(tmp_path / "three"), load(tmp_path / "four"), load(labelled)
    assert after["image"][:] == other["image"][:]  # by row and copy, not by the shard
    assert after.column_names == ["image", "identity", "degraded", *LABEL_COLUMNS]
    assert after["degraded"][:] == [False, True, True] * 11
    assert after["identity"][:] == [name for name in before["identity"] for _ in range(3)]
    assert after["image"][::3] == before["image"][:]
    files = [image["bytes"] for image in after["image"]]
    for i in range(0, 33, 3):
        # Nor is one copy the other; what can't be read stays as it is.
        assert len(set(files[i : i + 3])) == (1 if i == 3 * DAMAGED else 3)
    # The first copies do not change with their number.
    label(setup, tmp_path / "one", "--degraded_copies", "1")
    assert load(tmp_path / "one")["image"][1::2] == after["image"][1::3]
    scores = DifFIQAPipeline.from_pretrained(setup / "pipeline")(after["image"][:]).scores
    np.testing.assert_allclose(after["quality"][:], scores, atol=1e-4)
    assert np.flatnonzero(np.isnan(after["quality"][:])).tolist() == [3 * DAMAGED + i for i in range(3)]
    assert [i for i, error in enumerate(after["quality_error"]) if error] == [3 * DAMAGED + i for i in range(3)]


def test_copies_are_shared_among_processes_and_counted(setup, tmp_path):
    for name, processes, extra in (("one", 1, []), ("two", 2, ["--streaming"])):
        for process in range(processes):
            args = ["--degraded_copies", "1", *extra]
            label(setup, tmp_path / name, *args, process=process, processes=processes)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert (manifest["rows"], manifest["failed"], manifest["settings"]["degraded_copies"]) == (22, 2, 1)
    assert [shard["rows"] for shard in manifest["shards"]] == [6, 6, 6, 4]
    (tmp_path / "one" / "data" / "train-000002.parquet").unlink()
    label(setup, tmp_path / "one", "--degraded_copies", "1")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--dataset_name", "x"], "exactly one of"),
        (["--process_index", "0"], "go together"),
        (["--process_index", "2", "--num_processes", "2"], "from 0 to"),
        (["--shard_size", "0"], "positive"),
        (["--degraded_copies", "1", "--landmarks_column", "points"], "aligned crops"),
        (["--degraded_copies", "-1"], "0 or a positive"),
        (["--streaming", "--skip_broken_rows"], "reads every face before"),
    ],
)
def test_options_that_do_not_go_together(capsys, extra, message):
    with pytest.raises(SystemExit):
        label_quality.parse_args(["--train_parquet", "x.parquet", "--output_dir", "y", *extra])
    assert message in capsys.readouterr().err


# -- the function that is mapped --------------------------------------------------------------------------------------


class Brightness:
    """A method of another kind: the first of three bytes is the score, and what is below 20 is refused."""

    settings = {"version": 3}

    def __call__(self, images, landmarks):
        scores = torch.tensor([float(image["bytes"][-3]) for image in images])
        errors = ["too dark" if score < 20 else None for score in scores]
        indices = torch.arange(len(images))
        return FaceQualityOutput(scores=scores, terms={"flipped": scores / 2}, image_indices=indices, errors=errors)


def test_any_method_can_label():
    labeller = QualityLabeller(Brightness())
    batch = {"image": [bytes([200, 0, 0]), bytes([10, 0, 0]), bytearray([30, 0, 0])], "name": ["a", "b", "c"]}
    out = labeller(batch)
    assert out["name"] == batch["name"] and out["image"] is batch["image"]
    np.testing.assert_array_equal(out["quality"], np.array([200, np.nan, 30], np.float32))
    np.testing.assert_array_equal(out["quality_flipped"], np.array([100, np.nan, 15], np.float32))
    assert np.isnan(out["quality_noisy"]).all() and list(out["quality_error"]) == [None, "too dark", None]
    assert labeller.settings == {"method": "Brightness", "version": 3}
    frame = pd.DataFrame({"image": batch["image"], "name": batch["name"]})
    frames = list(labeller.map_frames(iter([frame, frame[:0]])))
    assert list(frames[0].columns) == ["image", "name", *LABEL_COLUMNS] and len(frames[1]) == 0
    np.testing.assert_array_equal(frames[0]["quality"], out["quality"])
    # Of two batches the first has no error.
    rows = Dataset.from_dict({"image": [bytes([value, 0, 0]) for value in (200, 30, 10, 40)]})
    rows = rows.map(labeller.label, batched=True, batch_size=2, features=labelled_features(rows.features))
    assert rows["quality_error"][:] == [None, None, "too dark", None]


def test_a_method_of_the_package_labels(setup, labelled, tmp_path):
    fr_model = setup / "pipeline" / "fr_model"
    label(setup, tmp_path, "--method", "embedding-norm", "--fr_model", str(fr_model))
    after = load(tmp_path)
    scores = load_method("embedding-norm", fr_model=fr_model)(after["image"][:]).scores
    np.testing.assert_allclose(after["quality"][:], scores, rtol=1e-4)
    assert (
        np.isnan(after["quality_restored"][:]).all()
        and after["quality_error"][:] == load(labelled)["quality_error"][:]
    )
    assert json.loads((tmp_path / "manifest.json").read_text())["settings"]["method"] == "embedding-norm"
    with pytest.raises(ValueError, match="sharpness"):
        QualityLabeller("sharpness").settings  # noqa: B018


def test_a_labeller_travels_without_its_weights(setup, labelled):
    labeller = QualityLabeller(model=str(setup / "pipeline"), device="cpu")
    weights = labeller.settings["weights"]
    travelled = pickle.dumps(labeller)
    assert len(travelled) < 2000
    rows = pq.read_table(labelled / "data" / "train-000001.parquet").to_pydict()
    again = pickle.loads(travelled)
    out = again.label({"image": rows["image"]})
    assert again.settings["weights"] == weights
    np.testing.assert_allclose(out["quality"], rows["quality"], atol=1e-4)
    assert list(out["quality_error"]) == rows["quality_error"]
    # And `datasets` maps it over rows whose images it has decoded.
    dataset = load_dataset("parquet", data_files=str(setup / "faces.parquet"), split="train").select([0, 1])
    mapped = dataset.map(again.label, batched=True, batch_size=2)
    np.testing.assert_allclose(mapped["quality"][:], load(labelled)["quality"][:2], atol=1e-4)


def test_bytes_without_features_and_a_row_without_an_image(setup, tmp_path):
    """Columns that `datasets` takes for no images are labelled and degraded like the others."""
    rows = pq.read_table(setup / "faces.parquet").slice(0, 3).to_pylist()
    contents = [rows[0]["image"]["bytes"], None, rows[2]["image"]["bytes"]]
    pq.write_table(pa.table({"image": pa.array(contents, pa.binary())}), tmp_path / "bytes.parquet")
    label(setup, tmp_path / "out", "--train_parquet", str(tmp_path / "bytes.parquet"), "--degraded_copies", "1")
    found = load(tmp_path / "out")
    errors = found["quality_error"][:]
    assert [error is None for error in errors] == [True, True, False, False, True, True]
    assert found["image"][0]["bytes"] == contents[0] and found["image"][1]["bytes"] != contents[0]
    assert found["quality"][0] != found["quality"][1]


def test_that_no_row_could_be_scored_is_a_failure(setup, tmp_path):
    pq.write_table(pa.table({"image": ["nowhere/a.png", "nowhere/b.png"]}), tmp_path / "paths.parquet")
    for _ in range(2):  # also of one that finds its shards there
        with pytest.raises(SystemExit, match="none of the 2 rows could be scored .row 0: no such file"):
            label(setup, tmp_path / "out", "--train_parquet", str(tmp_path / "paths.parquet"))


def test_rows_that_cannot_be_read_are_left_out_when_asked(setup, labelled, tmp_path, caplog):
    for process in (1, 0):
        label(setup, tmp_path, "--skip_broken_rows", process=process, processes=2)
    assert f"1 of 11 rows are left out, because their image can't be read (row {DAMAGED}: not an image" in caplog.text
    broken = json.loads((tmp_path / "broken_rows.json").read_text())["broken"]
    assert list(broken) == [str(DAMAGED)] and broken[str(DAMAGED)].startswith("not an image")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["complete"], manifest["rows"], manifest["failed"]) == (True, 10, 0)
    kept = [row for row in range(11) if row != DAMAGED]
    every, found = load(labelled).select(kept), load(tmp_path)
    assert found["identity"][:] == every["identity"][:] and found["quality_error"][:] == [None] * 10
    np.testing.assert_allclose(found["quality"][:], every["quality"][:], atol=1e-4)
    # It is another dataset than that of all rows.
    with pytest.raises(ValueError, match="other settings .skip_broken_rows: True there, None now"):
        label(setup, tmp_path)
