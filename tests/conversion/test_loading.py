# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Foreign files: what is read, what is refused and why, and that nothing in them is run."""

import argparse
import os
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diffiqa_hf.conversion.loading import CheckpointError, find_state_dict, read_checkpoint


FORMATS = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}}


def tensors() -> dict[str, torch.Tensor]:
    return {"conv1.weight": torch.arange(600.0).view(2, 3, 10, 10), "bn1.num_batches_tracked": torch.tensor(7)}


def assert_same(actual: dict, expected: dict) -> None:
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


class Runs:
    """A pickle of this asks for a function to be called with an argument."""

    def __init__(self, function, argument):
        self.call = function, (argument,)

    def __reduce__(self):
        return self.call


# -- read_checkpoint -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_reads_both_formats_of_torch_save_whatever_the_ending(tmp_path, kind):
    path = tmp_path / "weights of somebody.pth.tar"
    torch.save({"epoch": 3, "state_dict": tensors()}, path, **FORMATS[kind])
    checkpoint = read_checkpoint(path)
    assert checkpoint["epoch"] == 3
    assert_same(checkpoint["state_dict"], tensors())


def test_reads_safetensors_whatever_the_ending(tmp_path):
    save_file(tensors(), tmp_path / "weights.bin")
    read = read_checkpoint(tmp_path / "weights.bin")
    assert_same(dict(sorted(read.items(), reverse=True)), tensors())


def save_bad_file(name: str, path):
    if name == "cut zip" or name == "cut legacy":
        torch.save(tensors(), path, **FORMATS[name.split()[1]])
    if name == "cut safetensors":
        save_file(tensors(), path)
    if name.startswith("cut"):
        path.write_bytes(path.read_bytes()[:-100])
    contents = {
        "empty": b"",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 261192768\n",
        "page": b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>",
        "text": b"this is no checkpoint",
        "noise": b"\x80\x02" + bytes(range(200, 256)) * 10,
    }
    if name in contents:
        path.write_bytes(contents[name])
    if name == "other zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
    if name == "TorchScript":
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(path)
    if name == "folder":
        path.mkdir()
    if name == "pipe":
        os.mkfifo(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not there", "^no such file$"),
        ("folder", "^is a directory"),
        ("pipe", "^not a regular file$"),
        ("empty", "^empty file$"),
        ("pointer", "^a Git LFS pointer"),
        ("page", "^an HTML or XML page"),
        ("text", "^neither a PyTorch nor a safetensors file$"),
        ("noise", "PyTorch file|weights-only reader"),
        ("cut zip", "^truncated or damaged PyTorch file"),
        ("cut legacy", "^truncated or damaged PyTorch file"),
        ("cut safetensors", "^truncated or damaged safetensors file"),
        ("TorchScript", "^a TorchScript archive, "),
        ("other zip", "^truncated or damaged PyTorch file"),
    ],
)
def test_bad_files(tmp_path, name, message):
    path = tmp_path / "weights"
    save_bad_file(name, path)
    with pytest.raises(CheckpointError, match=message) as raised:
        read_checkpoint(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_cut_anywhere_is_an_error_of_one_line(tmp_path, kind):
    path = tmp_path / "weights.pth"
    torch.save(tensors(), path, **FORMATS[kind])
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError) as raised:
            read_checkpoint(path)
        assert str(raised.value) and "\n" not in str(raised.value)


def test_a_pickle_named_safetensors(tmp_path):
    torch.save(tensors(), tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match="named .safetensors"):
        read_checkpoint(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("kind", FORMATS)
def test_what_the_weights_only_reader_refuses_is_named_and_let_in_by_name(tmp_path, kind):
    path = tmp_path / "weights.ckpt"
    torch.save({"args": argparse.Namespace(lr=0.1), "state_dict": tensors()}, path, **FORMATS[kind])
    with pytest.raises(CheckpointError, match=r"^refused: .* argparse\.Namespace \(--allow-pickle-globals NAME"):
        read_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"argparse\.Namespace"):
        read_checkpoint(path, ["argparse.ArgumentParser"])
    checkpoint = read_checkpoint(path, ["argparse.Namespace"])
    assert_same(checkpoint["state_dict"], tensors())
    assert not isinstance(checkpoint["args"], argparse.Namespace)
    # Let in for that one file only.
    with pytest.raises(CheckpointError, match=r"argparse\.Namespace"):
        read_checkpoint(path)


