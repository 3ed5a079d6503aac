# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""From a foreign file to a folder: the model is the file's, and DEST is whole or as it was."""

import hashlib
import json
import re

import pytest
import torch
from fixtures.close import assert_close
from fixtures.fill import fill_state_dict, make_images
from methods.conftest import make_network
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from diffiqa_hf import DifFIQAPipeline, DifFIQAUNetModel, FaceImageProcessor, IResNetConfig, IResNetModel
from diffiqa_hf.conversion import DIALECTS, get_dialect
from diffiqa_hf.conversion.checkpoint import (
    ConvertedCheckpoint,
    check_dest,
    load_foreign,
    save_converted,
    written_beside,
)
from diffiqa_hf.conversion.loading import CheckpointError
from diffiqa_hf.methods import CARDS, load_method


def iresnet_tensors(**kwargs) -> dict[str, torch.Tensor]:
    """Tensors of a tiny IResNet under insightface's names, which are ours."""
    sizes = {"depths": [1, 2, 1, 1], "widths": [8, 8, 12, 16], "embedding_size": 24, **kwargs}
    shapes = {name: tensor.shape for name, tensor in IResNetModel(IResNetConfig(**sizes)).state_dict().items()}
    return fill_state_dict(shapes)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "backbone.pth"
    torch.save(iresnet_tensors(), path)
    return path


@pytest.mark.parametrize(
    ("dialect", "channel_order", "license_"), [("insightface", "rgb", "other"), ("magface", "bgr", "apache-2.0")]
)
@torch.no_grad()
def test_a_converted_folder(source, tmp_path, dialect, channel_order, license_):
    converted = load_foreign(source, dialect)
    save_converted(converted, tmp_path / "new" / "model")

    folder = tmp_path / "new" / "model"
    names = ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    model = AutoModel.from_pretrained(folder)
    assert type(model) is IResNetModel and model.config.channel_order == channel_order
    assert type(AutoImageProcessor.from_pretrained(folder)) is FaceImageProcessor
    assert model.config.weights_license == converted.dialect.license
    state_dict = model.state_dict()
    assert all(torch.equal(state_dict[name], tensor) for name, tensor in iresnet_tensors().items())
    faces = make_images(0)
    expected = converted.model(faces).embeddings
    assert_close(model(faces).embeddings, expected)

    card = (folder / "README.md").read_text()
    assert card.startswith(f"---\nlibrary_name: transformers\nlicense: {license_}\n")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    for fact in (
        "`backbone.pth`",
        digest,
        dialect,
        channel_order.upper(),
        f"{parameters:,}",
        converted.dialect.license,
    ):
        assert fact in card


QUALITY = {card.dialect: card for card in CARDS if card.dialect and card.networks}


def test_every_quality_dialect_has_the_card_of_its_method():
    quality = {}
    for dialect in DIALECTS:
        classes = [name.partition(":")[2] for name in dialect.model_classes]
        if any(name.endswith("ForFaceQuality") for name in classes):
            quality[dialect.name] = classes
    assert quality.keys() == QUALITY.keys()
    for name, classes in quality.items():
        assert {*classes} <= {*QUALITY[name].networks}


@pytest.mark.parametrize("dialect", list(QUALITY))
def test_the_folder_of_a_quality_model_says_what_is_true_of_it(tmp_path, monkeypatch, dialect):
    card, network = QUALITY[dialect], make_network(QUALITY[dialect].name)
    converted = ConvertedCheckpoint(network, get_dialect(dialect), "theirs.pth", "0" * 64, None, [])
    save_converted(converted, tmp_path / "this folder")
    small = Image.effect_noise((9, 9), 90).convert("RGB")
    small.resize((112, 112), Image.Resampling.BICUBIC).save(tmp_path / "face.png")

    text = (tmp_path / "this folder" / "README.md").read_text()
    for heading, fact in (("input", card.input), ("range", card.raw_range), ("direction", card.direction)):
        assert re.search(rf"^\| {heading} \| .*{re.escape(fact)} \|$", text, re.MULTILINE)
    assert "the middle" not in text.replace(card.input, "") and "not bounded" not in text
    assert f"--method {card.name} --weights" in text
    # Its example is run as it stands, and gives the scores of the network.
    monkeypatch.chdir(tmp_path)
    *lines, last = re.search(r"```python\n(.*?)\n```", text, re.DOTALL)[1].splitlines()
    names: dict = {}
    exec("\n".join(lines), names)
    method = load_method(card.name, weights=network, align=False)
    torch.testing.assert_close(eval(last, names), method("face.png").scores, atol=0, rtol=1e-5)
    # The saved image processor makes faces as the method does.
    processor = AutoImageProcessor.from_pretrained(tmp_path / "this folder")
    assert processor.to_dict() == method.image_processor.to_dict()
    side = 32 if dialect in ("lightqnet", "faceqnet", "clib-fiqa") else 112
    assert processor.size == {"height": side, "width": side}


