# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""dlib's ResNet for faces: the reader of dlib's files and the converter, against the layers in NumPy."""

import csv
import importlib.metadata
import itertools
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import dlib_format as dlib
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModel

from diffiqa_hf import DifFIQAPipeline, DlibResNetModel, load_method
from diffiqa_hf.cli import main
from diffiqa_hf.conversion import recognise
from diffiqa_hf.conversion.checkpoint import load_foreign
from diffiqa_hf.conversion.loading import CheckpointError, read_checkpoint
from diffiqa_hf.conversion.networks import load_fr_model
from diffiqa_hf.conversion.readers.dlib import read_dlib_network
from diffiqa_hf.labelling.labeller import QualityLabeller


WEIGHTS = dlib.make_weights()
LAYERS = dlib.make_layers(WEIGHTS)
FILE = dlib.network(LAYERS, size=24)


def write(folder: Path, content: bytes, name: str = "net.dat") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def chips(model: DlibResNetModel, size: int = 24) -> DlibResNetModel:
    """The same network for chips in place of canonical faces."""
    config = type(model.config).from_dict({**model.config.to_dict(), "chip_size": None, "crop_size": [size, size]})
    other = DlibResNetModel(config).eval()
    other.load_state_dict(model.state_dict())
    return other


# -- the reader ----------------------------------------------------------------------------------------------------


def test_the_reader_gives_every_array(tmp_path):
    arrays = read_checkpoint(write(tmp_path, FILE))
    kinds = ["input_rgb_image_sized", "con", "affine", "relu", "max_pool", "tag", "con", "affine", "relu", "con"]
    found = dict.fromkeys(tuple(name.split(".")[:2]) for name in arrays)
    assert [kind for number, kind in found if number != "loss"][:10] == kinds
    np.testing.assert_allclose(arrays["0.input_rgb_image_sized.mean"], [122.782, 117.001, 104.298], rtol=1e-6)
    assert arrays["0.input_rgb_image_sized.size"].tolist() == [24, 24]
    assert arrays["1.con.stride"].tolist() == [2, 2] and arrays["1.con.padding"].tolist() == [0, 0]
    assert arrays["4.max_pool.size"].tolist() == [3, 3]
    for ours, theirs in (("1.con.weight", "stem.weight"), ("1.con.bias", "stem.bias"), ("2.affine.bias", "stem.beta")):
        assert np.array_equal(arrays[ours].numpy(), WEIGHTS[theirs])
    (linear,) = [values for name, values in arrays.items() if name.endswith(".fc.weight")]
    assert np.array_equal(linear.numpy(), WEIGHTS["fc"])
    assert arrays["loss.loss_metric.distance"].item() == pytest.approx(0.6)


@pytest.mark.parametrize("value", [0.0, 0.04, 1.0, -3.75, 1e-30, 122.782, 3e20])
def test_numbers(tmp_path, value):
    arrays = read_dlib_network(write(tmp_path, dlib.network(LAYERS, mean=(value, 1.0, -1.0))))
    assert arrays["0.input_rgb_image_sized.mean"][0].item() == pytest.approx(value, rel=2e-7)


@pytest.mark.parametrize("newest", [False, True])
def test_the_versions_of_layers(tmp_path, newest):
    arrays = read_dlib_network(write(tmp_path, dlib.network(dlib.make_layers(WEIGHTS, newest), size=24)))
    old = read_dlib_network(write(tmp_path, FILE))
    assert arrays.keys() == old.keys()
    assert all(torch.equal(arrays[name], old[name]) for name in old)


def test_truncated_everywhere(tmp_path):
    # The last bytes as well as every one of the first, where the structure is.
    ends = itertools.chain(range(1, 400, 3), range(400, len(FILE), 1009), range(len(FILE) - 40, len(FILE)))
    for end in ends:
        with pytest.raises(CheckpointError):
            read_dlib_network(write(tmp_path, FILE[:end]))


def test_bytes_after_the_end(tmp_path):
    with pytest.raises(CheckpointError, match="3 bytes after its end"):
        read_checkpoint(write(tmp_path, FILE + b"abc"))


