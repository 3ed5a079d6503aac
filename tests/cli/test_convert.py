# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa convert` and `diffiqa score --fr-model`, on files as other people save them."""

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.close import assert_close
from fixtures.fill import fill_state_dict, make_images
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModel

from diffiqa_hf import DifFIQAPipeline, DifFIQAUNetModel, IResNetConfig, IResNetModel
from diffiqa_hf.cli import main
from diffiqa_hf.conversion import DIALECTS


FACE = str(Path(__file__).parents[2] / "examples" / "faces" / "astronaut.jpg")


def iresnet_tensors() -> dict[str, torch.Tensor]:
    config = IResNetConfig(depths=[1, 1, 1, 1], widths=[8, 8, 8, 8], embedding_size=16)
    return fill_state_dict({name: tensor.shape for name, tensor in IResNetModel(config).state_dict().items()})


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in iresnet_tensors().items()}


def save(checkpoint, path: Path) -> str:
    torch.save(checkpoint, path)
    return str(path)


# -- what is converted -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@torch.no_grad()
def test_a_file_becomes_a_model_of_auto_model(tmp_path, capsys, ending):
    source = tmp_path / f"backbone.{ending}"
    {"pth": torch.save, "safetensors": save_file}[ending](iresnet_tensors(), source)
    dest = tmp_path / "a new folder" / "model"
    assert main(["convert", str(source), str(dest), "--from", "insightface"]) == 0
    out, err = capsys.readouterr()
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    count = sum(tensor.numel() for name, tensor in iresnet_tensors().items() if not name.endswith(statistics))
    assert out == f"{dest}: IResNetModel of {count:,} parameters from backbone.{ending} (insightface)\n" and err == ""

    model = AutoModel.from_pretrained(dest)
    expected = IResNetModel(model.config).eval()
    expected.load_state_dict(iresnet_tensors())
    assert_close(model(make_images(0)).embeddings, expected(make_images(0)).embeddings)


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"state_dict": prefixed("features.module."), "epoch": 25, "arch": "iresnet"},
        {"state_dict": {**prefixed("module.features."), "module.fc.weight": torch.zeros(16, 9)}},
    ],
)
def test_the_wrapper_of_magface_is_enough(tmp_path, checkpoint):
    source = save(checkpoint, tmp_path / "magface_epoch_00025.pth")
    assert main(["convert", source, str(tmp_path / "model")]) == 0
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["channel_order"] == "bgr" and config["bn_eps"] == 2e-5


def test_what_is_not_weights_is_let_in_by_name(tmp_path, capsys):
    source = save({"args": argparse.Namespace(lr=1), "state_dict": prefixed("module.")}, tmp_path / "weights.pt")
    command = ["convert", source, str(tmp_path / "model"), "--from", "insightface"]
    assert main(command) == 1
    assert "argparse.Namespace" in capsys.readouterr().err and not (tmp_path / "model").exists()
    assert main([*command, "--allow-pickle-globals", "numpy.dtype"]) == 1
    assert (
        main([*command, "--allow-pickle-globals", "numpy.dtype", "--allow-pickle-globals", "argparse.Namespace"]) == 0
    )


def test_the_weights_of_a_unet(tmp_path, capsys):
    shapes = {name: tensor.shape for name, tensor in DifFIQAUNetModel(dim=8, dim_mults=(1, 2)).state_dict().items()}
    raw, average = fill_state_dict(shapes, "raw"), fill_state_dict(shapes, "average")
    model = {f"model.{name}": tensor for name, tensor in raw.items()} | {"betas": torch.zeros(10)}
    ema = {"step": torch.tensor(1), **{f"ema_model.model.{name}": tensor for name, tensor in average.items()}}
    source = save({"step": 1, "model": model, "opt": {}, "ema": ema}, tmp_path / "model.pt")
    for weights, expected in (("model", raw), ("ema", average)):
        assert main(["convert", source, str(tmp_path / weights), "--weights", weights]) == 0
        assert f"(diffiqa, {weights} weights)" in capsys.readouterr().out
        state_dict = DifFIQAUNetModel.from_pretrained(tmp_path / weights).state_dict()
        assert all(torch.equal(state_dict[name], tensor) for name, tensor in expected.items())


# -- what is not -----------------------------------------------------------------------------------------------------


def bad_source(kind: str, path: Path) -> None:
    if kind == "not there":
        return
    tensors = iresnet_tensors()
    contents = {
        "empty": b"",
        "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 261192768\n",
        "HTML": b"<!DOCTYPE html><html><body>Sign in</body></html>",
    }
    if kind == "directory":
        path.mkdir()
    elif kind in contents:
        path.write_bytes(contents[kind])
    elif kind == "truncated":
        torch.save(tensors, path)
        path.write_bytes(path.read_bytes()[:-5000])
    elif kind == "several dialects":
        torch.save(tensors, path)
    elif kind == "missing":
        torch.save({name: tensor for name, tensor in tensors.items() if not name.startswith("layer2.0.bn2")}, path)
    elif kind == "no known dialect":
        torch.save({"x\ny": torch.zeros(1)}, path)


