# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The registry of dialects: each entry is whole, is told from the others, and converts a file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fixtures import face_vit
from fixtures.fill import fill_state_dict, make_images

from diffiqa_hf import DifFIQAUNetModel
from diffiqa_hf.conversion import DIALECTS, get_dialect, recognise
from diffiqa_hf.conversion.checkpoint import load_foreign, save_converted


def read_layout(name: str) -> dict[str, list[int]]:
    path = Path(__file__).parents[1] / "fixtures" / f"{name}.json"
    return json.loads(path.read_text())["shapes"]


def norm(name: str, width: int) -> dict[str, list[int]]:
    layout = {f"{name}.{kind}": [width] for kind in ("weight", "bias", "running_mean", "running_var")}
    return layout | {f"{name}.num_batches_tracked": []}


# Channels that go in, inside and out.
BLOCKS = [(64, 128, 64), (64, 128, 128), (128, 256, 128)]


def xiaoccer_layout() -> dict[str, list[int]]:
    """Three blocks of Xiaoccer's MobileFaceNet, each of which halves the resolution."""
    layout = {}
    outside = [("conv1", 64, 3, 3, 3), ("dw_conv1", 64, 1, 3, 3), ("conv2", 512, 128, 1, 1), ("linear7", 512, 1, 7, 6)]
    for name, width, *kernel in [*outside, ("linear1", 128, 512, 1, 1)]:
        layout |= {f"{name}.conv.weight": [width, *kernel], **norm(f"{name}.bn", width)}
        if not name.startswith("linear"):
            layout[f"{name}.prelu.weight"] = [width]
    for i, (width, hidden, wider) in enumerate(BLOCKS):
        name = f"blocks.{i}.conv"
        layout |= {
            f"{name}.0.weight": [hidden, width, 1, 1],
            **norm(f"{name}.1", hidden),
            f"{name}.2.weight": [hidden],
        }
        layout |= {f"{name}.3.weight": [hidden, 1, 3, 3], **norm(f"{name}.4", hidden), f"{name}.5.weight": [hidden]}
        layout |= {f"{name}.6.weight": [wider, hidden, 1, 1], **norm(f"{name}.7", wider)}
    return layout


def foamliu_layout() -> dict[str, list[int]]:
    """The same network as foamliu writes it."""
    layout = {"conv1.0.weight": [64, 3, 3, 3], **norm("conv1.1", 64)}
    layout |= {"dw_conv.depthwise.weight": [64, 1, 3, 3], **norm("dw_conv.bn1", 64)}
    layout |= {"dw_conv.pointwise.weight": [64, 64, 1, 1], **norm("dw_conv.bn2", 64)}
    for i, (width, hidden, wider) in enumerate(BLOCKS):
        name = f"features.{i}.conv"
        layout |= {f"{name}.0.0.weight": [hidden, width, 1, 1], **norm(f"{name}.0.1", hidden)}
        layout |= {f"{name}.1.0.weight": [hidden, 1, 3, 3], **norm(f"{name}.1.1", hidden)}
        layout |= {f"{name}.2.weight": [wider, hidden, 1, 1], **norm(f"{name}.3", wider)}
    layout |= {"conv2.0.weight": [512, 128, 1, 1], **norm("conv2.1", 512)}
    layout |= {"gdconv.depthwise.weight": [512, 1, 7, 7], **norm("gdconv.bn", 512)}
    return layout | {"conv3.weight": [128, 512, 1, 1], "conv3.bias": [128], **norm("bn", 128)}


def unet_layout() -> dict[str, list[int]]:
    with torch.device("meta"):
        unet = DifFIQAUNetModel(dim=8, dim_mults=(1, 2))
    return {name: list(tensor.shape) for name, tensor in unet.state_dict().items()}


