# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""LightQNet: the reader of frozen graphs, the converter and the network, against the graph computed in NumPy."""

import math
import struct

import numpy as np
import pytest
import torch
from fixtures.close import assert_close
from fixtures.protobuf_format import field, varint
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diffiqa_hf import AutoModelForFaceQuality, LightQNetConfig, LightQNetForFaceQuality
from diffiqa_hf.conversion.checkpoint import load_foreign
from diffiqa_hf.conversion.loading import CheckpointError
from diffiqa_hf.conversion.readers.tensorflow_graph import read_frozen_graph
from diffiqa_hf.methods import load_method


# (hidden, out, stride); the first does not widen, the third is residual.
BLOCKS = [(8, 8, 2), (12, 6, 2), (10, 6, 1), (9, 5, 2)]
STEM, FEATURE = 8, 7
TRUNK = "UncertaintyModule/MobilenetV3"


# -- a frozen graph, written by hand ---------------------------------------------------------------------------------


def attribute(name: str, value: bytes) -> bytes:
    return field(5, field(1, name) + field(2, value))


def constant(name: str, array: np.ndarray, listed: bool = False) -> bytes:
    shape = b"".join(field(2, field(1, size)) for size in array.shape)
    number, dtype = (1, "<f4") if array.dtype.kind == "f" else (3, "<i4")
    values = array.astype(dtype).tobytes()
    if listed:
        # float_val one by one (wire type 5), int_val packed.
        if number == 1:
            content = b"".join(varint(5 << 3 | 5) + struct.pack("<f", value) for value in array.ravel())
        else:
            content = field(7, b"".join(varint(int(value) % 2**64) for value in array.ravel()))
    else:
        content = field(4, values)
    tensor = field(1, number) + field(2, shape) + content
    return field(1, field(1, name) + field(2, "Const") + attribute("value", field(8, tensor)))


def convolution(name: str, op: str, stride: int) -> bytes:
    strides = field(1, field(3, bytes([1, stride, stride, 1])))
    return field(1, field(1, name) + field(2, op) + field(3, "input") + attribute("strides", strides))


def make_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    arrays = {}

    def conv(name: str, shape: tuple[int, ...], channels: int, kind: str = "weights") -> None:
        fan_in = shape[0] * shape[1] * (shape[2] if kind == "weights" else 1)
        arrays[f"{name}/{kind}"] = rng.standard_normal(shape) / math.sqrt(fan_in)
        for part in ("beta", "moving_mean"):
            arrays[f"{name}/BatchNorm/{part}"] = 0.2 * rng.standard_normal(channels)
        for part in ("gamma", "moving_variance"):
            arrays[f"{name}/BatchNorm/{part}"] = rng.uniform(0.5, 1.5, channels)

    conv(f"{TRUNK}/Conv", (3, 3, 3, STEM), STEM)
    width = STEM
    for i, (hidden, out, _) in enumerate(BLOCKS):
        name = f"{TRUNK}/expanded_conv" + (f"_{i}" if i else "")
        if hidden != width:
            conv(f"{name}/expand", (1, 1, width, hidden), hidden)
        conv(f"{name}/depthwise", (3, 3, hidden, 1), hidden, "depthwise_weights")
        conv(f"{name}/project", (1, 1, hidden, out), out)
        width = out
    conv(f"{TRUNK}/Conv_1", (1, 1, width, FEATURE), FEATURE)
    arrays["UncertaintyModule/Bottleneck/weights"] = rng.standard_normal((FEATURE, 1))
    arrays["UncertaintyModule/Bottleneck/biases"] = rng.standard_normal(1)
    return {name: values.astype(np.float32) for name, values in arrays.items()}


def make_graph(arrays: dict[str, np.ndarray], blocks=BLOCKS) -> bytes:
    nodes = [field(1, field(1, "input") + field(2, "Placeholder"))]
    nodes += [constant(name, values, listed=name.endswith("biases")) for name, values in arrays.items()]
    nodes.append(constant("UncertaintyModule/Reshape/shape", np.array([-1, FEATURE]), listed=True))
    nodes.append(convolution(f"{TRUNK}/Conv/Conv2D", "Conv2D", 1))
    for i, (*_, stride) in enumerate(blocks):
        name = f"{TRUNK}/expanded_conv" + (f"_{i}" if i else "")
        nodes.append(convolution(f"{name}/depthwise/depthwise", "DepthwiseConv2dNative", stride))
        nodes.append(convolution(f"{name}/project/Conv2D", "Conv2D", 1))
    return b"".join(nodes) + field(2, b"")


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return make_arrays()


