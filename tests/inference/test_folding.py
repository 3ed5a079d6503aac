# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Folding for inference: the same outputs from fewer layers, and the model itself left as it was."""

import copy

import pytest
import torch
from diffusers import UNet2DModel
from fixtures.close import assert_close
from fixtures.fill import fill_state_dict, make_images
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from diffiqa_hf import DifFIQAUNetModel
from diffiqa_hf.inference.folding import FrozenPReLU, fold
from diffiqa_hf.models import (
    DlibResNetConfig,
    DlibResNetModel,
    IResNetConfig,
    IResNetForFaceQuality,
    IResNetModel,
    LightQNetConfig,
    LightQNetForFaceQuality,
    MobileFaceNetConfig,
    MobileFaceNetForFaceQuality,
    MobileFaceNetModel,
    SDDFIQAConfig,
    SDDFIQAForFaceQuality,
)
from diffiqa_hf.models.unet_diffiqa.modeling_unet_diffiqa import StandardizedConv2d


SIZES = {"depths": (2, 1), "widths": (8, 16), "embedding_size": 16, "crop_size": (32, 28)}
STAGES = ((16, 8, 2, 2), (16, 8, 1, 2), (16, 8, 1, 2))
MODELS = {
    "arcface": lambda: IResNetModel(IResNetConfig(**SIZES)),
    "adaface": lambda: IResNetModel(
        IResNetConfig(
            **SIZES,
            channel_order="bgr",
            shortcut="subsample",
            final_norm_affine=False,
            normalize_embedding=True,
            dropout=0.4,
        )
    ),
    "curricularface": lambda: IResNetModel(
        IResNetConfig(**SIZES, mid_norm=False, shortcut="subsample", final_norm_affine=False)
    ),
    "magface": lambda: IResNetModel(IResNetConfig(**SIZES, bn_eps=2e-5, dropout=0.4, dropout_channels=True)),
    "dlib": lambda: DlibResNetModel(DlibResNetConfig(**{**SIZES, "crop_size": (32, 32)})),
    "mobilefacenet": lambda: MobileFaceNetModel(MobileFaceNetConfig(stages=STAGES, crop_size=(32, 28))),
    "mobilefacenet, relu6": lambda: MobileFaceNetModel(
        MobileFaceNetConfig(stages=STAGES, hidden_act="relu6", stem_pointwise=True, embedding_bias=True)
    ),
    "quality, iresnet": lambda: IResNetForFaceQuality(IResNetConfig(**SIZES, quality_hidden_size=8)),
    "quality, mobilefacenet": lambda: MobileFaceNetForFaceQuality(MobileFaceNetConfig(stages=STAGES)),
    "quality, lightqnet": lambda: LightQNetForFaceQuality(LightQNetConfig(stem_width=8)),
    "quality, sdd-fiqa": lambda: SDDFIQAForFaceQuality(SDDFIQAConfig(depths=(2, 1), widths=(8, 16))),
}


def build(name: str) -> nn.Module:
    model = MODELS[name]().eval()
    # Statistics, scales and shifts that are not those of a new model, where folding them wrongly would show nothing.
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    model.load_state_dict(fill_state_dict(shapes))
    return model


def build_unet() -> DifFIQAUNetModel:
    unet = DifFIQAUNetModel(dim=8, dim_mults=(1, 2, 4), sample_size=16).eval()
    unet.load_state_dict(fill_state_dict({key: tuple(value.shape) for key, value in unet.state_dict().items()}))
    return unet


def output(model: nn.Module, faces: torch.Tensor) -> torch.Tensor:
    output = model(faces)
    return output.scores if "scores" in output else output.embeddings


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_same_outputs(name):
    model = build(name)
    before = copy.deepcopy(model.state_dict())
    faces = make_images(0, 3)
    expected = output(model, faces)
    folded = fold(model)
    assert type(folded) is type(model) and folded.config is not model.config
    assert (output(folded, faces) - expected).abs().max() < 1e-5 * max(1, expected.abs().max())
    assert not any(isinstance(module, _BatchNorm) for module in folded.modules())
    # The model that was folded goes on as it was.
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)
    assert_close(output(model, faces), expected)


@pytest.mark.parametrize("name", ["adaface", "mobilefacenet", "quality, sdd-fiqa"])
@torch.no_grad()
def test_training_mode_changes_nothing(name):
    model = build(name)
    expected = output(model, make_images(0))
    folded = fold(model.train())
    assert model.training
    assert (output(folded.train(), make_images(0)) - expected).abs().max() < 1e-5 * max(1, expected.abs().max())


