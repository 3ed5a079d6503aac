# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""FaceQnet: the reader of Keras files, the converter and the network, against the layers computed in NumPy."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from fixtures.close import assert_close, is_close

from diffiqa_hf import AutoModelForFaceQuality
from diffiqa_hf.conversion import recognise
from diffiqa_hf.conversion.checkpoint import load_foreign
from diffiqa_hf.conversion.dialects.faceqnet import load_faceqnet, read_keras_file
from diffiqa_hf.conversion.loading import CheckpointError
from diffiqa_hf.methods import load_method
from diffiqa_hf.models.faceqnet import FaceQnetForFaceQuality


h5py = pytest.importorskip("h5py", reason="needs h5py: pip install 'diffiqa-hf[keras]'")

DEPTHS, WIDTHS, STEM, HIDDEN = (3, 4, 6, 3), (2, 3, 4, 5), 4, 6
PARTS = ("1x1_reduce", "3x3", "1x1_increase", "1x1_proj")


# -- a Keras file ----------------------------------------------------------------------------------------------------


def make_layers(dense_acts: tuple[str, str] = ("relu", "linear")) -> list[tuple[str, str, dict, dict]]:
    """Kind, name, settings and weights of each layer, in the order of the network."""
    rng = np.random.default_rng(4)
    layers: list[tuple[str, str, dict, dict]] = [("InputLayer", "base_input", {}, {})]

    def add(kind: str, name: str, settings: dict | None = None, **weights) -> None:
        arrays = {key: np.asarray(value, dtype=np.float32) for key, value in weights.items()}
        layers.append((kind, name, settings or {}, arrays))

    def conv(name: str, size: int, inside: int, outside: int) -> None:
        scale = 1 / math.sqrt(size * size * inside)
        add("Conv2D", name, kernel=scale * rng.standard_normal((size, size, inside, outside)))
        small = 0.2 * rng.standard_normal((2, outside))
        positive = rng.uniform(0.5, 1.5, (2, outside))
        norm = {"gamma": positive[0], "beta": small[0], "moving_mean": small[1], "moving_variance": positive[1]}
        add("BatchNormalization", f"{name}/bn", {"epsilon": 0.001}, **norm)
        add("Activation", f"activation_{len(layers)}", {"activation": "relu"})

    conv("conv1/7x7_s2", 7, 3, STEM)
    add("MaxPooling2D", "max_pooling2d_1")
    before = STEM
    for stage, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True), start=2):
        for number in range(1, depth + 1):
            name = f"conv{stage}_{number}_"
            conv(f"{name}1x1_reduce", 1, before, width)
            conv(f"{name}3x3", 3, width, width)
            conv(f"{name}1x1_increase", 1, width, 4 * width)
            if number == 1:
                conv(f"{name}1x1_proj", 1, before, 4 * width)
            add("Add", f"add_{len(layers)}")
            before = 4 * width
    add("AveragePooling2D", "avg_pool")
    add("Flatten", "flatten_1")
    add("Dropout", "dropout_1", {"rate": 0.5})
    sizes = ((before, HIDDEN), (HIDDEN, 1))
    for i, ((inside, outside), act) in enumerate(zip(sizes, dense_acts, strict=True), start=1):
        kernel = rng.standard_normal((inside, outside)) / math.sqrt(inside) / 20
        add("Dense", f"dense_{i}", {"activation": act}, kernel=kernel, bias=rng.uniform(0.1, 0.3, outside))
    return layers


def describe(layers: list, kind: str = "Model") -> dict:
    inside = [{"class_name": k, "config": {"name": name, **settings}} for k, name, settings, _ in layers]
    return {"class_name": kind, "config": {"name": "model_1", "layers": inside}}