def test_half_precision_becomes_single(tmp_path):
    torch.save({name: tensor.half() for name, tensor in iresnet_tensors().items()}, tmp_path / "half.pt")
    model = load_foreign(tmp_path / "half.pt", "insightface").model
    assert model.dtype == torch.float32
    assert torch.equal(model.conv1.weight, iresnet_tensors()["conv1.weight"].half().float())


def test_tensors_that_share_their_memory(tmp_path):
    tensors = iresnet_tensors()
    tensors["layer2.1.conv1.weight"] = tensors["layer2.1.conv2.weight"]
    torch.save(tensors, tmp_path / "shared.pt")
    save_converted(load_foreign(tmp_path / "shared.pt", "insightface"), tmp_path / "model")
    state_dict = AutoModel.from_pretrained(tmp_path / "model").state_dict()
    assert torch.equal(state_dict["layer2.1.conv1.weight"], tensors["layer2.1.conv2.weight"])


def renamed(old: str, new: str) -> dict[str, torch.Tensor]:
    return {name.replace(old, new): tensor for name, tensor in iresnet_tensors().items()}


WRONG = {
    "ambiguous": (iresnet_tensors(), None, "fit several dialects, say which with --from: insightface, magface$"),
    "other dialect": (
        iresnet_tensors(),
        "adaface",
        r"^not the tensors of adaface: missing input_layer\.0\.weight, .*; they look like insightface, magface$",
    ),
    "unknown": (
        renamed("prelu", "relu"),
        None,
        r"^of no known dialect \(insightface, .*\); its tensors are conv1\.weight, .*, \.\.\.$",
    ),
    "unknown, but said to be": (
        renamed("prelu", "relu"),
        "insightface",
        r"missing prelu\.weight; its tensors are conv1\.weight",
    ),
    "a quality head": (
        {**iresnet_tensors(), "qs.weight": torch.zeros(1)},
        "insightface",
        r"unexpected qs\.weight; they look like cr-fiqa$",
    ),
    "another layer": (
        renamed("layer2.1.bn2", "layer2.1.gn2"),
        "insightface",
        r"missing.* layer2\.1\.bn2\.weight.*unexpected.* layer2\.1\.gn2",
    ),
    "one missing": (
        {name: tensor for name, tensor in iresnet_tensors().items() if name != "fc.bias"},
        "insightface",
        r"missing.* fc\.bias",
    ),
    "another shape": (
        {**iresnet_tensors(), "fc.weight": torch.zeros(24, 9)},
        "insightface",
        r"fc\.weight has the shape \(24, 9\), not",
    ),
    "no shape": ({**iresnet_tensors(), "conv1.weight": torch.zeros(())}, "insightface", "^not the tensors of insight"),
    "NaN": (
        {**iresnet_tensors(), "bn1.bias": torch.full((8,), float("nan"))},
        "insightface",
        r"^NaN or infinite values in 1 tensors \(bn1\.bias\)$",
    ),
}


@pytest.mark.parametrize(("tensors", "dialect", "message"), list(WRONG.values()), ids=list(WRONG))
def test_a_wrong_architecture(tmp_path, tensors, dialect, message):
    torch.save(tensors, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=message) as raised:
        load_foreign(tmp_path / "weights.pth", dialect)
    assert "\n" not in str(raised.value)


# -- the UNet of DifFIQA's authors -----------------------------------------------------------------------------------

SCHEDULE = (
    "betas alphas_cumprod alphas_cumprod_prev sqrt_alphas_cumprod sqrt_one_minus_alphas_cumprod "
    "log_one_minus_alphas_cumprod sqrt_recip_alphas_cumprod sqrt_recipm1_alphas_cumprod posterior_variance "
    "posterior_log_variance_clipped posterior_mean_coef1 posterior_mean_coef2 p2_loss_weight"
).split()


def training_checkpoint() -> dict:
    """What the authors' trainer saves, around a tiny UNet. Our module names are theirs."""
    shapes = {name: tensor.shape for name, tensor in DifFIQAUNetModel(dim=8, dim_mults=(1, 2)).state_dict().items()}
    schedule = {name: torch.linspace(0, 1, 10) for name in SCHEDULE}

    def diffusion(salt: str) -> dict[str, torch.Tensor]:
        return schedule | {f"model.{name}": tensor for name, tensor in fill_state_dict(shapes, salt).items()}

    ema = {"initted": torch.tensor([True]), "step": torch.tensor([7])}
    ema |= {f"online_model.{name}": tensor for name, tensor in diffusion("raw").items()}
    ema |= {f"ema_model.{name}": tensor for name, tensor in diffusion("ema").items()}
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))]).state_dict()
    return {"step": 7, "model": diffusion("raw"), "opt": optimiser, "ema": ema, "scaler": None}


