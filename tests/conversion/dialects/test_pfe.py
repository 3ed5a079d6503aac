# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""PFE: the reader of TensorFlow's checkpoints, the converter and the network, against the graph computed in NumPy."""

import math

import numpy as np
import pytest
import torch
from fixtures.close import assert_close
from fixtures.protobuf_format import field, varint
from hypothesis import given, settings
from hypothesis import strategies as st

from diffiqa_hf import AutoModelForFaceQuality
from diffiqa_hf.conversion import recognise
from diffiqa_hf.conversion.checkpoint import load_foreign
from diffiqa_hf.conversion.loading import CheckpointError
from diffiqa_hf.conversion.readers.tensorflow_bundle import read_tensor_bundle
from diffiqa_hf.methods import load_method
from diffiqa_hf.models.pfe import PFEForFaceQuality


DEPTHS = (3, 8, 16, 3)  # those of the published networks
WIDTHS = (3, 2, 4, 5)
SIZE = 6  # of the embedding
LAST = 7 * 6 * WIDTHS[-1]


# -- a checkpoint, written by hand -----------------------------------------------------------------------------------


def block(entries: list[tuple[bytes, bytes]], restart_every: int) -> bytes:
    out, restarts, before = bytearray(), [], b""
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % restart_every == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    for number in [*restarts, len(restarts)]:
        out += number.to_bytes(4, "little")
    return bytes(out)


def table(entries: dict[bytes, bytes], compression: int = 0) -> bytes:
    """In blocks of 20 entries, which is more than one for every checkpoint here."""
    out, index = bytearray(), []

    def append(content: bytes) -> bytes:
        handle = varint(len(out)) + varint(len(content))
        out.extend(content + bytes([compression]) + bytes(4))  # the checksum is not looked at
        return handle

    rows = sorted(entries.items())
    for i in range(0, len(rows), 20):
        part = rows[i : i + 20]
        index.append((part[-1][0], append(block(part, 16))))
    handles = append(block([], 16)) + append(block(index, 1))
    return bytes(out) + handles.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")


def bundle(arrays: dict[str, np.ndarray], compression: int = 0, **header: int) -> tuple[bytes, bytes]:
    """The contents of the index and of the data file."""
    entries, data = {}, bytearray()
    head = {"shards": 1, "endianness": 0, **header}
    entries[b""] = field(1, head["shards"]) + (field(2, 1) if head["endianness"] else b"")
    for name, values in arrays.items():
        number = {"<f4": 1, "<f8": 2, "<i4": 3, "<i8": 9, "|u1": 4}[values.dtype.str]
        shape = b"".join(field(2, field(1, size)) for size in values.shape)
        content = values.tobytes()
        entry = field(1, number) + field(2, shape) + (field(4, len(data)) if data else b"")
        entry += field(5, len(content)) + varint(6 << 3 | 5) + bytes(4)
        entries[name.encode()] = entry
        data += content
    return table(entries, compression), bytes(data)


def write(folder, arrays: dict[str, np.ndarray], name: str = "ckpt-12000", **options) -> str:
    index, data = bundle(arrays, **options)
    (folder / f"{name}.index").write_bytes(index)
    (folder / f"{name}.data-00000-of-00001").write_bytes(data)
    return str(folder / f"{name}.index")


def make_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    arrays = {}

    def norm(name: str, kinds: tuple[str, ...]) -> None:
        for kind in kinds:
            positive = kind in ("gamma", "moving_variance")
            arrays[f"{name}/BatchNorm/{kind}"] = (
                rng.uniform(0.5, 1.5, SIZE) if positive else 0.2 * rng.standard_normal(SIZE)
            )

    before = 3
    for stage, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True), start=1):
        for i in range(1 + 2 * depth):
            name = f"SphereNet/conv{stage}/Conv" + (f"_{i}" if i else "")
            fan_in = 9 * (before if i == 0 else width)
            scale = 1 / math.sqrt(fan_in) if i == 0 else 0.3 / math.sqrt(fan_in)
            arrays[f"{name}/weights"] = scale * rng.standard_normal((3, 3, before if i == 0 else width, width))
            if i == 0:
                arrays[f"{name}/biases"] = 0.2 * rng.standard_normal(width)
            arrays[f"{name}/p_re_lu/alpha"] = rng.uniform(0, 0.5, (1, 1, width))
        before = width
    arrays["SphereNet/Bottleneck/weights"] = rng.standard_normal((LAST, SIZE)) / math.sqrt(LAST)
    norm("SphereNet/Bottleneck", ("beta", "moving_mean", "moving_variance"))
    arrays["UncertaintyModule/fc1/weights"] = 3 * rng.standard_normal((LAST, SIZE)) / math.sqrt(LAST)
    norm("UncertaintyModule/fc1", ("beta", "gamma", "moving_mean", "moving_variance"))
    arrays["UncertaintyModule/fc_log_sigma_sq/weights"] = 3 * rng.standard_normal((SIZE, SIZE))
    norm("UncertaintyModule/fc_log_sigma_sq", ("moving_mean", "moving_variance"))
    arrays["UncertaintyModule/scale_and_shift/alpha"] = np.array(0.6)
    arrays["UncertaintyModule/scale_and_shift/gamma"] = np.array(-1.5)
    return {name: values.astype("<f4") for name, values in arrays.items()}


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return make_arrays()


