# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""A score never comes from weights that were not read: folders and files whose tensors are not the network's."""

import json
import re
from pathlib import Path

import pytest
import torch
from fixtures.close import assert_close
from fixtures.fill import fill_state_dict, make_images
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from diffiqa_hf import (
    AutoModelForFaceQuality,
    DifFIQAPipeline,
    DifFIQARModel,
    DifFIQAUNetModel,
    FaceImageProcessor,
    IResNetConfig,
    IResNetForFaceQuality,
    IResNetModel,
    load_method,
)
from diffiqa_hf.cli import main
from diffiqa_hf.conversion.networks import load_fr_model, load_quality_model
from diffiqa_hf.models.clib_fiqa import CLIBFIQAConfig, CLIBFIQAForFaceQuality
from diffiqa_hf.models.loading import LoadingError


FACE = str(Path(__file__).parents[2] / "examples" / "faces" / "astronaut.jpg")
TINY = {"depths": [1, 1, 1, 1], "widths": [8, 8, 8, 8], "embedding_size": 16}
PREFIXES = ["module.", "_orig_mod.", "net.", "encoder.", "module._orig_mod.", "student.net."]


def filled(model: torch.nn.Module) -> torch.nn.Module:
    model.load_state_dict(fill_state_dict({name: tensor.shape for name, tensor in model.state_dict().items()}))
    return model.eval()


def fr_folder(folder: Path) -> Path:
    filled(IResNetModel(IResNetConfig(**TINY))).save_pretrained(folder)
    FaceImageProcessor().save_pretrained(folder)
    return folder


def quality_folder(folder: Path) -> Path:
    filled(IResNetForFaceQuality(IResNetConfig(**TINY))).save_pretrained(folder)
    FaceImageProcessor().save_pretrained(folder)
    return folder


def pipeline_folder(folder: Path) -> Path:
    pipe = DifFIQAPipeline.from_pretrained("default", unet=DifFIQAUNetModel(dim=8, dim_mults=(1, 2)))
    pipe.calibration = None
    pipe.register_modules(fr_model=filled(IResNetModel(IResNetConfig(**TINY))))
    pipe.save_pretrained(folder)
    return folder


def change(folder: Path, change) -> None:
    """Writes the weights of a folder anew, as a function of them by name."""
    (path,) = folder.glob("*.safetensors")
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def with_prefix(prefix: str):
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}


def without(*names: str):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names}


def test_a_line_break_in_the_name_of_a_tensor(tmp_path):
    path = fr_folder(tmp_path) / "model.safetensors"
    tensors = load_file(path)
    tensors["fc.\nweight"] = tensors.pop("fc.weight")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(LoadingError, match=r"^[^\n]*fc\.\\nweight[^\n]*\Z"):
        load_fr_model(tmp_path)


@pytest.mark.parametrize("prefix", PREFIXES)
@torch.no_grad()
def test_a_prefix_is_named_and_taken_off(tmp_path, capsys, prefix):
    folder, expected = fr_folder(tmp_path / "fr"), load_fr_model(fr_folder(tmp_path / "whole"))(make_images(0))
    change(folder, with_prefix(prefix))
    match = f"no weights for .* begin with '{re.escape(prefix)}', `diffiqa convert {folder} NEW_FOLDER`"
    for load in (load_fr_model, IResNetModel.from_pretrained, AutoModel.from_pretrained):
        with pytest.raises(LoadingError, match=match):
            load(folder)
    assert main(["convert", str(folder), str(tmp_path / "new")]) == 0
    assert f"the prefix {prefix!r} taken off" in capsys.readouterr().out
    assert_close(load_fr_model(tmp_path / "new")(make_images(0)).embeddings, expected.embeddings)
    assert (tmp_path / "new" / "preprocessor_config.json").exists()
    # In its own place, and not where there is nothing to do.
    assert main(["convert", str(folder), str(folder), "--overwrite"]) == 0
    assert_close(load_fr_model(folder)(make_images(0)).embeddings, expected.embeddings)
    assert main(["convert", str(folder), str(tmp_path / "again")]) == 1
    assert "there is nothing to convert" in capsys.readouterr().err