@pytest.mark.parametrize(("weights", "salt"), [(None, "ema"), ("ema", "ema"), ("model", "raw")])
def test_the_part_of_a_training_checkpoint_that_was_asked_for(tmp_path, weights, salt):
    torch.save(training_checkpoint(), tmp_path / "model.pt")
    converted = load_foreign(tmp_path / "model.pt", weights=weights)
    assert converted.dialect.name == "diffiqa"
    save_converted(converted, tmp_path / "unet")

    names = ["README.md", "config.json", "diffusion_pytorch_model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "unet").iterdir()) == names
    unet = DifFIQAUNetModel.from_pretrained(tmp_path / "unet")
    assert dict(unet.config) | {"dim": 8, "dim_mults": [1, 2], "channels": 3, "sample_size": 112} == dict(unet.config)
    state_dict = unet.state_dict()
    expected = fill_state_dict({name: tensor.shape for name, tensor in state_dict.items()}, salt)
    assert all(torch.equal(state_dict[name], expected[name]) for name in expected)
    card = (tmp_path / "unet" / "README.md").read_text()
    assert {"ema": "moving average", "raw": "raw weights"}[salt] in card
    assert "13 tensors of the training" in card and "library_name: diffusers" in card


def test_a_converted_unet_runs_in_the_pipeline(tmp_path):
    torch.save(training_checkpoint(), tmp_path / "model.pt")
    save_converted(load_foreign(tmp_path / "model.pt"), tmp_path / "unet")
    unet = DifFIQAUNetModel.from_pretrained(tmp_path / "unet")
    pipe = DifFIQAPipeline.from_pretrained("default", unet=unet)
    face = make_images(3, 1)[0] / 2 + 0.5
    assert pipe([face], num_timesteps=1, num_repeats=1).scores.isfinite().all()


def test_weights_that_are_not_there(source, tmp_path):
    with pytest.raises(CheckpointError, match="^no 'ema' weights in it$"):
        load_foreign(source, "insightface", weights="ema")
    torch.save({"model": training_checkpoint()["model"]}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="^no 'ema' weights in it, only model$"):
        load_foreign(tmp_path / "model.pt", weights="ema")
    assert load_foreign(tmp_path / "model.pt").dialect.name == "diffiqa"


# -- DEST ------------------------------------------------------------------------------------------------------------


def test_what_may_be_written_to(tmp_path):
    check_dest(tmp_path / "not there")
    (tmp_path / "empty").mkdir()
    check_dest(tmp_path / "empty")
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="is there already and is no folder"):
        check_dest(tmp_path / "file", overwrite=True)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileExistsError, match="is there already"):
        check_dest(tmp_path / "link", overwrite=True)
    with pytest.raises(FileExistsError, match="not empty"):
        check_dest(tmp_path)
    with pytest.raises(FileExistsError, match="holds no model"):
        check_dest(tmp_path, overwrite=True)


def test_overwriting_replaces_the_folder(source, tmp_path):
    converted, dest = load_foreign(source, "insightface"), tmp_path / "model"
    save_converted(converted, dest)
    (dest / "pytorch_model.bin").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        save_converted(converted, dest)
    save_converted(load_foreign(source, "magface"), dest, overwrite=True)
    assert not (dest / "pytorch_model.bin").exists()
    assert json.loads((dest / "config.json").read_text())["channel_order"] == "bgr"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backbone.pth", "model"]


def test_what_fails_while_it_is_written_leaves_dest_as_it_was(tmp_path):
    dest = tmp_path / "model"
    for before in ([], ["config.json"]):
        for name in before:
            dest.mkdir()
            (dest / name).write_text("old")
        with pytest.raises(KeyboardInterrupt), written_beside(dest) as folder:
            (folder / "config.json").write_text("new")
            raise KeyboardInterrupt
        assert sorted(path.name for path in tmp_path.iterdir()) == (["model"] if before else [])
    assert (dest / "config.json").read_text() == "old"


def test_a_link_is_followed(source, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    save_converted(load_foreign(source, "insightface"), tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "model.safetensors").exists()


def test_a_file_name_may_hold_anything(tmp_path):
    odd = tmp_path / "two\nlines`\udcff.pth"
    torch.save(iresnet_tensors(), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "a.pth").rename(odd)
    save_converted(load_foreign(odd, "insightface"), tmp_path / "model")
    assert r"two lines'\udcff.pth" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")

    # The reader of the newer format is not Python's.
    torch.save(iresnet_tensors(), tmp_path / "a.pth")
    (tmp_path / "a.pth").rename(odd)
    with pytest.raises(CheckpointError, match="whose name is not UTF-8"):
        load_foreign(odd, "insightface")


def test_a_message_is_one_line_whatever_it_quotes():
    assert str(CheckpointError("unexpected blocks.0.\nproject.weight")) == "unexpected blocks.0.\\nproject.weight"