@pytest.mark.parametrize("name", ["arcface", "mobilefacenet"])
def test_gradient_reaches_the_pixels_alone(name):
    model = build(name)
    gradients = []
    for network in (model, fold(model)):
        faces = make_images(0).requires_grad_()
        network(faces).embeddings.sum().backward()
        gradients.append(faces.grad)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-4 * gradients[0].abs().max().item(), rtol=0)
    assert not any(parameter.requires_grad for parameter in fold(model).parameters())
    assert all(parameter.requires_grad for name, parameter in model.named_parameters() if name != "features.weight")


@pytest.mark.parametrize("slopes", [[0.25], [0.0, 0.3, 1.7, -0.4]])
@pytest.mark.parametrize("size", [(), (5, 3)])
def test_gradient_through_a_prelu_is_that_of_pytorch(slopes, size):
    prelu = nn.PReLU(len(slopes))
    prelu.weight.data = torch.tensor(slopes)
    generator = torch.Generator().manual_seed(0)
    hidden_states, gradient = torch.randn(2, 6, 4, *size, generator=generator)
    hidden_states[:2] = 0.0  # where there are two slopes
    found = []
    for module in (prelu, FrozenPReLU(prelu)):
        inputs = hidden_states.clone().requires_grad_()
        outputs = module(inputs)
        found.append((outputs, *torch.autograd.grad(outputs, inputs, gradient)))
    assert_close(found[1][0], found[0][0])
    assert_close(found[1][1], found[0][1])


@pytest.mark.parametrize("up", ["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"])
@torch.no_grad()
def test_upsampling_of_diffusers(up):
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16, 24),
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=(up,) * 3,
    ).eval()
    sample, time = torch.randn(3, 3, 16, 16), torch.tensor([1, 20, 300])
    expected = unet(sample, time).sample
    folded = fold(unet)
    assert (folded(sample, time).sample - expected).abs().max() < 1e-5
    # ResnetUpsampleBlock2D upsamples inside of a block, before two convolutions: nothing there is a pair.
    changed = sum(isinstance(module, nn.ConvTranspose2d) for module in folded.modules())
    assert changed == (0 if up == "ResnetUpsampleBlock2D" else 2)
    assert_close(unet(sample, time).sample, expected)


@torch.no_grad()
def test_unet():
    unet = build_unet()
    sample, times = make_images(1, 3, 16), torch.tensor([0, 4, 99])
    expected = unet(sample, times).sample
    folded = fold(unet)
    torch.testing.assert_close(folded(sample, times).sample, expected, atol=1e-5, rtol=1e-5)
    kinds = [type(module) for module in folded.modules()]
    assert StandardizedConv2d not in kinds and nn.Upsample not in kinds and kinds.count(nn.ConvTranspose2d) == 2
    assert sum(isinstance(module, StandardizedConv2d) for module in unet.modules()) > 0
    assert folded.config == unet.config and folded.dtype == torch.float32


@pytest.mark.parametrize("name", ["arcface", "mobilefacenet"])
@torch.no_grad()
def test_bfloat16(name):
    model = build(name)
    expected = output(model, make_images(0))
    out = output(fold(model).to(torch.bfloat16), make_images(0))
    assert out.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(out.float(), expected).min() > 0.999


@torch.no_grad()
def test_unet_in_bfloat16():
    unet = build_unet()
    sample = make_images(1, 2, 16)
    expected = unet(sample, 4).sample
    out = fold(unet).to(torch.bfloat16)(sample.bfloat16(), 4).sample
    assert torch.nn.functional.cosine_similarity(out.float().flatten(1), expected.flatten(1)).min() > 0.999


@pytest.mark.parametrize("build_model", [lambda: build("arcface"), build_unet])
def test_only_the_model_itself_is_saved(build_model, tmp_path):
    model = build_model()
    with pytest.raises(RuntimeError, match="save the model that it was made of"):
        fold(model).save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in model.state_dict().items())


@torch.no_grad()
def test_any_other_module_is_copied():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    model[1].running_mean.fill_(0.5)
    folded = fold(model)
    assert model.training and not folded.training
    assert_close(folded(make_images(0)), copy.deepcopy(model).eval()(make_images(0)))
