# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The pipeline's diffusion against the sampler of DifFIQA's authors, with their UNet and the same noise."""

import json
from itertools import count

import diffusers.schedulers.scheduling_ddim
import diffusers.schedulers.scheduling_ddpm
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from fixtures.fill import fill_state_dict, make_images, make_noise

from diffiqa_hf import DifFIQAPipeline, DifFIQAUNetModel, FaceImageProcessor, MobileFaceNetConfig, MobileFaceNetModel


SCHEDULE = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample", "clip_sample": True}


@pytest.fixture(scope="module")
def layout(shared_dir) -> dict:
    return json.loads((shared_dir / "parity" / "diffiqa_unet_dim16.json").read_text())


@pytest.fixture(scope="module")
def expected(shared_dir) -> dict[str, torch.Tensor]:
    arrays = np.load(shared_dir / "parity" / "diffiqa_unet_dim16.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture(scope="module", params=["ddpm", "ddim"])
def pipe(request, layout) -> DifFIQAPipeline:
    unet = DifFIQAUNetModel(dim=16).eval()
    unet.load_state_dict(fill_state_dict(layout["shapes"], layout["salt"]))
    if request.param == "ddpm":
        scheduler = DDPMScheduler(**SCHEDULE, variance_type="fixed_small")
    else:
        scheduler = DDIMScheduler(**SCHEDULE)
    # The FR model has no part in this.
    fr_model = MobileFaceNetModel(MobileFaceNetConfig(stages=[[8, 8, 1, 2], [8, 8, 1, 2], [8, 8, 1, 2]]))
    pipe = DifFIQAPipeline(unet, scheduler, fr_model.eval(), FaceImageProcessor())
    pipe.set_preset("official")
    return pipe


@pytest.mark.shared
def test_noise_levels(pipe, expected):
    torch.testing.assert_close(pipe.scheduler.alphas_cumprod[:100], expected["alphas_cumprod_100"], atol=1e-6, rtol=0)


@pytest.mark.shared
@pytest.mark.parametrize("timesteps", [5, 20])
def test_forward_process(pipe, layout, expected, timesteps):
    faces = make_images(layout["image_seed"])
    noisy = pipe.forward_process(faces, timesteps, make_noise(layout["noise_seed"], 0, faces.shape))
    torch.testing.assert_close(noisy, expected[f"noisy_t{timesteps}"], atol=1e-5, rtol=0)


@pytest.mark.shared
@pytest.mark.parametrize("timesteps", [5, 20])
@torch.no_grad()
def test_backward_process(pipe, layout, expected, timesteps, monkeypatch):
    # Both schedulers draw one noise a step by this function. The original draws once more at its duplicate last step,
    # where the noise has no weight.
    draws = count(1)

    def replay(shape, **kwargs):
        return make_noise(layout["noise_seed"], next(draws), tuple(shape))

    for module in (diffusers.schedulers.scheduling_ddpm, diffusers.schedulers.scheduling_ddim):
        monkeypatch.setattr(module, "randn_tensor", replay)
    restored = pipe.backward_process(expected[f"noisy_t{timesteps}"], timesteps)
    assert next(draws) >= timesteps  # the steps but the last have all drawn theirs
    assert (restored - expected[f"restored_t{timesteps}"]).abs().max() < 5e-3


@pytest.mark.shared
def test_save_and_load_with_this_unet(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = DifFIQAPipeline.from_pretrained(tmp_path)
    assert isinstance(loaded.unet, DifFIQAUNetModel)
    assert loaded.config.off_by_one and loaded.config.duplicate_last_step
    for name, tensor in pipe.unet.state_dict().items():
        assert torch.equal(tensor, loaded.unet.state_dict()[name])