def write(path, layers: list, description: dict | None = None, suffix: str = "", top: str | None = None) -> str:
    """As Keras writes it; `top` is the name of a model that holds all but the dense layers."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(description or describe(layers)).encode()
        group = file.create_group("model_weights")
        names: dict[str, list[bytes]] = {}
        for kind, layer, _, weights in layers:
            holder = layer if top is None or kind == "Dense" else top
            names.setdefault(holder, [])
            for key, values in weights.items():
                names[holder].append(f"{layer}{suffix}/{key}:0".encode())
                group.require_group(holder).create_dataset(f"{layer}{suffix}/{key}:0", data=values)
        group.attrs["layer_names"] = [name.encode() for name in names]
        for holder, found in names.items():
            group.require_group(holder).attrs["weight_names"] = found
    return str(path)


def write_weights(path, layers: list) -> str:
    """As Keras' `save_weights` writes it: no description of the layers, and all of them at the top."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for _, name, _, _ in layers]
        for _, name, _, weights in layers:
            group = file.require_group(name)  # a normalisation's is within its convolution's
            group.attrs["weight_names"] = [f"{name}/{key}:0".encode() for key in weights]
            for key, values in weights.items():
                group.create_dataset(f"{name}/{key}:0", data=values)
    return str(path)


def trunk_of(layers: list) -> list:
    """Without the dense layers, as keras-vggface publishes its networks for others to build on."""
    return [layer for layer in layers if layer[0] != "Dense"]


@pytest.fixture(scope="module")
def layers() -> list:
    return make_layers()


@pytest.fixture(scope="module")
def keras_file(layers, tmp_path_factory) -> str:
    return write(tmp_path_factory.mktemp("faceqnet") / "FaceQnet_v1.h5", layers)


# -- the same layers in NumPy ----------------------------------------------------------------------------------------