HUGE = b"\x08" + b"\xff" * 7 + b"\x7f"  # 2**63 - 1, the largest that dlib itself can write


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # The number of the values of the first convolution, of a name's letters, of a chip's rows.
        (dlib.text("con_4") + dlib.integer(2), dlib.text("con_4") + dlib.integer(2) + HUGE, "bytes should follow"),
        (dlib.text("con_4"), HUGE + b"con_4", "a name of 9223372036854775807 letters"),
        (dlib.text("con_4"), dlib.text("con_9"), "a part of the kind 'con_9'"),
        (dlib.text("con_4"), b"\x00con_4", "no integer at"),
        (dlib.text("con_4"), b"\x09con_4", "no integer at"),
        (dlib.text("con_4"), b"\x81\x05con_4", "a name of -5 letters"),
        (dlib.text("con_4") + b"\x01\x02", dlib.text("con_4") + b"\x01\x03", "the version of a tensor is 3"),
        (dlib.text("relu_") + b"1", dlib.text("relu_") + b"x", "no truth value"),
        (dlib.text("loss_metric_2"), dlib.text("loss_mmod_"), "a part of the kind 'loss_mmod_'"),
        (dlib.number(0.04), dlib.integer(1) + dlib.integer(32002), "not finite"),
        (dlib.number(0.04), dlib.integer(1) + dlib.integer(10**9), "not finite"),
        (dlib.shape(1, 4, 3, 7, 7), dlib.shape(1, 4, 3, 7, 8), "values in a layer for shapes"),
        (dlib.shape(1, 4, 3, 7, 7), dlib.shape(1, 2, 6, 7, 7), "a convolution of 4 filters"),
        (dlib.shape(1, 4, 3, 7, 7), dlib.shape(1, -4, -3, 7, 7), "a size of -4"),
    ],
)
def test_damaged_files(tmp_path, capsys, old, new, message):
    assert old in FILE
    path = write(tmp_path, FILE.replace(old, new, 1))
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)
    assert main(["convert", str(path), str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line and message in line
    assert not (tmp_path / "out").exists()


def test_more_layers_than_any_network_has(tmp_path):
    start = FILE[: FILE.index(dlib.number(0.6)) + len(dlib.number(0.6))]
    with pytest.raises(CheckpointError, match="more than 10000 layers"):
        read_checkpoint(write(tmp_path, start + dlib.integer(2) * 500_000))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(FILE) - 1), st.integers(0, 255))
def test_any_changed_byte(tmp_path_factory, position, value):
    content = bytearray(FILE)
    content[position] = value
    path = write(tmp_path_factory.getbasetemp(), bytes(content), "changed.dat")
    try:
        load_foreign(path, "dlib")
    except CheckpointError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"BZh91AY&SY", "bunzip2"),
        (b"shape predictor", "no network of dlib"),
        (b"\x01\x01\x01\x0aloss_mmod_", "the kind 'loss_mmod_'"),
    ],
)
def test_other_files(tmp_path, content, message):
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(write(tmp_path, content))


# -- the converter -------------------------------------------------------------------------------------------------


