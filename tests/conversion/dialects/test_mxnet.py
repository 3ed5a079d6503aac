# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""insightface's MXNet networks: the reader of .params files and the converter, against the symbol in NumPy."""

import math
import struct

import numpy as np
import pytest
import torch
from fixtures.close import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel

from diffiqa_hf import IResNetModel
from diffiqa_hf.cli import main
from diffiqa_hf.conversion import recognise
from diffiqa_hf.conversion.checkpoint import load_foreign
from diffiqa_hf.conversion.loading import CheckpointError, read_checkpoint
from diffiqa_hf.conversion.readers.mxnet import read_params
from diffiqa_hf.methods import load_method


UNITS, WIDTHS, SIZE = (1, 2, 1, 1), (4, 6, 8, 5), 12
GENERATIONS = ("legacy", "v1", "v2")
DTYPES = ("<f4", "<f8", "<f2", "|u1", "<i4", "|i1", "<i8")


# -- a file, written by hand -----------------------------------------------------------------------------------------


def array_bytes(values: np.ndarray, generation: str = "v2", storage: int = 0) -> bytes:
    start = {"legacy": b"", "v1": struct.pack("<I", 0xF993FAC8), "v2": struct.pack("<Ii", 0xF993FAC9, storage)}
    shape = struct.pack(f"<I{values.ndim}{'I' if generation == 'legacy' else 'q'}", values.ndim, *values.shape)
    # On GPU 1, as after a training.
    return start[generation] + shape + struct.pack("<iii", 2, 1, DTYPES.index(values.dtype.str)) + values.tobytes()


def list_bytes(arrays: list[bytes], names: list[bytes], magic: int = 0x112) -> bytes:
    out = struct.pack("<QQQ", magic, 0, len(arrays)) + b"".join(arrays)
    return out + struct.pack("<Q", len(names)) + b"".join(struct.pack("<Q", len(name)) + name for name in names)


def params(arrays: dict[str, np.ndarray], generation: str = "v2") -> bytes:
    kinds = {name: "aux" if "_moving_" in name else "arg" for name in arrays}
    names = [f"{kinds[name]}:{name}".encode() for name in arrays]
    return list_bytes([array_bytes(values, generation) for values in arrays.values()], names)


def make_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    arrays = {}

    def norm(name: str, width: int) -> None:
        arrays[f"{name}_gamma"], arrays[f"{name}_moving_var"] = rng.uniform(0.5, 1.5, (2, width))
        arrays[f"{name}_beta"], arrays[f"{name}_moving_mean"] = 0.2 * rng.standard_normal((2, width))

    def conv(name: str, outside: int, inside: int, size: int = 3) -> None:
        fan_in = inside * size * size
        arrays[f"{name}_weight"] = rng.standard_normal((outside, inside, size, size)) / math.sqrt(fan_in)

    def slopes(name: str, width: int) -> None:
        arrays[f"{name}_gamma"] = rng.uniform(0, 0.5, width)

    before = WIDTHS[0]
    conv("conv0", before, 3)
    norm("bn0", before)
    slopes("relu0", before)
    for stage, (count, width) in enumerate(zip(UNITS, WIDTHS, strict=True), start=1):
        for unit in range(1, count + 1):
            name = f"stage{stage}_unit{unit}_"
            norm(f"{name}bn1", before)
            conv(f"{name}conv1", width, before)
            norm(f"{name}bn2", width)
            slopes(f"{name}relu1", width)
            conv(f"{name}conv2", width, width)
            norm(f"{name}bn3", width)
            if unit == 1:
                conv(f"{name}conv1sc", width, before, 1)
                norm(f"{name}sc", width)
            before = width
    norm("bn1", before)
    arrays["pre_fc1_weight"] = rng.standard_normal((SIZE, 49 * before)) / 7
    arrays["pre_fc1_bias"] = 0.2 * rng.standard_normal(SIZE)
    norm("fc1", SIZE)
    return {name: values.astype("<f4") for name, values in arrays.items()}


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return make_arrays()