@torch.no_grad()
def test_pickled_weights_lose_their_prefix_and_become_safetensors(tmp_path):
    folder, expected = fr_folder(tmp_path / "fr"), load_fr_model(fr_folder(tmp_path / "whole"))(make_images(0))
    tensors = with_prefix("module.")(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "training_args.bin").write_bytes(b"\x80\x02anything")
    assert main(["convert", str(folder), str(tmp_path / "new")]) == 0
    assert sorted(path.name for path in (tmp_path / "new").glob("*")) == [
        *("config.json", "model.safetensors", "preprocessor_config.json", "training_args.bin"),
    ]
    assert_close(load_fr_model(tmp_path / "new")(make_images(0)).embeddings, expected.embeddings)
    # In shards.
    names = list(tensors)
    parts = {f"pytorch_model-0000{i}-of-00002.bin": names[i - 1 :: 2] for i in (1, 2)}
    (folder / "pytorch_model.bin").unlink()
    for file, names in parts.items():
        torch.save({name: tensors[name] for name in names}, folder / file)
    weight_map = {name: file for file, names in parts.items() for name in names}
    index = json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map})
    (folder / "pytorch_model.bin.index.json").write_text(index)
    assert main(["convert", str(folder), str(tmp_path / "shards")]) == 0
    assert not list((tmp_path / "shards").glob("pytorch*"))
    assert_close(load_fr_model(tmp_path / "shards")(make_images(0)).embeddings, expected.embeddings)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_quality_model_and_a_unet_with_a_prefix(tmp_path, prefix):
    for folder, name in ((quality_folder(tmp_path / "quality"), ""), (pipeline_folder(tmp_path / "pipe"), "unet")):
        change(folder / name, with_prefix(prefix))
    match = f"begin with '{re.escape(prefix)}'"
    for load in (load_quality_model, DifFIQARModel.from_pretrained, AutoModelForFaceQuality.from_pretrained):
        with pytest.raises(LoadingError, match=match):
            load(tmp_path / "quality")
    with pytest.raises(LoadingError, match=f"{tmp_path / 'pipe' / 'unet'} is no DifFIQAUNetModel.*{match}"):
        DifFIQAPipeline.from_pretrained(tmp_path / "pipe")
    unet = tmp_path / "pipe" / "unet"
    assert main(["convert", str(unet), str(unet), "--overwrite"]) == 0
    DifFIQAPipeline.from_pretrained(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        (without("fc.weight"), "no weights for fc.weight$"),
        (lambda tensors: tensors | {"fc2.weight": torch.zeros(3)}, "weights that no part of the network is for: fc2"),
        (
            lambda tensors: tensors | {"head.score.bias": torch.zeros(1)},
            "is no .*no part of the network is for: head.s",
        ),
        (lambda tensors: tensors | {"fc.weight": torch.zeros(16, 3)}, "another shape: fc.weight 16x3 instead of 16x"),
        (lambda tensors: {"x": torch.zeros(1)}, "no weights for bn1.bias, .* and [0-9]+ more; .*: x$"),
    ],
)
def test_missing_left_over_and_of_another_shape(tmp_path, changed, match):
    folder, pipe = fr_folder(tmp_path / "fr"), pipeline_folder(tmp_path / "pipe")
    change(folder, changed)
    change(pipe / "fr_model", changed)
    with pytest.raises(LoadingError, match=match):
        load_fr_model(folder)
    with pytest.raises(LoadingError, match=match):
        DifFIQAPipeline.from_pretrained(pipe)


def test_a_folder_of_another_kind_is_called_so(tmp_path):
    with pytest.raises(LoadingError, match=f"^{tmp_path} is no pipeline: it has no model_index.json$"):
        DifFIQAPipeline.from_pretrained(tmp_path)
    with pytest.raises(LoadingError, match="no model_index.json; it has the config.json of a single model$"):
        DifFIQAPipeline.from_pretrained(quality_folder(tmp_path))


@torch.no_grad()
def test_the_backbone_of_a_quality_model_is_an_fr_model(tmp_path):
    expected = load_quality_model(quality_folder(tmp_path)).backbone(make_images(0)).embeddings
    assert_close(load_fr_model(tmp_path)(make_images(0)).embeddings, expected)