def test_all_that_is_refused_is_named_at_once(tmp_path):
    path = tmp_path / "weights.ckpt"
    torch.save({"best": np.float64(0.5), "args": argparse.Namespace(), "state_dict": tensors()}, path)
    names = [f"{np._core.multiarray.__name__}.scalar", "numpy.dtype", "argparse.Namespace"]
    with pytest.raises(CheckpointError) as raised:
        read_checkpoint(path)
    assert all(name in str(raised.value) for name in names)
    with pytest.raises(CheckpointError) as raised:
        read_checkpoint(path, names[:2])
    assert "argparse.Namespace" in str(raised.value) and "numpy" not in str(raised.value)
    assert_same(read_checkpoint(path, names)["state_dict"], tensors())


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_is_run_even_where_it_is_let_in(tmp_path, kind):
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    torch.save({"x": Runs(os.system, f"touch {trace}"), "state_dict": tensors()}, path, **FORMATS[kind])
    name = f"{os.system.__module__}.system"
    for allowed in ([], [name]):
        with pytest.raises(CheckpointError, match=f"^refused: reading it as a pickle would run {name}"):
            read_checkpoint(path, allowed)

    torch.save({"x": Runs(exec, f"open({str(trace)!r}, 'w')"), "state_dict": tensors()}, path, **FORMATS[kind])
    with pytest.raises(CheckpointError, match=r"^refused: .* builtins\.exec "):
        read_checkpoint(path)
    assert_same(read_checkpoint(path, ["builtins.exec"])["state_dict"], tensors())
    assert not trace.exists()


def test_a_whole_pickled_model(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"^refused: .* torch\.nn\.modules\.linear\.Linear"):
        read_checkpoint(tmp_path / "model.pt")
    checkpoint = read_checkpoint(tmp_path / "model.pt", ["torch.nn.modules.linear.Linear"])
    with pytest.raises(CheckpointError, match="no state dict in it, but a whole pickled object"):
        find_state_dict(checkpoint)


# -- find_state_dict -------------------------------------------------------------------------------------------------

HEAD = {"head.kernel": torch.zeros(4, 9), "head.t": torch.zeros(1)}


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in tensors().items()}


@pytest.mark.parametrize(
    ("checkpoint", "prefix", "dropped"),
    [
        (tensors(), "", []),
        ({"state_dict": tensors(), "epoch": 1}, "", []),
        ({"net_state_dict": tensors(), "optimizer": {"state": {}}}, "", []),
        ({"state_dict_backbone": tensors(), "state_dict_softmax_fc": {"weight": torch.zeros(2)}}, "", []),
        ({"model": {"state_dict": prefixed("module.")}}, "module.", []),
        ({"state_dict": {**prefixed("model."), **HEAD}}, "model.", ["head.kernel", "head.t"]),
        (prefixed("module.backbone."), "module.backbone.", []),
        (prefixed("features.module."), "features.module.", []),
        (
            {**prefixed("module.features."), "module.fc.weight": torch.zeros(3)},
            "module.features.",
            ["module.fc.weight"],
        ),
        ({**prefixed("model."), "betas": torch.zeros(3)}, "model.", ["betas"]),
        ({**tensors(), "epoch": 7, 3: torch.zeros(1)}, "", []),
    ],
)
def test_wrappers_are_taken_off(checkpoint, prefix, dropped):
    found = find_state_dict(checkpoint)
    assert_same(found.tensors, tensors())
    assert (found.prefix, found.dropped) == (prefix, dropped)


def test_a_prefix_that_only_some_names_have_is_a_part_of_the_names():
    state_dict = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert_same(find_state_dict(state_dict).tensors, state_dict)
    # A head alone is no wrapped network.
    assert_same(find_state_dict(HEAD).tensors, HEAD)


def test_nothing_to_find():
    with pytest.raises(CheckpointError, match="^no state dict in it, but a list$"):
        find_state_dict([torch.zeros(1)])
    with pytest.raises(CheckpointError, match="^no tensors in it, only 'epoch', 'best'$"):
        find_state_dict({"epoch": 3, "best": 0.5})
    with pytest.raises(CheckpointError, match="^no tensors in it$"):
        find_state_dict({})
    loop = {}
    loop["state_dict"] = loop
    with pytest.raises(CheckpointError, match="^no tensors in it, only 'state_dict'$"):
        find_state_dict(loop)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_tensors_of_other_kinds_are_no_weights():
    odd = {
        "meta": torch.zeros(1, device="meta"),
        "sparse": torch.eye(3).to_sparse(),
        "quantised": torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8),
    }
    assert_same(find_state_dict({**tensors(), **odd}).tensors, tensors())