@pytest.fixture(scope="module")
def graph_file(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("lightqnet") / "lightqnet-tiny.pb"
    path.write_bytes(make_graph(arrays))
    return path


# -- the same graph in NumPy -----------------------------------------------------------------------------------------


def conv_same(x: np.ndarray, kernel: np.ndarray, stride: int, depthwise: bool) -> np.ndarray:
    """TensorFlow's SAME: as many places as the strides make, the odd row of padding after."""
    size = kernel.shape[0]
    places = [-(-side // stride) for side in x.shape[:2]]
    missing = [max((n - 1) * stride + size - side, 0) for n, side in zip(places, x.shape[:2], strict=True)]
    x = np.pad(x, [(m // 2, m - m // 2) for m in missing] + [(0, 0)])
    out = 0
    for i in range(size):
        for j in range(size):
            part = x[i : i + (places[0] - 1) * stride + 1 : stride, j : j + (places[1] - 1) * stride + 1 : stride]
            out = out + (part * kernel[i, j, :, 0] if depthwise else part @ kernel[i, j])
    return out


def run_graph(arrays: dict[str, np.ndarray], image: np.ndarray) -> float:
    """Score of one uint8 image `(H, W, 3)`."""
    arrays = {name: values.astype(np.float64) for name, values in arrays.items()}

    def layer(x, name, stride=1, relu=True):
        depthwise = f"{name}/depthwise_weights" in arrays
        x = conv_same(x, arrays[f"{name}/{'depthwise_' if depthwise else ''}weights"], stride, depthwise)
        gamma, beta, mean, var = (
            arrays[f"{name}/BatchNorm/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        x = (x - mean) / np.sqrt(var + 2e-5) * gamma + beta
        return np.maximum(x, 0) if relu else x

    x = layer((image.astype(np.float64) - 128) / 128, f"{TRUNK}/Conv")
    for i, (_, _, stride) in enumerate(BLOCKS):
        name = f"{TRUNK}/expanded_conv" + (f"_{i}" if i else "")
        y = layer(x, f"{name}/expand") if f"{name}/expand/weights" in arrays else x
        y = layer(layer(y, f"{name}/depthwise", stride), f"{name}/project", relu=False)
        x = x + y if x.shape == y.shape else y
    x = layer(x, f"{TRUNK}/Conv_1").mean((0, 1))
    x = x @ arrays["UncertaintyModule/Bottleneck/weights"] + arrays["UncertaintyModule/Bottleneck/biases"]
    return 1 / (1 + math.exp(-x[0]))


def test_a_frozen_graph_becomes_the_same_network(arrays, graph_file):
    images = np.random.default_rng(1).integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)
    scores = load_method("lightqnet", weights=graph_file)(list(images)).scores
    expected = [run_graph(arrays, image) for image in images]
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-5)


def test_what_the_reader_finds(arrays, graph_file):
    tensors = read_frozen_graph(graph_file)
    for name, values in arrays.items():
        assert np.array_equal(tensors.pop(name).numpy(), values)
    assert tensors.pop("UncertaintyModule/Reshape/shape").tolist() == [-1, FEATURE]
    assert tensors.pop(f"{TRUNK}/expanded_conv_3/depthwise/depthwise/strides").tolist() == [2, 2]
    assert len(tensors) == 2 * len(BLOCKS) and all(name.endswith("/strides") for name in tensors)


def test_the_sizes_are_read_off_the_file_and_survive_saving(graph_file, tmp_path):
    model = load_foreign(graph_file).model
    assert model.config.blocks == [list(block) for block in BLOCKS]
    assert (model.config.stem_width, model.config.feature_width, model.config.embedding_size) == (STEM, FEATURE, 7)
    model.save_pretrained(tmp_path)
    again = AutoModelForFaceQuality.from_pretrained(tmp_path)
    assert type(again) is LightQNetForFaceQuality
    faces = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        assert_close(again(faces).scores, model(faces).scores)
    assert load_method("lightqnet", weights=tmp_path).image_processor.size == {"height": 96, "width": 96}


def test_the_defaults_are_the_published_network():
    model = LightQNetForFaceQuality(LightQNetConfig())
    # So many values of lightqnet-dm100.pb are trained; the statistics are not among them.
    assert sum(parameter.numel() for parameter in model.parameters()) == 429465
    scores, features = model.eval()(torch.zeros(2, 3, 112, 112), return_dict=False)
    assert scores.shape == (2,) and features.shape == (2, 576)


def test_a_canonical_face_is_resized_whole(graph_file):
    model = load_foreign(graph_file).model
    faces = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1
    large = torch.nn.functional.interpolate(faces, size=(112, 112), mode="bicubic").clamp(-1, 1)
    small = torch.nn.functional.interpolate(faces, size=(96, 96), mode="bicubic").clamp(-1, 1)
    # The resized and the small face are the same picture but for the resampling.
    assert (model.prepare_faces(large) - model.prepare_faces(small)).abs().max() < 0.1
    large.requires_grad_()
    model(large).scores.sum().backward()
    assert large.grad.abs().amax((0, 1)).min() > 0  # every pixel counts, none is cut away
    with pytest.raises(ValueError, match="shape"):
        model(torch.zeros(1, 1, 112, 112))
    with pytest.raises(ValueError, match="multiples of 16"):
        LightQNetConfig(crop_size=[100, 96])


# -- files that are something else -----------------------------------------------------------------------------------


def rejected(tmp_path, content: bytes, match: str) -> None:
    path = tmp_path / "file.pb"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=match):
        load_foreign(path)
    with pytest.raises(ValueError, match=f"file.pb: .*{match}"):
        load_method("lightqnet", weights=path)


def test_files_that_are_something_else(arrays, tmp_path):
    rejected(tmp_path, b"", "empty file")
    rejected(tmp_path, b"<html>not found</html>", "HTML or XML page")
    rejected(tmp_path, b"not a graph", "no frozen TensorFlow graph")
    rejected(tmp_path, field(1, field(1, "input") + field(2, "Placeholder")), "without constants")
    rejected(tmp_path, constant("resnet/conv1/weights", np.zeros((3, 3, 3, 8), np.float32)), "tensors")
    missing = {name: values for name, values in arrays.items() if not name.endswith("Bottleneck/biases")}
    rejected(tmp_path, make_graph(missing), "not the tensors of lightqnet")
    broken = {**arrays, "UncertaintyModule/Bottleneck/biases": np.full(1, np.nan, np.float32)}
    rejected(tmp_path, make_graph(broken), r"NaN or infinite values in 1 tensors \(score.bias\)")
    rejected(tmp_path, make_graph(arrays, [(8, 8, 3), *BLOCKS[1:]]), "strides")
    with pytest.raises(CheckpointError, match="(?i)no such file"):
        load_foreign(tmp_path / "missing.pb")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_damaged_files_give_a_reason(graph_file, tmp_path_factory, data):
    content = bytearray(graph_file.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(1, len(content) - 1))]
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pb"
    path.write_bytes(content)
    try:
        tensors = read_frozen_graph(path)
    except CheckpointError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.binary(min_size=1, max_size=60))
@example(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
def test_random_bytes_give_a_reason(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.pb"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_frozen_graph(path)


# -- the published graphs --------------------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize("size", ["dm025", "dm050", "dm100"])
def test_the_published_graphs_give_the_scores_of_tensorflow(shared_dir, size):
    expected = np.load(shared_dir / "parity" / "lightqnet.npz")
    method = load_method("lightqnet", weights=shared_dir / "weights" / "lightqnet" / f"lightqnet-{size}.pb")
    scores = method(list(expected["crops"])).scores
    np.testing.assert_allclose(scores.numpy(), expected[size], atol=1e-4, rtol=0)
    if size == "dm100":
        defaults = LightQNetConfig()
        assert method.model.config.blocks == [list(block) for block in defaults.blocks]
        assert method.model.config.stem_width == defaults.stem_width
