# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The UNet of DifFIQA's authors: the same numbers as theirs, and the contract of a diffusers model."""

import copy
import json

import numpy as np
import pytest
import torch
from fixtures.close import assert_close
from fixtures.fill import fill_state_dict, make_images

from diffiqa_hf import DifFIQAUNetModel
from diffiqa_hf.models.unet_diffiqa.modeling_unet_diffiqa import ChannelLayerNorm, StandardizedConv2d


def tiny(**kwargs) -> DifFIQAUNetModel:
    torch.manual_seed(0)
    return DifFIQAUNetModel(**{"dim": 8, "dim_mults": (1, 2), "sample_size": 16, **kwargs}).eval()


def images(count: int, size: int = 16) -> torch.Tensor:
    return make_images(1, count, size)


@pytest.mark.shared
@pytest.mark.parametrize("dim", [16, pytest.param(128, marks=pytest.mark.slow)])
@torch.no_grad()
def test_same_numbers_as_the_original(shared_dir, dim):
    layout = json.loads((shared_dir / "parity" / f"diffiqa_unet_dim{dim}.json").read_text())
    expected = np.load(shared_dir / "parity" / f"diffiqa_unet_dim{dim}.npz")
    unet = DifFIQAUNetModel(dim=dim).eval()
    unet.load_state_dict(fill_state_dict(layout["shapes"], layout["salt"]), strict=True)
    if dim == 128:
        assert sum(parameter.numel() for parameter in unet.parameters()) == 142_872_835
    for time in (0, 4, 99):
        reference = torch.from_numpy(expected[f"unet_t{time}"])
        sample = make_images(layout["image_seed"], len(reference))
        assert (unet(sample, time).sample - reference).abs().max() < 1e-4


def test_published_size():
    # Figures of the published network: 276 tensors, 142,872,835 parameters.
    with torch.device("meta"):
        unet = DifFIQAUNetModel()
    assert len(unet.state_dict()) == 276
    assert sum(parameter.numel() for parameter in unet.parameters()) == 142_872_835


def test_key_names_are_those_of_the_published_checkpoint():
    shapes = {name: tuple(tensor.shape) for name, tensor in tiny().state_dict().items()}
    for name, shape in {
        "init_conv.weight": (8, 3, 7, 7),
        "time_mlp.1.weight": (32, 8),
        "time_mlp.3.bias": (32,),
        "downs.0.0.mlp.1.weight": (16, 32),
        "downs.0.1.block2.proj.weight": (8, 8, 3, 3),
        "downs.0.2.fn.fn.to_qkv.weight": (384, 8, 1, 1),
        "downs.0.2.fn.fn.to_out.1.g": (1, 8, 1, 1),
        "downs.0.2.fn.norm.g": (1, 8, 1, 1),
        "downs.0.3.weight": (8, 8, 4, 4),
        "downs.1.3.weight": (16, 8, 3, 3),
        "mid_block1.block1.norm.weight": (16,),
        "mid_attn.fn.fn.to_out.weight": (16, 128, 1, 1),
        "ups.0.0.res_conv.weight": (16, 24, 1, 1),
        "ups.0.3.1.weight": (8, 16, 3, 3),
        "ups.1.3.weight": (8, 8, 3, 3),
        "final_res_block.res_conv.weight": (8, 16, 1, 1),
        "final_conv.weight": (3, 8, 1, 1),
    }.items():
        assert shapes[name] == shape, name


@torch.no_grad()
def test_save_and_load(tmp_path):
    unet = tiny()
    unet.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert {key: value for key, value in saved.items() if not key.startswith("_")} == {
        "dim": 8,
        "dim_mults": [1, 2],
        "channels": 3,
        "sample_size": 16,
    }
    loaded = DifFIQAUNetModel.from_pretrained(tmp_path)
    assert loaded.config.block_out_channels == unet.config.block_out_channels == (8, 16)
    assert_close(loaded(images(2), 3).sample, unet(images(2), 3).sample)