IRESNET = read_layout("insightface_iresnet18")
MLP = {"mlp.l1.weight": [1024, 512], "mlp.l1.bias": [1024], "mlp.l2.weight": [1, 1024], "mlp.l2.bias": [1]}
# Dialect -> layouts that are its own. For the parity fixtures they are those of the originals.
LAYOUTS = {
    "insightface-mbf": [read_layout("insightface_mbf")],
    "adaface": [read_layout("adaface_ir18"), read_layout("adaface_ir101")],
    "curricularface": [read_layout("curricularface_ir50"), read_layout("curricularface_ir101")],
    "xiaoccer": [xiaoccer_layout()],
    "foamliu": [foamliu_layout()],
    "diffiqa": [unet_layout()],
    "diffiqa-r": [{f"base.{k}": v for k, v in IRESNET.items()} | {"linear.weight": [1, 512], "linear.bias": [1]}],
    "ediffiqa": [{f"base_model.{k}": v for k, v in IRESNET.items()} | MLP, read_layout("ediffiqa_t_mobilefacenet")],
    "cr-fiqa": [IRESNET | {"qs.weight": [1, 512], "qs.bias": [1]}],
    "sdd-fiqa": [read_layout("sddfiqa_r50")],
    "insightface-vit": [face_vit.layout("insightface")],
    "cvlface-vit": [face_vit.layout(f"cvlface_{kind}") for kind in ("small", "base", "kprpe")],
    "vit-fiqa": [face_vit.layout(f"vit_fiqa_{mode}") for mode in ("token", "full", "crfiqa")],
}
EVERY_LAYOUT = [(name, layout) for name, layouts in LAYOUTS.items() for layout in layouts]
EVERY_LAYOUT += [("insightface", IRESNET), ("magface", IRESNET)]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_entry_is_whole(dialect):
    assert dialect.load_converter().__annotations__.keys() & {"state_dict", "tensors"}
    classes = dialect.load_model_classes()
    assert classes and all(hasattr(cls, "from_pretrained") for cls in classes)
    assert dialect.source.startswith("https://") and dialect.description and dialect.license and dialect.license_id
    assert get_dialect(dialect.name) is dialect
    assert [d.name for d in DIALECTS].count(dialect.name) == 1
    # LightQNet's files are not torch's: tests/methods/test_lightqnet.py has them.
    assert dialect.name in (
        "lightqnet",
        "pfe",
        "faceqnet",
        "clib-fiqa",
        "insightface-mxnet",
        "dlib",
    ) or dialect.name in [name for name, _ in EVERY_LAYOUT]


@pytest.mark.parametrize(("name", "layout"), EVERY_LAYOUT)
def test_recognition(name, layout):
    expected = ["insightface", "magface"] if name in ("insightface", "magface") else [name]
    assert [dialect.name for dialect in recognise(layout)] == expected


def test_other_networks_are_not_recognised():
    # Of torchvision's ResNet.
    assert recognise(["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer1.0.bn3.weight", "fc.weight"]) == []
    assert recognise([]) == []


def test_the_wrapper_tells_magface_from_insightface():
    for prefix in ("features.module.", "module.features."):
        assert [dialect.name for dialect in recognise(IRESNET, prefix)] == ["magface"]
    assert len(recognise(IRESNET, "module.")) == 2


@pytest.mark.parametrize(("name", "layout"), EVERY_LAYOUT)
@torch.no_grad()
def test_a_file_of_every_dialect_becomes_a_folder_that_loads(tmp_path, name, layout):
    # An eighth as wide as the original; the UNet and the transformers are small already.
    narrow = 1 if name == "diffiqa" or "vit" in name else 8
    shapes = {k: [size // narrow if size >= 64 else size for size in shape] for k, shape in layout.items()}
    torch.save({"state_dict": {f"module.{k}": v for k, v in fill_state_dict(shapes).items()}}, tmp_path / "file.pth")
    converted = load_foreign(tmp_path / "file.pth", name if name in ("insightface", "magface") else None)
    assert converted.dialect.name == name
    save_converted(converted, tmp_path / "model")

    model = type(converted.model).from_pretrained(tmp_path / "model")
    assert type(model) in converted.dialect.load_model_classes()
    # No tensor is lost, none made up.
    counted = sorted(tensor.numel() for tensor in model.state_dict().values())
    assert counted == sorted(tensor.numel() for tensor in fill_state_dict(shapes).values())
    inputs = (make_images(0), 4) if name == "diffiqa" else (make_images(0),)
    outputs = tuple(model(*inputs).values())
    expected = tuple(converted.model(*inputs).values())
    for actual, wanted in zip(outputs, expected, strict=True):
        assert actual.isfinite().all()
        torch.testing.assert_close(actual, wanted)
    assert name in (tmp_path / "model" / "README.md").read_text()


def test_an_unknown_name():
    with pytest.raises(ValueError, match="unknown dialect 'arcface'; there are insightface, "):
        get_dialect("arcface")


def test_the_registry_is_read_without_torch():
    code = "import sys, diffiqa_hf.conversion; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