@pytest.mark.parametrize("changed", [{"depths": [1, 10**9, 1, 1]}, {"widths": [8, 60_000, 60_000, 8]}])
def test_a_network_that_is_larger_than_its_files_is_not_made(tmp_path, changed):
    path = fr_folder(tmp_path) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(LoadingError, match="config.json says .*, and there are"):
        load_fr_model(tmp_path)


@torch.no_grad()
def test_counters_are_not_missed(tmp_path):
    folder = fr_folder(tmp_path)
    expected = load_fr_model(folder)(make_images(0)).embeddings
    change(folder, lambda tensors: {name: x for name, x in tensors.items() if not name.endswith("tracked")})
    for load in (load_fr_model, IResNetModel.from_pretrained):
        model = load(folder)
        assert_close(model.eval()(make_images(0)).embeddings, expected)
        assert model.bn1.num_batches_tracked == 0


def test_the_sentences_of_clib_fiqa_are_not_made_up(tmp_path):
    model = CLIBFIQAForFaceQuality(CLIBFIQAConfig(depths=[1, 1], width=8, crop_size=[32, 32], embedding_size=16))
    model.save_pretrained(tmp_path)
    change(tmp_path, without("prompts"))
    for load in (load_quality_model, AutoModelForFaceQuality.from_pretrained):
        with pytest.raises(LoadingError, match="no weights for prompts$"):
            load(tmp_path)


def test_a_new_head_is_for_training_alone(tmp_path):
    fr_folder(tmp_path)
    match = "is no face quality model: it has no weights for head.score.bias, head.score.weight$"
    for load in (load_quality_model, DifFIQARModel.from_pretrained, lambda x: load_method("cr-fiqa", x)):
        with pytest.raises(LoadingError, match=match):
            load(tmp_path)
    for load in (lambda x: load_quality_model(x, new_head=True), AutoModelForFaceQuality.from_pretrained):
        assert load(tmp_path).head.score.weight.shape == (1, 16)
    change(tmp_path, without("fc.bias"))
    for load in (lambda x: load_quality_model(x, new_head=True), AutoModelForFaceQuality.from_pretrained):
        with pytest.raises(LoadingError, match="no weights for backbone.fc.bias$"):
            load(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_loaded_in_single(tmp_path, dtype):
    load_fr_model(fr_folder(tmp_path / "fr")).to(dtype).save_pretrained(tmp_path / "fr")
    load_quality_model(quality_folder(tmp_path / "quality")).to(dtype).save_pretrained(tmp_path / "quality")
    pipeline_folder(tmp_path / "pipe")
    DifFIQAPipeline.from_pretrained(tmp_path / "pipe", dtype=dtype).save_pretrained(tmp_path / "half", variant="fp16")
    models = [load_fr_model(tmp_path / "fr"), load_quality_model(tmp_path / "quality")]
    pipe = DifFIQAPipeline.from_pretrained(tmp_path / "half", variant="fp16")
    models += [DifFIQARModel.from_pretrained(tmp_path / "quality"), pipe.unet, pipe.fr_model]
    assert [model.dtype for model in models] == [torch.float32] * 5
    pipe = DifFIQAPipeline.from_pretrained(tmp_path / "half", variant="fp16", device_map="cpu")
    assert pipe.unet.dtype == pipe.fr_model.dtype == torch.float32
    half = DifFIQAPipeline.from_pretrained(tmp_path / "half", variant="fp16", dtype={"unet": dtype})
    assert half.unet.dtype == dtype and half.fr_model.dtype == torch.float32


def test_another_prefix_of_a_published_file(tmp_path):
    tensors = load_fr_model(fr_folder(tmp_path / "fr")).state_dict()
    config = load_fr_model(tmp_path / "fr").config
    for i, checkpoint in enumerate(
        [
            {"_orig_mod.module." + name: x for name, x in tensors.items()},
            {"state_dict": {"backbone_q." + name: x for name, x in tensors.items()}, "optimizer": {"state": {}}},
            {"epoch": 3, "trained": tensors, "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": []}},
            [{"epoch": 3}, {"net": {"module." + name: x for name, x in tensors.items()}}],
            {name: x for name, x in tensors.items() if not name.endswith("num_batches_tracked")},
        ]
    ):
        path = tmp_path / f"{i}.pth"
        torch.save(checkpoint, path)
        # The names are insightface's.
        assert main(["convert", str(path), str(tmp_path / f"{i}"), "--from", "insightface"]) == 0
        model = load_fr_model(tmp_path / f"{i}")
        assert model.config.depths == config.depths
        assert all(torch.equal(x, tensors[name]) for name, x in model.state_dict().items() if "tracked" not in name)
    torch.save({"teacher": tensors, "student": tensors}, tmp_path / "two.pth")
    with pytest.raises(ValueError, match="two.pth: several state dicts in it .teacher, student.: save the one"):
        load_fr_model(tmp_path / "two.pth")