@torch.no_grad()
def test_batch_invariance():
    unet, sample = tiny(), images(3)
    together = unet(sample, torch.tensor([0, 4, 99])).sample
    for i, time in enumerate((0, 4, 99)):
        torch.testing.assert_close(together[i : i + 1], unet(sample[i : i + 1], time).sample, atol=1e-5, rtol=0)


@torch.no_grad()
def test_time_matters_and_may_be_given_in_any_form():
    unet, sample = tiny(), images(2)
    expected = unet(sample, 4).sample
    assert (unet(sample, 99).sample - expected).abs().max() > 1e-4
    for time in (torch.tensor(4), torch.tensor([4]), torch.tensor([4, 4]), 4.0):
        assert_close(unet(sample, time).sample, expected)
    assert_close(unet(sample, 4, return_dict=False)[0], expected)


@torch.no_grad()
def test_standardised_weight():
    torch.manual_seed(0)
    conv = StandardizedConv2d(3, 4, 3)
    weight = conv.weight.double()
    mean, variance = weight.mean((1, 2, 3), keepdim=True), weight.var((1, 2, 3), unbiased=False, keepdim=True)
    expected = (weight - mean) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(conv.standardized_weight().double(), expected, atol=1e-5, rtol=0)
    # In half precision the result is rounded and nothing else: the epsilon stays, also where the variance is small.
    conv.weight.data = (0.01 * weight).bfloat16()
    reference = StandardizedConv2d(3, 4, 3)
    reference.weight.data = conv.weight.float()
    torch.testing.assert_close(conv.standardized_weight().float(), reference.standardized_weight(), atol=0, rtol=4e-3)


@torch.no_grad()
def test_channel_layer_norm():
    torch.manual_seed(0)
    norm, maps = ChannelLayerNorm(6), torch.randn(2, 6, 3, 4)
    norm.g.data.uniform_(0.5, 1.5)
    centred = maps.double() - maps.double().mean(1, keepdim=True)
    expected = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * norm.g
    for memory_format in (torch.contiguous_format, torch.channels_last):
        out = norm(maps.contiguous(memory_format=memory_format))
        torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_order_in_memory_of_the_images_does_not_matter():
    unet, sample = tiny(), images(2)
    expected = unet(sample, 4).sample
    out = unet(sample.contiguous(memory_format=torch.channels_last), 4).sample
    assert_close(out, expected)
    assert out.is_contiguous() and expected.is_contiguous()


def test_every_weight_gets_the_gradient_of_float64():
    unet = tiny()
    target = torch.linspace(-1, 1, 2 * 3 * 16 * 16).view(2, 3, 16, 16)
    times = torch.tensor([4, 99])
    (unet(images(2), times).sample * target).sum().backward()
    exact = copy.deepcopy(unet).double()
    exact.zero_grad()
    (exact(images(2).double(), times).sample * target).sum().backward()
    largest = max(parameter.grad.abs().max() for parameter in exact.parameters())
    for (name, parameter), reference in zip(unet.named_parameters(), exact.parameters(), strict=True):
        assert parameter.grad.any(), name
        assert (parameter.grad - reference.grad).abs().max() < 1e-5 * largest, name


@torch.no_grad()
@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16(autocast):
    unet = tiny()
    expected = unet(images(2), 500).sample
    if autocast:  # as in mixed-precision training: float32 weights
        with torch.autocast("cpu", torch.bfloat16):
            out = unet(images(2), 500).sample
    else:
        out = unet.to(torch.bfloat16)(images(2).bfloat16(), 500).sample
    assert out.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(out.float().flatten(1), expected.flatten(1)).min() > 0.999


def test_wrong_sizes():
    with pytest.raises(ValueError, match="multiples of 2, got 15x16"):
        tiny()(images(1)[:, :, 1:], 0)
    with pytest.raises(ValueError, match="multiple of 8"):
        tiny(dim=12)
