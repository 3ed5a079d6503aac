# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`training/label_centres.py` on the example faces, with tiny FR models."""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value, load_dataset
from fixtures.networks import MOBILEFACENET as TINY
from fixtures.scripts import ROOT, assert_every_option_is_explained, load_script, run_on_two_processes
from PIL import Image as PILImage

from diffiqa_hf import FaceImageProcessor, MobileFaceNetConfig, MobileFaceNetModel
from diffiqa_hf.degradations import degrade_face
from diffiqa_hf.hub import HubError, complete_card, push_folder
from diffiqa_hf.labelling.labeller import find_sources
from diffiqa_hf.training.recipes.labels import centre_labels


script = load_script("label_centres")

PEOPLE = ["a", "b", "a", "b", "a", "b", "a", None, "alone"]
DAMAGED = 4  # the face, and so its copy, that can't be read


@pytest.fixture(scope="module")
def setup(tmp_path_factory) -> Path:
    """Two FR models; nine faces, each with a degraded copy, in two Parquet files."""
    folder = tmp_path_factory.mktemp("centres")
    for name, seed in (("one", 0), ("two", 1)):
        torch.manual_seed(seed)
        MobileFaceNetModel(MobileFaceNetConfig(**TINY)).eval().save_pretrained(folder / name)
    faces = json.loads((ROOT / "examples" / "faces" / "faces.json").read_text())["faces"][: len(PEOPLE)]
    rows = []
    for i, (face, person) in enumerate(zip(faces, PEOPLE, strict=True)):
        data = (ROOT / "examples" / "faces" / face["file"]).read_bytes() if i != DAMAGED else b"no image"
        rows.append({"face": {"bytes": data, "path": face["file"]}, "who": person, "degraded": False, "kind": i % 2})
        if i != DAMAGED:
            file = io.BytesIO()
            pixels = np.array(PILImage.open(io.BytesIO(data)).convert("RGB"))
            PILImage.fromarray(degrade_face(pixels, np.random.default_rng(i))).save(file, "png")
            data = file.getvalue()
        rows.append({**rows[-1], "face": {"bytes": data, "path": None}, "degraded": True})
    features = {"face": Image(decode=False), "who": Value("string"), "degraded": Value("bool")}
    features = Features({**features, "kind": ClassLabel(names=["x", "y"])})
    dataset = Dataset.from_list(rows, features=features).cast_column("face", Image())
    dataset.select(range(10)).to_parquet(str(folder / "0.parquet"))
    dataset.select(range(10, 18)).to_parquet(str(folder / "1.parquet"))
    return folder


def label(setup: Path, output_dir: Path, *extra: str, process: int = 0, processes: int = 1) -> None:
    args = ["--train_parquet", str(setup / "0.parquet"), str(setup / "1.parquet"), "--image_column", "face"]
    args += ["--identity_column", "who", "--fr_model", str(setup / "one"), str(setup / "two"), "--device", "cpu"]
    args += ["--process_index", str(process), "--num_processes", str(processes)]
    script.main([*args, "--shard_size", "5", "--batch_size", "4", "--output_dir", str(output_dir), *extra])


def contents(output_dir: Path) -> dict[str, bytes]:
    return {p.relative_to(output_dir).as_posix(): p.read_bytes() for p in output_dir.rglob("*") if p.is_file()}


def load(files: list[Path]) -> Dataset:
    return load_dataset("parquet", data_files=list(map(str, files)), split="train")


@pytest.fixture(scope="module")
def labelled(setup) -> Path:
    label(setup, setup / "labelled")
    return setup / "labelled"