@pytest.mark.parametrize(
    ("kind", "dialect"),
    [
        ("not there", None),
        ("directory", None),
        ("empty", None),
        ("Git LFS pointer", None),
        ("HTML", None),
        ("truncated", None),
        ("several dialects", None),
        ("missing", "insightface"),
        ("no known dialect", None),
    ],
)
def test_a_bad_file_is_one_line_and_leaves_nothing(tmp_path, capsys, kind, dialect):
    source = tmp_path / "weights.pth"
    bad_source(kind, source)
    before = sorted(tmp_path.iterdir())
    arguments = ["--from", dialect] if dialect else []
    assert main(["convert", str(source), str(tmp_path / "new" / "model"), *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith(f"diffiqa: {source}: ") and {"not there": "no such file"}.get(kind, kind) in err
    assert sorted(tmp_path.iterdir()) == before


def test_dest_is_not_overwritten_unless_asked(tmp_path, capsys):
    source, dest = save(iresnet_tensors(), tmp_path / "backbone.pth"), tmp_path / "model"
    command = ["convert", source, str(dest), "--from"]
    assert main([*command, "insightface"]) == 0
    assert main([*command, "magface"]) == 1
    assert capsys.readouterr().err == f"diffiqa: the folder {dest} is not empty (--overwrite replaces a model)\n"
    assert json.loads((dest / "config.json").read_text())["channel_order"] == "rgb"
    assert main([*command, "magface", "--overwrite"]) == 0
    assert json.loads((dest / "config.json").read_text())["channel_order"] == "bgr"

    # Nothing else is ever replaced: other folders, and the source itself.
    capsys.readouterr()
    assert main(["convert", source, str(tmp_path), "--from", "insightface", "--overwrite"]) == 1
    assert "holds no model" in capsys.readouterr().err
    inside = save(iresnet_tensors(), dest / "backbone.pth")
    assert main(["convert", inside, str(dest), "--from", "insightface", "--overwrite"]) == 1
    assert "would be replaced" in capsys.readouterr().err and Path(inside).exists()
    assert main(["convert", source, f"{source}/model", "--from", "insightface"]) == 1
    assert capsys.readouterr().err == f"diffiqa: {source} is no folder\n"


def test_the_help_lists_the_dialects(capsys):
    with pytest.raises(SystemExit) as end:
        main(["convert", "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert all(f"  {dialect.name} " in out and dialect.description in out for dialect in DIALECTS)
    with pytest.raises(SystemExit) as end:
        main(["convert", "a", "b", "--from", "arcface"])
    assert end.value.code == 2


def test_the_help_is_there_without_torch():
    code = "import sys, diffiqa_hf.cli as cli\ntry:\n    cli.main(['convert', '--help'])\nfinally:\n"
    code += "    print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "False"


# -- score --fr-model ------------------------------------------------------------------------------------------------

QUICK = ["--num-timesteps", "1", "--num-repeats", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def fr_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    assert (
        main(["convert", save(iresnet_tensors(), folder / "a.pth"), str(folder / "model"), "--from", "magface"]) == 0
    )
    return folder / "model"


def test_scores_with_a_converted_model(fr_model, tmp_path):
    output = tmp_path / "scores.jsonl"
    assert main(["score", FACE, "--fr-model", str(fr_model), "--output", str(output), "--quiet", *QUICK]) == 0
    pipe = DifFIQAPipeline.from_pretrained("default", fr_model=AutoModel.from_pretrained(fr_model))
    expected = pipe([FACE], num_timesteps=1, num_repeats=1).scores.item()
    assert json.loads(output.read_text())["score"] == pytest.approx(expected, abs=1e-5)
    plain = DifFIQAPipeline.from_pretrained("default")([FACE], num_timesteps=1, num_repeats=1).scores.item()
    assert abs(expected - plain) > 1e-4

    # It is a part of what the scores depend on.
    assert json.loads((tmp_path / "scores.jsonl.settings.json").read_text())["fr_model"] == str(fr_model)
    assert main(["score", FACE, "--output", str(output), "--resume", *QUICK]) == 2


def test_an_fr_model_that_is_none_is_one_line(tmp_path, capsys):
    DifFIQAUNetModel(dim=8, dim_mults=(1, 2)).save_pretrained(tmp_path / "unet")
    from transformers import BertConfig, BertModel

    tiny = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    BertModel(tiny).save_pretrained(tmp_path / "bert")
    for name, message in (
        ("nowhere", "cannot load the FR model"),
        ("unet", "cannot load"),
        ("bert", "is no FR model"),
    ):
        capsys.readouterr()
        assert main(["score", FACE, "--fr-model", str(tmp_path / name), *QUICK]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and message in err and str(tmp_path / name) in err


# -- the real files --------------------------------------------------------------------------------------------------


@pytest.mark.shared
@torch.no_grad()
def test_the_real_mobilefacenets(shared_dir, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    weights = shared_dir / "weights"
    sources = {"xiaoccer": "mobilefacenet_casia/068.ckpt", "foamliu": "mobilefacenet_foamliu/mobilefacenet.pt"}
    for name, path in sources.items():
        assert main(["convert", str(weights / path), str(tmp_path / name)]) == 0
        assert f"| {name}: " in (tmp_path / name / "README.md").read_text()

    expected = np.load(shared_dir / "parity" / "mobilefacenet_casia.npz")
    names = expected["names"].tolist()
    table = parquet.read_table(
        shared_dir / "data" / "lfw" / "dev_test.parquet", columns=["image", "name"], filters=[("name", "in", names)]
    )
    pictures = {row["name"]: row["image"]["bytes"] for row in table.to_pylist()}
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(pictures[name])).convert("RGB")) for name in names])
    faces = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    embeddings = AutoModel.from_pretrained(tmp_path / "xiaoccer")(faces).embeddings.numpy()
    assert np.abs(embeddings - expected["embeddings"]).max() < 1e-4 * np.abs(expected["embeddings"]).max()

    # Of the other there is no fixture: it has to know everybody in the mirror.
    model = AutoModel.from_pretrained(tmp_path / "foamliu")
    similarity = torch.nn.functional.normalize(model(faces).embeddings)
    similarity = similarity @ torch.nn.functional.normalize(model(faces.flip(-1)).embeddings).T
    assert similarity.argmax(1).tolist() == list(range(len(names))) and similarity.diag().min() > 0.8
