# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Winograd's convolution against PyTorch's."""

import pytest
import torch
from fixtures.fill import fill_state_dict, make_images
from torch import nn

from diffiqa_hf import DifFIQAUNetModel, IResNetConfig, IResNetModel
from diffiqa_hf.inference import winograd
from diffiqa_hf.inference.folding import fold
from diffiqa_hf.inference.winograd import WinogradConv2d


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
# Whole tiles, sides that are no multiple of 4, less than one tile, more tiles than are worked on at once.
@pytest.mark.parametrize("size", [(16, 16), (7, 13), (3, 2), (1, 1), (60, 44)])
@torch.no_grad()
def test_same_as_the_convolution(size, batch, bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, 3, padding=1, bias=bias)
    faces = torch.randn(batch, 5, *size)
    expected = conv(faces)
    for layout in (torch.contiguous_format, torch.channels_last):
        out = WinogradConv2d(conv)(faces.contiguous(memory_format=layout))
        assert out.shape == expected.shape
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("tiles", [1, 4, 1000])
@torch.no_grad()
def test_pieces_change_nothing(monkeypatch, tiles):
    conv = nn.Conv2d(4, 4, 3, padding=1)
    faces = torch.randn(3, 4, 17, 9)
    monkeypatch.setattr(winograd, "_TILES_AT_ONCE", tiles)
    torch.testing.assert_close(WinogradConv2d(conv)(faces), conv(faces), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, 2, padding=1),
        nn.Conv2d(4, 4, 5, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding=1).bfloat16(),
        nn.ConvTranspose2d(4, 4, 3, padding=1),
    ],
)
def test_what_it_is_not_for(module):
    assert not WinogradConv2d.accepts(module)
    with pytest.raises(ValueError, match="not a dense 3x3"):
        WinogradConv2d(module)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@torch.no_grad()
def test_in_another_precision_it_is_the_convolution(dtype):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 3, padding=1)
    faces = torch.randn(2, 4, 9, 8)
    converted = WinogradConv2d(conv).to(dtype)
    expected = conv.to(dtype)(faces.to(dtype))
    for network in (converted, converted.float().to(dtype)):
        tolerance = torch.finfo(dtype).eps * 8 * expected.abs().max().item()
        torch.testing.assert_close(network(faces.to(dtype)), expected, atol=tolerance, rtol=0)


@torch.no_grad()
def test_networks_with_it():
    fr_model = IResNetModel(IResNetConfig(depths=(1, 1, 1), widths=(16, 128, 128), crop_size=(32, 28))).eval()
    unet = DifFIQAUNetModel(dim=64, dim_mults=(1, 2), sample_size=16).eval()
    for model in (fr_model, unet):
        model.load_state_dict(fill_state_dict({key: tuple(x.shape) for key, x in model.state_dict().items()}))
    folded = fold(fr_model, winograd=True), fold(unet, winograd=True)
    faces, sample = make_images(0, 2), make_images(1, 2, 16)
    for new, old in (
        (folded[0](faces).embeddings, fr_model(faces).embeddings),
        (folded[1](sample, 4).sample, unet(sample, 4).sample),
    ):
        assert (new - old).abs().max() < 1e-4 * old.abs().max()
    assert all(any(isinstance(module, WinogradConv2d) for module in model.modules()) for model in folded)
    # Narrow convolutions stay: there it would not be faster.
    left = [module for module in folded[0].modules() if isinstance(module, nn.Conv2d)]
    assert any(WinogradConv2d.accepts(conv) for conv in left)
    assert all(min(conv.in_channels, conv.out_channels) < 128 for conv in left if WinogradConv2d.accepts(conv))