def test_rows_come_out_with_their_similarity_to_the_centre(setup, labelled):
    before, after = load([setup / "0.parquet", setup / "1.parquet"]), load(sorted(labelled.glob("data/*.parquet")))
    assert [path.name for path in sorted(labelled.glob("data/*"))] == [f"train-00000{i}.parquet" for i in range(4)]
    assert after.features == Features({**before.features, "quality_centre": Value("float32")})
    before, after = (rows.cast_column("face", Image(decode=False)) for rows in (before, after))
    assert before[:] == {name: values for name, values in after[:].items() if name != "quality_centre"}

    read = [i for i in range(18) if i // 2 != DAMAGED]
    batch = FaceImageProcessor()([before["face"][i] for i in read], return_tensors="pt")["pixel_values"]
    people, expected = [PEOPLE[i // 2] for i in range(18)], np.zeros(18)
    for name in ("one", "two"):
        with torch.no_grad():
            made = MobileFaceNetModel.from_pretrained(setup / name).eval()(batch).embeddings.numpy()
        (kept,) = labelled.glob(f"fr_embeddings/{name}-*.npy")
        kept = np.load(kept)
        np.testing.assert_allclose(kept[read], made, atol=1e-5)
        assert kept.shape == (18, 8) and np.isnan(np.delete(kept, read, axis=0)).all()
        unit = dict(zip(read, made.astype(np.float64) / np.linalg.norm(made, axis=1, keepdims=True), strict=True))
        for i in range(18):
            others = [unit[j] for j in read if people[j] == people[i] and j % 2 == 0 and j // 2 != i // 2]
            if i not in read or people[i] is None or not others:
                expected[i] = np.nan
            else:
                centre = np.mean(others, axis=0)
                expected[i] += unit[i] @ centre / np.linalg.norm(centre) / 2
    assert np.flatnonzero(np.isnan(expected)).tolist() == [8, 9, 14, 15, 16, 17]
    np.testing.assert_allclose(after["quality_centre"][:], expected, atol=1e-5)


def test_a_stopped_run_goes_on_where_it_was(setup, labelled, tmp_path):
    shutil.copytree(labelled, tmp_path, dirs_exist_ok=True)
    (tmp_path / "data" / "train-000001.parquet").unlink()
    torn = tmp_path / "data" / "train-000002.parquet"
    torn.write_bytes(torn.read_bytes()[:500])
    # Of the second FR model's embeddings the first and the third shard are there.
    (whole,) = tmp_path.glob("fr_embeddings/two-*.npy")
    for start in (0, 10):
        np.save(f"{whole.with_suffix('')}-rows-{start:09d}.npy", np.load(whole)[start : start + 5])
    whole.unlink()
    kept = [tmp_path / "data" / "train-000000.parquet", *tmp_path.glob("fr_embeddings/*.npy")]
    assert len(kept) == 4
    for path in kept:
        os.utime(path, (1, 1))
    label(setup, tmp_path)
    assert kept[0].stat().st_mtime == 1 and next(tmp_path.glob("fr_embeddings/one-*.npy")).stat().st_mtime == 1
    assert contents(tmp_path) == contents(labelled)


def test_manifest(labelled):
    manifest = json.loads((labelled / "manifest.json").read_text())
    assert manifest["complete"] and (manifest["rows"], manifest["failed"]) == (18, 6)
    assert [(shard["rows"], shard["failed"]) for shard in manifest["shards"]] == [(5, 0), (5, 2), (5, 1), (3, 3)]
    names = [path.stem for path in (labelled / "fr_embeddings").iterdir()]
    assert sorted(names) == manifest["settings"]["fr_models"] and names
    assert not (labelled / ".incomplete").exists()


def test_any_number_of_processes_gives_the_same_files(setup, labelled, tmp_path):
    # As one of three it does its share, and then that of the others, who never come.
    label(setup, tmp_path, process=1, processes=3)
    assert contents(tmp_path) == contents(labelled)
    assert script.Share(1, 3, 1, "cpu").order(8)[:3] == [1, 4, 7]
    assert sorted(script.Share(1, 3, 1, "cpu").order(8)) == list(range(8))


@pytest.mark.slow
def test_launched_processes_share_the_work(setup, labelled, tmp_path):
    args = ["--train_parquet", str(setup / "0.parquet"), str(setup / "1.parquet"), "--image_column", "face"]
    args += ["--identity_column", "who", "--fr_model", str(setup / "one"), str(setup / "two"), "--batch_size", "4"]
    stderr = run_on_two_processes("label_centres", [*args, "--shard_size", "5", "--output_dir", str(tmp_path)])
    assert "[0/2] 12 of 18 rows have a label" in stderr and "[1/2] 12 of 18 rows have a label" in stderr
    assert {path.name for path in tmp_path.rglob("*")} == {path.name for path in labelled.rglob("*")}
    assert (tmp_path / "manifest.json").read_bytes() == (labelled / "manifest.json").read_bytes()
    # Not to the bit: this test runs with another number of threads.
    ours, theirs = (
        load(sorted(folder.glob("data/*.parquet")))["quality_centre"][:] for folder in (tmp_path, labelled)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_folder_is_pushed_without_the_embeddings(labelled, tmp_path):
    _, written, uploaded = push_folder(labelled, "ann/centres", dry_run=True)
    shards = [f"data/train-{number:06d}.parquet" for number in range(4)]
    assert written == ["README.md"] and uploaded == ["README.md", *shards, "manifest.json"]
    card = complete_card(labelled, "quality_labels", repo_id="ann/centres")
    assert "`quality_centre`" in card and "`quality_noisy`" not in card
    shutil.copytree(labelled, tmp_path, dirs_exist_ok=True)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    with pytest.raises(HubError, match="are not complete: start the script that makes them again"):
        push_folder(tmp_path, "ann/centres", dry_run=True)


def test_a_folder_of_people(setup, tmp_path):
    faces = json.loads((ROOT / "examples" / "faces" / "faces.json").read_text())["faces"]
    files = [ROOT / "examples" / "faces" / face["file"] for face in faces[:5]]
    for i, file in enumerate(files):
        folder = tmp_path / "faces" / ("first" if i < 3 else "second")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
    args = ["--train_data_dir", str(tmp_path / "faces"), "--identity_column", "label", "--device", "cpu"]
    script.main([*args, "--fr_model", str(setup / "one"), "--output_dir", str(tmp_path / "out")])
    after = load([tmp_path / "out" / "data" / "train-000000.parquet"])
    after = after.cast_column("image", Image(decode=False))
    # Nothing is a copy, and the files themselves are in the shard.
    by_name = {file.name: file.read_bytes() for file in files}
    assert all(image["bytes"] == by_name[image["path"]] for image in after["image"])
    (embeddings,) = (tmp_path / "out" / "fr_embeddings").iterdir()
    expected = centre_labels(np.load(embeddings), after["label"][:])
    np.testing.assert_allclose(after["quality_centre"][:], expected, atol=1e-6)
    assert np.isfinite(expected).all()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--shard_size", "4"], "shard_size: 5 there, 4 now"),
        (["--fr_model", "{0}/one"], "fr_models: .* there, .* now"),
        (["--train_parquet", "{0}/0.parquet"], "dataset: .* there, .* now; people: "),
        (["--train_parquet", "{0}/labelled/data/train-000000.parquet"], "has a column 'quality_centre' already"),
        (["--identity_column", "name"], "no column 'name'"),
        (["--image_column", "image"], "no column 'image'"),
        (["--fr_model", "{0}/one", "{0}/one"], "twice"),
    ],
)
def test_other_settings_and_data_that_does_not_do(setup, labelled, extra, message):
    with pytest.raises(ValueError, match=message):
        label(setup, labelled, *[option.format(setup) for option in extra])


def test_nobody_with_two_faces(setup, tmp_path):
    load([setup / "1.parquet"]).select(range(4)).to_parquet(str(tmp_path / "few.parquet"))
    with pytest.raises(ValueError, match="nobody with two"):
        label(setup, tmp_path, "--train_parquet", str(tmp_path / "few.parquet"))


def test_sources():
    people = np.array(["a", "a", "a", "b", "a", "a"])
    degraded = np.array([False, True, True, False, False, True])
    assert find_sources(degraded, people).tolist() == find_sources(degraded.tolist()).tolist() == [0, 0, 0, 3, 4, 4]
    with pytest.raises(ValueError, match="row 0 is degraded"):
        find_sources(degraded[1:])
    degraded[4] = True
    assert find_sources(degraded).tolist() == [0, 0, 0, 3, 3, 3]
    with pytest.raises(ValueError, match="row 4 is degraded .* of a, the clean row before it, 3, of b: "):
        find_sources(degraded, people)


def test_a_model_that_gives_no_numbers(setup, tmp_path):
    model = MobileFaceNetModel.from_pretrained(setup / "one")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    model.save_pretrained(tmp_path / "broken")
    with pytest.raises(FloatingPointError, match="embedding of row 0 by broken-[0-9a-f]{16} is zero or not finite"):
        label(setup, tmp_path / "out", "--fr_model", str(tmp_path / "broken"))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--dataset_name", "x"], "exactly one of"),
        (["--batch_size", "0"], "positive number"),
        (["--num_processes", "2"], "go together"),
    ],
)
def test_options_that_do_not_go_together(capsys, extra, message):
    with pytest.raises(SystemExit):
        script.parse_args(["--train_parquet", "x.parquet", "--output_dir", "y", *extra])
    assert message in capsys.readouterr().err


def test_every_option_is_explained(monkeypatch):
    assert_every_option_is_explained(script.parse_args, monkeypatch, more_than=9)


def test_rows_that_cannot_be_read_are_left_out_with_their_copies(setup, labelled, tmp_path, caplog):
    """A copy that is left without its original would be taken for one of the row before."""
    rows = load([setup / "0.parquet", setup / "1.parquet"]).cast_column("face", Image(decode=False)).to_list()
    readable = rows[2 * DAMAGED + 1]["face"] = rows[1]["face"]
    assert readable["bytes"] != rows[2 * DAMAGED]["face"]["bytes"]
    features = load([setup / "0.parquet"]).features
    Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "faces.parquet"))
    source = ["--train_parquet", str(tmp_path / "faces.parquet")]
    label(setup, tmp_path / "out", *source, "--skip_broken_rows")
    assert "1 of 18 rows are left out" in caplog.text and "with them go their copies, 1" in caplog.text
    found, every = (load(sorted(folder.glob("data/*.parquet"))) for folder in (tmp_path / "out", labelled))
    kept = [row for row in range(18) if row // 2 != DAMAGED]
    np.testing.assert_allclose(found["quality_centre"][:], np.array(every["quality_centre"])[kept], atol=1e-5)
    assert all(len(np.load(path)) == 16 for path in (tmp_path / "out" / "fr_embeddings").glob("*.npy"))