@pytest.fixture(scope="module")
def checkpoint(arrays, tmp_path_factory) -> str:
    return write(tmp_path_factory.mktemp("pfe"), arrays)


# -- the same graph in NumPy -----------------------------------------------------------------------------------------


def conv_same(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """TensorFlow's SAME on (H, W, C): the odd row of padding comes after."""
    places = [-(-side // stride) for side in x.shape[:2]]
    missing = [(n - 1) * stride + 3 - side for n, side in zip(places, x.shape[:2], strict=True)]
    x = np.pad(x, [(m // 2, m - m // 2) for m in missing] + [(0, 0)])
    rows, columns = ((n - 1) * stride + 1 for n in places)
    return sum(x[i : i + rows : stride, j : j + columns : stride] @ kernel[i, j] for i in range(3) for j in range(3))


def run_graph(arrays: dict[str, np.ndarray], face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """mu and sigma^2 of one uint8 face (112, 112, 3)."""
    arrays = {name: values.astype(np.float64) for name, values in arrays.items()}

    def conv(x, name, stride):
        x = conv_same(x, arrays[f"{name}/weights"], stride) + arrays.get(f"{name}/biases", 0)
        return np.maximum(x, 0) + arrays[f"{name}/p_re_lu/alpha"] * np.minimum(x, 0)

    def norm(x, name):
        name = f"{name}/BatchNorm"
        x = (x - arrays[f"{name}/moving_mean"]) / np.sqrt(arrays[f"{name}/moving_variance"] + 1e-3)
        return x * arrays.get(f"{name}/gamma", 1) + arrays.get(f"{name}/beta", 0)

    x = (face[:, 8:104].astype(np.float64) - 127.5) / 128
    for stage, depth in enumerate(DEPTHS, start=1):
        x = conv(x, f"SphereNet/conv{stage}/Conv", 2)
        for i in range(depth):
            name = f"SphereNet/conv{stage}/Conv_"
            x = x + conv(conv(x, f"{name}{2 * i + 1}", 1), f"{name}{2 * i + 2}", 1)
    x = x.ravel()
    mu = norm(x @ arrays["SphereNet/Bottleneck/weights"], "SphereNet/Bottleneck")
    y = np.maximum(norm(x @ arrays["UncertaintyModule/fc1/weights"], "UncertaintyModule/fc1"), 0)
    name = "UncertaintyModule/fc_log_sigma_sq"
    y = norm(y @ arrays[f"{name}/weights"], name)
    name = "UncertaintyModule/scale_and_shift"
    sigma_sq = np.exp(np.log(1e-6 + np.exp(arrays[f"{name}/alpha"] * y + arrays[f"{name}/gamma"])))
    return mu / np.linalg.norm(mu), sigma_sq


def test_a_checkpoint_becomes_the_same_network(arrays, checkpoint):
    faces = np.random.default_rng(1).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    method = load_method("pfe", weights=checkpoint)
    output = method(list(faces))
    expected = [run_graph(arrays, face) for face in faces]
    means = [1 / np.mean(1 / sigma_sq) for _, sigma_sq in expected]
    assert np.ptp(means) > 1e-3
    np.testing.assert_allclose(output.scores.numpy(), [-mean for mean in means], rtol=1e-4)
    np.testing.assert_allclose(output.terms["raw"].numpy(), means, rtol=1e-4)
    canonical = torch.from_numpy(faces / 127.5 - 1).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        embeddings = method.model(canonical).embeddings
    np.testing.assert_allclose(embeddings.numpy(), [mu for mu, _ in expected], atol=1e-5)


def test_what_the_reader_finds(arrays, checkpoint):
    tensors = read_tensor_bundle(checkpoint)
    assert tensors.keys() == arrays.keys() and len(tensors) == 146
    for name, values in arrays.items():
        assert tensors[name].shape == values.shape and np.array_equal(tensors[name].numpy(), values)
    assert [dialect.name for dialect in recognise(tensors)] == ["pfe"]


def test_other_numbers_and_what_a_training_leaves(arrays, tmp_path):
    extra = {"global_step": np.array(7, "<i8"), "UncertaintyModule/fc1/weights/Momentum": np.ones((2, 3), "<f8")}
    extra["counts"] = np.arange(3, dtype="<i4")
    tensors = read_tensor_bundle(write(tmp_path, {**arrays, **extra}))
    assert tensors["global_step"].dtype == torch.int64 and tensors["global_step"] == 7
    assert tensors["counts"].tolist() == [0, 1, 2]
    assert tensors["UncertaintyModule/fc1/weights/Momentum"].dtype == torch.float64
    extra.pop("counts")
    load_foreign(write(tmp_path, {**arrays, **extra}))


def test_the_sizes_are_read_off_the_file_and_survive_saving(checkpoint, tmp_path):
    converted = load_foreign(checkpoint)
    config = converted.model.config
    assert converted.dialect.name == "pfe" and config.embedding_size == SIZE and list(config.crop_size) == [112, 96]
    assert (config.backbone_config.depths, config.backbone_config.widths) == (list(DEPTHS), list(WIDTHS))
    converted.model.save_pretrained(tmp_path)
    again = AutoModelForFaceQuality.from_pretrained(tmp_path)
    assert type(again) is PFEForFaceQuality
    faces = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        for ours, theirs in zip(converted.model(faces).to_tuple(), again(faces).to_tuple(), strict=True):
            assert_close(theirs, ours)


# -- files that are something else -----------------------------------------------------------------------------------


def rejected(path, match: str) -> None:
    with pytest.raises(CheckpointError, match=match):
        load_foreign(path)
    with pytest.raises(ValueError, match=f"index: .*{match}"):
        load_method("pfe", weights=path)


def test_files_that_are_something_else(arrays, tmp_path):
    path = tmp_path / "file.index"
    for content, match in (
        (b"", "empty file"),
        (b"<html>not found</html>", "HTML or XML page"),
        (b"\0" * 100, "no index of a TensorFlow checkpoint"),
    ):
        path.write_bytes(content)
        rejected(path, match)
    rejected(write(tmp_path, arrays, compression=1), "compressed")
    rejected(write(tmp_path, arrays, endianness=1), "big-endian")
    rejected(write(tmp_path, arrays, shards=2), "data file ckpt-12000.data-00000-of-00002: No such file")
    rejected(write(tmp_path, {**arrays, "flags": np.zeros(3, "|u1")}), "type of numbers")
    rejected(
        write(tmp_path, {"resnet/conv1/weights": np.zeros((3, 3), "<f4")}), "its tensors are resnet/conv1/weights"
    )
    rejected(write(tmp_path, {**arrays, "SphereNet/conv1/Conv/BatchNorm/beta": np.zeros(3, "<f4")}), "unexpected")
    missing = {name: values for name, values in arrays.items() if name != "SphereNet/conv2/Conv_3/weights"}
    rejected(write(tmp_path, missing), "missing .*backbone.stages.1.blocks.1.conv1.conv.weight")
    broken = {**arrays, "UncertaintyModule/scale_and_shift/gamma": np.array(np.nan, "<f4")}
    rejected(write(tmp_path, broken), r"NaN or infinite values in 1 tensors \(uncertainty.shift\)")
    whole = write(tmp_path, arrays)
    data = tmp_path / "ckpt-12000.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1])
    rejected(whole, "too short")
    data.write_bytes(b"")
    rejected(whole, "data file")
    data.unlink()
    rejected(whole, "No such file")
    with pytest.raises(CheckpointError, match="(?i)no such file"):
        load_foreign(tmp_path / "missing.index")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_damaged_files_give_a_reason(arrays, tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    small = {name: values for name, values in arrays.items() if "conv1" in name or "scale" in name}
    index, content = bundle(small)
    index = bytearray(index)
    if data.draw(st.booleans()):
        index = index[: data.draw(st.integers(1, len(index) - 1))]
    for _ in range(data.draw(st.integers(0, 3))):
        index[data.draw(st.integers(0, len(index) - 1))] = data.draw(st.integers(0, 255))
    (folder / "damaged.index").write_bytes(index)
    (folder / "damaged.data-00000-of-00001").write_bytes(content)
    try:
        tensors = read_tensor_bundle(folder / "damaged.index")
    except CheckpointError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