def run_layers(layers: list, image: np.ndarray) -> float:
    """What the network gives for one uint8 RGB image (224, 224, 3)."""
    arrays = {name: {k: v.astype(np.float64) for k, v in weights.items()} for _, name, _, weights in layers}

    def conv(x, name, stride=1, relu=True):
        kernel = arrays[name]["kernel"]
        size = kernel.shape[0]
        places = [-(-side // stride) for side in x.shape[:2]]
        missing = [max((n - 1) * stride + size - side, 0) for n, side in zip(places, x.shape[:2], strict=True)]
        x = np.pad(x, [(m // 2, m - m // 2) for m in missing] + [(0, 0)])
        rows, columns = ((n - 1) * stride + 1 for n in places)
        shifts = [(i, j) for i in range(size) for j in range(size)]
        x = sum(x[i : i + rows : stride, j : j + columns : stride] @ kernel[i, j] for i, j in shifts)
        norm = arrays[f"{name}/bn"]
        x = (x - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 1e-3) * norm["gamma"] + norm["beta"]
        return np.maximum(x, 0) if relu else x

    x = conv(image[:, :, ::-1].astype(np.float64), "conv1/7x7_s2", 2)
    places = (x.shape[0] - 3) // 2 + 1
    x = np.max([x[i : i + 2 * places - 1 : 2, j : j + 2 * places - 1 : 2] for i in range(3) for j in range(3)], axis=0)
    for stage, depth in enumerate(DEPTHS, start=2):
        for number in range(1, depth + 1):
            name, stride = f"conv{stage}_{number}_", 2 if stage > 2 and number == 1 else 1
            y = conv(conv(x, f"{name}1x1_reduce", stride), f"{name}3x3")
            y = conv(y, f"{name}1x1_increase", relu=False)
            x = conv(x, f"{name}1x1_proj", stride, relu=False) if number == 1 else x
            x = np.maximum(x + y, 0)
    assert x.shape[:2] == (7, 7)
    x = x.mean((0, 1))
    for kind, name, settings, _ in layers:
        if kind == "Dense":
            x = x @ arrays[name]["kernel"] + arrays[name]["bias"]
            x = np.maximum(x, 0) if settings["activation"] == "relu" else x
    return x[0]


def test_a_keras_file_becomes_the_same_network(layers, keras_file):
    images = np.random.default_rng(2).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    images[1] //= 4
    output = load_method("faceqnet", weights=keras_file, align=False)(list(images))
    expected = [run_layers(layers, image) for image in images]
    assert abs(expected[0] - expected[1]) > 1e-2
    np.testing.assert_allclose(output.terms["unclipped"].numpy(), expected, rtol=1e-4)
    np.testing.assert_allclose(output.scores.numpy(), np.clip(expected, 0, 1), rtol=1e-4)


def test_what_the_reader_finds(layers, keras_file):
    tensors = read_keras_file(keras_file)
    weights = {f"{name}/{key}": values for _, name, _, found in layers for key, values in found.items()}
    facts = {name for name in tensors if name.endswith(("/epsilon", "/activation"))}
    assert tensors.keys() - facts == weights.keys() and len(weights) == 5 * 53 + 2 * 2
    assert len(facts) == 53 + 2 and tensors["dense_1/activation"] == 1 and tensors["dense_2/activation"] == 0
    for name, values in weights.items():
        assert np.array_equal(tensors[name].numpy(), values)
    assert [dialect.name for dialect in recognise(tensors)] == ["faceqnet"]


def test_the_sizes_are_read_off_the_file_and_survive_saving(keras_file, tmp_path):
    converted = load_foreign(keras_file)
    config = converted.model.config
    assert (config.depths, config.widths, config.stem_width) == (list(DEPTHS), list(WIDTHS), STEM)
    assert (config.head_widths, config.head_acts) == ([HIDDEN], ["relu", "linear"])
    assert config.bn_eps == pytest.approx(1e-3) and config.channel_order == "bgr"
    converted.model.save_pretrained(tmp_path)
    again = AutoModelForFaceQuality.from_pretrained(tmp_path)
    assert type(again) is FaceQnetForFaceQuality
    faces = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        assert_close(again(faces).scores, converted.model(faces).scores)
    assert load_method("faceqnet", weights=tmp_path).image_processor.size == {"height": 224, "width": 224}


def same_weights(first: str, second: str) -> None:
    one, other = load_foreign(first).model, load_foreign(second).model
    assert one.config.head_acts == other.config.head_acts
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


def test_other_ways_of_writing_the_same(layers, keras_file, tmp_path):
    # Names that were taken when the model was built.
    same_weights(write(tmp_path / "suffix.h5", layers, suffix="_3"), keras_file)
    # The trunk as a model of its own, in a Sequential.
    head = [layer for layer in layers if layer[0] == "Dense"]
    trunk = [layer for layer in layers if layer[0] != "Dense"]
    nested = describe(head, "Sequential")
    nested["config"]["layers"].insert(0, describe(trunk, "Functional"))
    nested["config"]["layers"][0]["config"]["name"] = "vggface_resnet50"
    same_weights(write(tmp_path / "nested.h5", layers, nested, top="vggface_resnet50"), keras_file)
    # An old Sequential, and the activation as a layer.
    nested["config"] = nested["config"]["layers"]
    nested["config"][1]["config"]["activation"] = "linear"
    nested["config"].insert(2, {"class_name": "Activation", "config": {"name": "relu_1", "activation": "relu"}})
    same_weights(write(tmp_path / "old.h5", layers, nested, top="vggface_resnet50"), keras_file)


# -- a trunk to train on ---------------------------------------------------------------------------------------------


def test_a_trunk_gets_a_new_head(layers, keras_file, tmp_path):
    whole = load_foreign(keras_file).model
    torch.manual_seed(0)
    model = load_faceqnet(write_weights(tmp_path / "trunk.h5", trunk_of(layers)))
    expected = whole.state_dict()
    for name, tensor in model.state_dict().items():
        assert name.startswith("dense.") or torch.equal(tensor, expected[name])
    config = model.config
    assert (config.depths, config.widths, config.stem_width) == (list(DEPTHS), list(WIDTHS), STEM)
    assert list(config.head_widths) == [512] and config.bn_eps == pytest.approx(1e-3)
    faces = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        output = model(faces)
        assert_close(output.embeddings, whole(faces).embeddings)
    assert output.scores.isfinite().all() and output.scores[0] != output.scores[1]
    # The head is torch's generator's, and a classifier of people makes no difference.
    classifier = ("Dense", "classifier", {}, {"kernel": np.ones((4 * WIDTHS[-1], 7), np.float32), "bias": np.ones(7)})
    with_top = write_weights(tmp_path / "top.h5", [*trunk_of(layers), classifier])
    for seed, same in ((0, True), (1, False)):
        torch.manual_seed(seed)
        again = load_faceqnet(with_top)
        with torch.no_grad():
            assert is_close(again(faces).scores, output.scores) == same
    # A file of FaceQnet itself keeps its head.
    with torch.no_grad():
        assert_close(load_faceqnet(keras_file)(faces).scores, whole(faces).scores)


def test_a_trunk_gives_no_scores(layers, tmp_path):
    match = "a trunk alone, .* training/train_quality.py --recipe faceqnet"
    rejected(write_weights(tmp_path / "trunk.h5", trunk_of(layers)), match)
    rejected(write(tmp_path / "whole.h5", trunk_of(layers)), match)


def test_weights_alone_that_are_no_trunk(layers, tmp_path):
    path = tmp_path / "weights.h5"
    rejected(write_weights(path, layers), "the weights alone do not say")  # nor what follows the dense layers
    trunk = trunk_of(layers)
    extra = ("Conv2D", "conv2_1_1x1_down", {}, {"kernel": np.ones((1, 1, 8, 2), np.float32)})  # of a SENet
    rejected(write_weights(path, [*trunk, extra]), "the weights alone do not say")
    without = write_weights(path, [layer for layer in trunk if layer[1] != "conv3_2_3x3"])
    with pytest.raises(
        CheckpointError, match="^not the tensors of faceqnet: .*Missing key.*blocks.4.conv.conv.weight"
    ):
        load_faceqnet(without)
    biased = write_weights(path, [*trunk[:1], (*trunk[1][:3], {**trunk[1][3], "bias": np.ones(STEM)}), *trunk[2:]])
    with pytest.raises(CheckpointError, match="^not the tensors of faceqnet: unexpected tensors: conv1/7x7_s2/bias"):
        load_faceqnet(biased)


# -- files that are something else -----------------------------------------------------------------------------------


def rejected(path, match: str) -> None:
    with pytest.raises(CheckpointError, match=match):
        load_foreign(path)
    with pytest.raises(ValueError, match=f"h5: .*{match}"):
        load_method("faceqnet", weights=path)


def test_files_that_are_something_else(layers, keras_file, tmp_path):
    path = tmp_path / "file.h5"
    for content, match in (
        (b"", "empty file"),
        (b"<html>not found</html>", "HTML or XML page"),
        (b"\0" * 100, "no HDF5 file"),
    ):
        path.write_bytes(content)
        rejected(path, match)
    with open(keras_file, "rb") as file:
        path.write_bytes(file.read(3000))
    rejected(path, "damaged")
    with h5py.File(path, "w") as file:
        file["conv1"] = np.zeros(3)
    rejected(path, "the weights alone do not say")
    rejected(write(path, layers, describe([*layers, ("Lambda", "lambda_1", {}, {})])), "kind Lambda")
    rejected(write(path, layers, describe(layers[:-1])), "weights of dense_2, which is not among the layers")
    rejected(write(path, make_layers(("relu", "softmax"))), "damaged file, or no model")
    rejected(write(path, layers[:-1]), "no dense layer with one output at the end")
    without = [layer for layer in layers if layer[1] != "conv3_2_3x3"]
    rejected(write(path, without), "missing .*blocks.4.conv.conv.weight")
    broken = [*layers[:-1], (*layers[-1][:3], {**layers[-1][3], "bias": np.full(1, np.nan, np.float32)})]
    rejected(write(path, broken), r"NaN or infinite values in 1 tensors \(dense.1.bias\)")
    with pytest.raises(CheckpointError, match="(?i)no such file"):
        load_foreign(tmp_path / "missing.h5")


def test_without_h5py_the_extra_is_named(keras_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(CheckpointError, match=r"pip install 'diffiqa-hf\[keras\]'"):
        read_keras_file(keras_file)