@pytest.fixture(scope="module")
def file(arrays, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("mxnet") / "model-0000.params"
    path.write_bytes(params(arrays))
    return str(path)


# -- the same symbol in NumPy ----------------------------------------------------------------------------------------


def run_symbol(arrays: dict[str, np.ndarray], face: np.ndarray) -> np.ndarray:
    """The embedding of one uint8 RGB face (112, 112, 3)."""
    arrays = {name: values.astype(np.float64) for name, values in arrays.items()}

    def conv(x, name, stride=1):
        kernel = arrays[f"{name}_weight"]
        size = kernel.shape[2]
        x = np.pad(x, [(0, 0), (size // 2, size // 2), (size // 2, size // 2)])
        height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
        shifts = [(i, j) for i in range(size) for j in range(size)]
        return sum(
            np.tensordot(kernel[:, :, i, j], x[:, i : i + height : stride, j : j + width : stride], 1)
            for i, j in shifts
        )

    def norm(x, name, fix_gamma=False):
        gamma, beta, mean, var = (arrays[f"{name}_{kind}"] for kind in ("gamma", "beta", "moving_mean", "moving_var"))
        scale = (1 if fix_gamma else gamma) / np.sqrt(var + 2e-5)
        return ((x.T - mean) * scale + beta).T

    def prelu(x, name):
        return np.maximum(x, 0) + (arrays[f"{name}_gamma"] * np.minimum(x, 0).T).T

    x = (face.transpose(2, 0, 1).astype(np.float64) - 127.5) * 0.0078125
    x = prelu(norm(conv(x, "conv0"), "bn0"), "relu0")
    for stage, count in enumerate(UNITS, start=1):
        for unit in range(1, count + 1):
            name, stride = f"stage{stage}_unit{unit}_", 2 if unit == 1 else 1
            y = prelu(norm(conv(norm(x, f"{name}bn1"), f"{name}conv1"), f"{name}bn2"), f"{name}relu1")
            y = norm(conv(y, f"{name}conv2", stride), f"{name}bn3")
            x = y + (norm(conv(x, f"{name}conv1sc", stride), f"{name}sc") if unit == 1 else x)
    x = norm(x, "bn1").ravel()
    return norm(arrays["pre_fc1_weight"] @ x + arrays["pre_fc1_bias"], "fc1", fix_gamma=True)


@torch.no_grad()
def embed(model: IResNetModel, faces: np.ndarray) -> np.ndarray:
    return model(torch.from_numpy(faces / 127.5 - 1).float().permute(0, 3, 1, 2)).embeddings.numpy()


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)


def test_a_file_becomes_the_same_network(arrays, file, faces):
    converted = load_foreign(file)
    config = converted.model.config
    assert converted.dialect.name == "insightface-mxnet" and converted.dropped == []
    assert (list(config.depths), list(config.widths), config.embedding_size) == (list(UNITS), list(WIDTHS), SIZE)
    assert config.bn_eps == 2e-5 and config.dropout == 0.4 and not config.dropout_channels
    expected = np.stack([run_symbol(arrays, face) for face in faces])
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    np.testing.assert_allclose(embed(converted.model, faces), expected, atol=1e-4)


def test_the_last_normalisation_has_no_scale_whatever_the_file_says(arrays, tmp_path, faces):
    embeddings = []
    for factor in (1, 7):
        path = tmp_path / "model.params"
        path.write_bytes(params(arrays | {"fc1_gamma": factor * arrays["fc1_gamma"]}))
        embeddings.append(embed(load_foreign(path).model, faces))
    assert_close(*embeddings)


def test_what_the_reader_finds(arrays, file):
    tensors = read_params(file)
    assert tensors.keys() == arrays.keys()
    for name, values in arrays.items():
        assert np.array_equal(tensors[name].numpy(), values)
    assert [dialect.name for dialect in recognise(tensors)] == ["insightface-mxnet"]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_generation_and_type_of_numbers(tmp_path, generation):
    values = {kind: np.arange(6).reshape(2, 3).astype(kind) for kind in DTYPES}
    values["one"] = np.array([-7], "<f4")
    path = tmp_path / "model-0000.params.download"  # told by its content
    path.write_bytes(params(values, generation))
    tensors = read_checkpoint(path)
    assert tensors.keys() == values.keys()
    for name, expected in values.items():
        assert tensors[name].numpy().dtype == expected.dtype and np.array_equal(tensors[name].numpy(), expected)


def test_half_precision_and_a_classifier(arrays, tmp_path, faces):
    path = tmp_path / "model.params"
    half = {name: values.astype("<f2") for name, values in arrays.items()}
    path.write_bytes(params(half | {"fc7_weight": np.ones((3, SIZE), "<f4")}, "legacy"))
    model = load_foreign(path).model
    assert model.dtype == torch.float32
    np.testing.assert_allclose(embed(model, faces)[0], run_symbol(half, faces[0]), atol=1e-4)


def test_it_serves_as_fr_model_and_as_a_folder(file, faces, tmp_path, capsys):
    output = load_method("ser-fiq", fr_model=file, num_passes=4, dropout=0.4)(list(faces))
    assert ((output.scores > 0) & (output.scores < 1)).all() and output.scores[0] != output.scores[1]
    assert main(["convert", file, str(tmp_path / "model")]) == 0
    assert capsys.readouterr().out.endswith("from model-0000.params (insightface-mxnet)\n")
    model = AutoModel.from_pretrained(tmp_path / "model")
    assert isinstance(model, IResNetModel)
    assert_close(embed(model.eval(), faces), embed(load_foreign(file).model, faces))


# -- files that are something else -----------------------------------------------------------------------------------


def rejected(path, content: bytes, match: str) -> None:
    path.write_bytes(content)
    for read in (read_checkpoint, load_foreign):
        with pytest.raises(CheckpointError, match=match) as raised:
            read(path)
        assert "\n" not in str(raised.value)


def test_other_versions_of_the_network_are_named(arrays, tmp_path):
    def reject(change: dict, match: str, without: str = "$") -> None:
        kept = {name: values for name, values in arrays.items() if without not in name}
        path = tmp_path / "model.params"
        path.write_bytes(params(kept | change))
        with pytest.raises(CheckpointError, match=f"^not the tensors of insightface-mxnet: .*{match}"):
            load_foreign(path)

    one = np.ones(1, "<f4")
    reject({"conv0_weight": np.ones((4, 3, 7, 7), "<f4")}, "another input")
    reject({"bn_data_moving_mean": one}, "another input")
    reject({"stage1_unit1_se_conv1_weight": one}, "squeeze and excitation")
    reject({"stage1_unit1_conv3_weight": one}, "bottlenecks")
    reject({}, "another unit", without="_bn3_")
    reject({}, "another act", without="relu0")
    reject({}, "another output", without="pre_fc1")
    reject({"relu1_gamma": one}, "unexpected tensors: relu1_gamma")  # of output GAP
    reject({}, "missing tensors: stage2_unit2_conv2_weight", without="stage2_unit2_conv2")
    reject({"pre_fc1_weight": np.ones((SIZE, 36 * WIDTHS[-1]), "<f4")}, r"pre_fc1_weight has the shape")


def test_damaged_and_foreign_files(tmp_path):
    path, ones = tmp_path / "model.params", np.ones((2, 3), "<f4")
    for content in (b"", b"\x12\x01", list_bytes([], [], magic=0x113), b"\x93NUMPY and more"):
        rejected(path, content, "no .params file of MXNet" if content else "empty file")
    rejected(path, b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer")
    rejected(path, list_bytes([array_bytes(ones, storage=1)], [b"arg:x"]), "storage type 1: sparse ones can't be read")
    rejected(path, list_bytes([array_bytes(ones)], []), "1 arrays and 0 names")
    rejected(path, list_bytes([array_bytes(ones)] * 2, [b"arg:x", b"aux:x"]), "two arrays called 'x'")
    rejected(path, list_bytes([array_bytes(ones)], [b"arg:\xff"]), "can't decode")
    rejected(path, list_bytes([array_bytes(ones)], [b"arg:x"]) + b"\0", "1 bytes after its end")
    with pytest.raises(CheckpointError, match="(?i)no such file"):
        read_params(tmp_path / "missing.params")
    # An array whose description claims what cannot be.
    head = struct.pack("<QQQ", 0x112, 0, 1)
    v2 = struct.pack("<Ii", 0xF993FAC9, 0)
    huge = {
        "legacy": struct.pack("<I3I", 3, 2**32 - 1, 2**32 - 1, 2**32 - 1) + struct.pack("<iii", 1, 0, 0),
        "v2": v2 + struct.pack("<I2q", 2, 2**62, 2**62) + struct.pack("<iii", 1, 0, 0),
    }
    for described in huge.values():
        rejected(path, head + described + bytes(64), "bytes should follow")
    rejected(path, struct.pack("<QQQ", 0x112, 0, 2**63) + array_bytes(ones), "bytes should follow")
    rejected(path, head + v2 + struct.pack("<I2q", 2, -1, -6) + bytes(64), r"of shape \(-1, -6\)")
    rejected(path, head + v2 + struct.pack("<I2q", 2, 0, 6) + bytes(64), r"of shape \(0, 6\)")
    rejected(path, head + v2 + struct.pack("<I", 2**31) + bytes(64), "2147483648 dimensions")
    rejected(path, head + v2 + struct.pack("<I", 0) + bytes(64), "0 dimensions")
    rejected(path, head + struct.pack("<I", 0xF993FACA) + bytes(64), "NumPy mode")
    rejected(path, head + v2 + struct.pack("<Iqiii", 1, 4, 1, 0, 12) + bytes(64), "data type 12")


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_file_that_was_cut_anywhere(tmp_path, generation):
    whole = params({"conv0_weight": np.ones((2, 1, 3, 3), "<f4"), "bn0_moving_mean": np.ones(2, "<f8")}, generation)
    path = tmp_path / "model.params"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="empty file|no .params file of MXNet"):
            read_checkpoint(path)
    path.write_bytes(whole)
    assert len(read_checkpoint(path)) == 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_damaged_files_give_a_reason(tmp_path_factory, data):
    small = {"conv0_weight": np.ones((2, 1, 3, 3), "<f4"), "bn0_gamma": np.ones(2, "<f4")}
    content = bytearray(params(small, data.draw(st.sampled_from(GENERATIONS))))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.params"
    path.write_bytes(content)
    try:
        tensors = read_params(path)
    except CheckpointError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