# At 24 the last level has one row and column where its shortcut has two, at 30 both have two.
@pytest.mark.parametrize("size", [24, 30])
@pytest.mark.parametrize(("depths", "widths"), [((1, 2), (4, 6)), ((2, 1), (4, 4))])
@torch.no_grad()
def test_same_embeddings_as_the_layers_in_numpy(tmp_path, size, depths, widths):
    weights = dlib.make_weights(depths, widths)
    path = write(tmp_path, dlib.network(dlib.make_layers(weights), mean=(120.0, 110.5, 100.25), size=size))
    assert [dialect.name for dialect in recognise(read_checkpoint(path))] == ["dlib"]
    model = load_foreign(path).model
    assert (tuple(model.config.depths), tuple(model.config.widths)) == (depths, widths)
    assert (model.config.chip_size, model.config.embedding_size) == (size, 5)
    chip = np.random.default_rng(1).integers(0, 256, (size, size, 3))
    expected = dlib.compute(weights, chip, (120.0, 110.5, 100.25))
    pixels = torch.from_numpy(chip).permute(2, 0, 1)[None].double() / 127.5 - 1
    actual = chips(model, size).double()(pixels).embeddings[0]
    # The mean is kept on the scale of float32's [0, 1].
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: layers[:-1], "layer 33 is the end in place of fc"),
        (lambda layers: layers[:3] + layers[4:], "layer 4 is tag in place of max_pool"),
        (lambda layers: layers + [dlib.relu()], "layer 34 is relu in place of the end"),
        (lambda layers: [dlib.pool("max_pool_2", 2, 2) if i == 3 else x for i, x in enumerate(layers)], "size"),
        (lambda layers: layers[:4] + layers[12:], "layer 5: the first block halves the resolution"),
        (lambda layers: [dlib.con(WEIGHTS["stem.weight"], WEIGHTS["stem.bias"], 1, 0), *layers[1:]], "stride"),
    ],
)
def test_other_networks(tmp_path, change, message):
    path = write(tmp_path, dlib.network(change(dlib.make_layers(WEIGHTS)), size=24))
    with pytest.raises(CheckpointError, match=f"not the tensors of dlib: .*{message}"):
        load_foreign(path, "dlib")


def test_convert(tmp_path, capsys):
    source, dest = write(tmp_path, FILE), tmp_path / "fr_dlib"
    assert main(["convert", str(source), str(dest)]) == 0
    assert "DlibResNetModel" in capsys.readouterr().out
    model = AutoModel.from_pretrained(dest)
    assert type(model) is DlibResNetModel
    card = (dest / "README.md").read_text()
    assert "license: cc0-1.0" in card and "dlib's chips of 24x24 pixels" in card
    faces = torch.zeros(1, 3, 112, 112)
    torch.testing.assert_close(model.eval()(faces).embeddings, load_foreign(source).model(faces).embeddings)


# -- the installed package -----------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package of the small network, as a wheel leaves it; its import fails. The cache of its conversion is new."""
    package = tmp_path / "site" / "face_recognition_models"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("import no_such_module")
    source = write(package / "models", FILE, "dlib_face_recognition_resnet_model_v1.dat")
    info = tmp_path / "site" / "face_recognition_models-0.3.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: face_recognition_models\nVersion: 0.3.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    use_cache(tmp_path / "cache", monkeypatch)
    return source


def use_cache(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(folder))


def test_the_package_is_found_and_converted_once(installed, tmp_path, monkeypatch):
    first = load_fr_model("dlib")
    assert first.config.chip_size == 24
    (folder,) = (tmp_path / "cache" / "diffiqa_hf" / "fr_models").iterdir()
    assert [path.name for path in folder.iterdir()] == ["model"]

    def fail(*args, **kwargs):
        raise AssertionError("converted again")

    monkeypatch.setattr("diffiqa_hf.conversion.installed.load_foreign", fail)
    again = load_fr_model("dlib")
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in first.state_dict().items())


def test_wherever_an_fr_model_is_named(installed, tmp_path):
    faces, scores = tmp_path / "faces", tmp_path / "scores.csv"
    faces.mkdir()
    shutil.copy("examples/faces/astronaut.jpg", faces)
    assert (
        main(["score", str(faces), "--method", "embedding-norm", "--fr-model", "dlib", "--output", str(scores)]) == 0
    )
    (row,) = csv.DictReader(scores.read_text().splitlines())
    pixels = torch.from_numpy(np.array(Image.open("examples/faces/astronaut.jpg"))).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        expected = load_foreign(installed).model(pixels).embeddings.norm().item()
    assert float(row["score"]) == pytest.approx(expected, rel=1e-5)
    pipe = DifFIQAPipeline.from_pretrained("default", fr_model="dlib")
    assert type(pipe.fr_model) is DlibResNetModel
    labels = QualityLabeller("embedding-norm", fr_model="dlib", device="cpu").label(
        {"image": [str(faces / "astronaut.jpg")]}
    )
    assert labels["quality"][0] == pytest.approx(expected, rel=1e-5)


def test_the_hub_is_not_asked_for_it(installed, monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *args, **options: asked.append(args))
    assert load_method("embedding-norm", fr_model="dlib").engine == "torch"
    assert not asked