# -- files that are no such files ------------------------------------------------------------------------------------


BAD = {
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 261192768\n",
    "HTML": b"<!DOCTYPE html><html><body>Sign in</body></html>",
    "empty file": b"",
    "truncated or damaged|no JSON": b"\x90\x01\0\0\0\0\0\0{",
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_files_are_named(tmp_path, capsys, reason):
    made = {"fr": fr_folder, "quality": quality_folder, "pipe": pipeline_folder}
    made = {name: make(tmp_path / name) for name, make in made.items()}
    method = ["--method", "cr-fiqa", "--weights"]
    for name, file, arguments in (
        ("fr", "model.safetensors", ["--fr-model"]),
        ("fr", "config.json", ["--fr-model"]),
        ("quality", "model.safetensors", method),
        ("quality", "config.json", method),
        ("quality", "calibration.json", method),
        ("pipe", "model_index.json", ["--model"]),
        ("pipe", "unet/diffusion_pytorch_model.safetensors", ["--model"]),
        ("pipe", "fr_model/config.json", ["--model"]),
        ("pipe", "image_processor/preprocessor_config.json", ["--model"]),
        ("pipe", "scheduler/scheduler_config.json", ["--model"]),
        ("pipe", "calibration.json", ["--model"]),
    ):
        path = made[name] / file
        before = path.read_bytes() if path.exists() else None
        path.write_bytes(BAD[reason])
        capsys.readouterr()  # bars
        assert main(["score", FACE, *arguments, str(made[name])]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and "Traceback" not in err, (file, err)
        assert str(path) in err and (re.search(reason, err) or "calibration" in file), (file, err)
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)


def test_a_detector_that_is_none(tmp_path, capsys):
    for reason, content in BAD.items():
        path = tmp_path / "face_detection_yunet_2023mar.onnx"
        path.write_bytes(content)
        assert main(["score", FACE, "--fast", "--device", "cpu", "--align", "--detector", str(path)]) != 0
        err = capsys.readouterr().err
        assert str(path) in err and "Traceback" not in err
        assert re.search(f"{reason}|OpenCV can read", err), err


# -- every command ---------------------------------------------------------------------------------------------------


def without_groups(err: str) -> str:
    """Without the line in which `best` says which images belong together."""
    return "".join(line for line in err.splitlines(keepends=True) if "--group-by" not in line)


def test_every_command_refuses_alike(tmp_path, capsys):
    fr, quality = fr_folder(tmp_path / "fr"), quality_folder(tmp_path / "quality")
    pipe, whole = pipeline_folder(tmp_path / "pipe"), pipeline_folder(tmp_path / "whole")
    for folder in (fr, quality, pipe / "fr_model"):
        change(folder, with_prefix("module."))
    capsys.readouterr()  # bars
    export = ["export", str(tmp_path / "out.onnx")]
    for command in (
        ["score", FACE, "--fr-model", str(fr)],
        ["score", FACE, "--model", str(pipe)],
        ["score", FACE, "--method", "faceqan", "--fr-model", str(fr)],
        ["score", FACE, "--method", "cr-fiqa", "--weights", str(quality)],
        ["best", FACE, "--group-by", "folder", "--model", str(pipe)],
        ["best", FACE, "--group-by", "folder", "--model", str(quality)],
        ["best", FACE, "--group-by", "folder", "--model", str(whole), "--fr-model", str(fr)],
        ["explain", FACE, "--output", str(tmp_path / "e"), "--model", str(pipe)],
        ["explain", FACE, "--output", str(tmp_path / "e"), "--model", str(quality)],
        ["calibrate", FACE, "--model", str(pipe), "--output", str(tmp_path / "c.json")],
        ["calibrate", FACE, "--model", str(quality), "--output", str(tmp_path / "c.json")],
        [export[0], str(quality), export[1]],
        ["push", str(fr), "a/b", "--dry-run"],
        ["push", str(quality), "a/b", "--dry-run"],
        ["push", str(pipe), "a/b", "--dry-run"],
    ):
        assert main(command) != 0, command
        err = without_groups(capsys.readouterr().err)
        assert err.count("\n") == 1 and "begin with 'module.'" in err and "diffiqa convert" in err, (command, err)
    fr_folder(fr)
    assert main([export[0], str(fr), export[1]]) != 0  # it has no head
    assert "it has no weights for head.score.bias" in capsys.readouterr().err and not (tmp_path / "out.onnx").exists()


def test_published_and_onnx_files(tmp_path, capsys):
    """Taken by every command, or refused by every one."""
    tensors = load_quality_model(quality_folder(tmp_path / "quality")).state_dict()
    cr_fiqa = {name.removeprefix("backbone.").replace("head.score.", "qs."): x for name, x in tensors.items()}
    torch.save(cr_fiqa, tmp_path / "cr_fiqa.pth")
    torch.save(load_fr_model(fr_folder(tmp_path / "fr")).state_dict(), tmp_path / "fr.pth")
    (tmp_path / "net.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    expected = load_method("cr-fiqa", tmp_path / "quality")([FACE]).scores.item()
    output, file = tmp_path / "scores.jsonl", str(tmp_path / "cr_fiqa.pth")
    quick = ["--device", "cpu", "--quiet"]
    assert main(["score", FACE, "--method", "cr-fiqa", "--weights", file, "--output", str(output), *quick]) == 0
    assert json.loads(output.read_text())["score"] == pytest.approx(expected, rel=1e-4)
    capsys.readouterr()
    assert main(["best", FACE, "--group-by", "folder", "--model", file, "--list", "--device", "cpu"]) == 0
    assert FACE in capsys.readouterr().out
    assert main(["score", FACE, "--model", file]) == 2  # it is no pipeline
    assert "a file does not say whose network it is; --method NAME does" in capsys.readouterr().err
    for command in (
        ["score", FACE, "--fr-model"],
        ["score", FACE, "--model"],
        ["score", FACE, "--method", "cr-fiqa", "--weights"],
        ["best", FACE, "--group-by", "folder", "--model"],
        ["explain", FACE, "--output", str(tmp_path / "e"), "--model"],
        ["calibrate", FACE, "--output", str(tmp_path / "c.json"), "--model"],
    ):
        assert main([*command, str(tmp_path / "net.onnx")]) == 2, command
        err = without_groups(capsys.readouterr().err)
        assert (
            err.count("\n") == 1
            and "net.onnx" in err
            and any(word in err for word in ("ONNX", "folder or a Hub id", "--method NAME"))
        ), err
        assert main([*command, str(tmp_path / "missing.pth")]) == 2, command
        err = without_groups(capsys.readouterr().err)
        assert err.count("\n") == 1 and "missing.pth" in err and "no such file" in err, err


# -- one pipeline made of another -------------------------------------------------------------------------------------


def test_another_pipeline_of_the_same_parts(caplog):
    pipe = DifFIQAPipeline.from_pretrained("default")
    assert pipe.calibration is not None
    assert pipe.config.num_timesteps != 5
    settings = {name: pipe.config[name] for name in ("num_timesteps", "num_inference_steps", "num_repeats")}
    for other in (DifFIQAPipeline.from_pipe(pipe), DifFIQAPipeline(**pipe.components, **settings)):
        assert other.calibration == pipe.calibration
        assert other.calibration_settings() == pipe.calibration_settings()
    assert not caplog.text
    assert DifFIQAPipeline.from_pretrained("default", fr_model=None).calibration == pipe.calibration
    other = DifFIQAPipeline(**pipe.components)
    assert other.calibration == pipe.calibration
    assert f"num_timesteps was {pipe.config.num_timesteps}, is 5" in caplog.text
    assert "from_pipe keeps them" in caplog.text