@pytest.mark.parametrize(
    ("name", "options"),
    [("faceqan", {"num_steps": 1, "num_starts": 2}), ("ser-fiq", {"num_passes": 4}), ("froq", {"layers": ["layer2"]})],
)
def test_methods_with_it(installed, name, options):
    method = load_method(name, fr_model="dlib", **options)
    if not method.needs_layers:
        method.enable_folding()
    scores = method(["examples/faces/astronaut.jpg", "examples/faces/astronaut_4_extreme.jpg"]).scores
    assert len(set(scores.tolist())) == 2 and scores.isfinite().all()


def test_grafiqs_has_nothing_to_compare_with(installed):
    with pytest.raises(ValueError, match="DlibResNetModel has no batch normalisation"):
        load_method("grafiqs", fr_model="dlib")


def test_another_file_is_converted_anew(installed, tmp_path):
    load_fr_model("dlib")
    write(installed.parent, dlib.network(LAYERS, size=30), installed.name)
    assert load_fr_model("dlib").config.chip_size == 30


def _load(cache: str, site: str, ready, found) -> None:
    import sys

    with pytest.MonkeyPatch.context() as patch:
        use_cache(Path(cache), patch)
        sys.path.insert(0, site)
        ready.wait()
        found.put(load_fr_model("dlib").config.chip_size)


def test_two_processes_at_once(installed, tmp_path):
    context = multiprocessing.get_context("fork")
    ready, found = context.Barrier(2), context.Queue()
    arguments = (str(tmp_path / "cache"), str(tmp_path / "site"), ready, found)
    processes = [context.Process(target=_load, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    assert [found.get(timeout=60) for _ in processes] == [24, 24]
    for process in processes:
        process.join()
    (folder,) = (tmp_path / "cache" / "diffiqa_hf" / "fr_models").iterdir()
    assert [path.name for path in folder.iterdir()] == ["model"]


def test_a_damaged_package(installed, tmp_path):
    write(installed.parent, FILE[:-100], installed.name)
    with pytest.raises(ValueError, match=f"{installed.name}: truncated or damaged"):
        load_fr_model("dlib")
    (folder,) = (tmp_path / "cache" / "diffiqa_hf" / "fr_models").iterdir()
    assert not list(folder.iterdir())
    installed.unlink()
    with pytest.raises(OSError, match="has no file models/dlib_face_recognition"):
        load_fr_model("dlib")


def test_no_package(monkeypatch, capsys, tmp_path):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(OSError, match=r"pip install 'diffiqa-hf\[dlib\]'"):
        load_method("embedding-norm", fr_model="dlib")
    shutil.copy("examples/faces/astronaut.jpg", tmp_path)
    for command in (["score", str(tmp_path)], ["score", str(tmp_path), "--method", "embedding-norm"]):
        assert main([*command, "--fr-model", "dlib"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "diffiqa-hf[dlib]" in line


@torch.no_grad()
def test_the_published_network():
    try:
        importlib.metadata.distribution("face_recognition_models")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package face_recognition_models is not installed: pip install 'diffiqa-hf[dlib]'")
    model = load_fr_model("dlib")
    assert model.num_parameters() == 5_614_592
    assert type(model.config)().to_dict()["widths"] == model.config.to_dict()["widths"]
    # Computed by dlib 20.0.1 (compute_face_descriptor) from a chip that is made of integers alone.
    y, x, c = np.meshgrid(np.arange(150), np.arange(150), np.arange(3), indexing="ij")
    chip = ((y * 7 + x * x // 16 + c * 40 + (y // 10) * (x // 12) * 3) % 256).astype(np.uint8)
    embedding = chips(model, 150)(torch.from_numpy(chip).permute(2, 0, 1)[None] / 127.5 - 1).embeddings[0]
    expected = [
        -0.064624086,
        0.14622879,
        0.083823308,
        -0.028104803,
        -0.061826095,
        -0.018603243,
        -0.10817164,
        0.0004927041,
    ]
    assert np.abs(embedding.numpy()[:8] - expected).max() < 1e-5 * float(embedding.abs().max())
