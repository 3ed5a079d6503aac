# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The weights that come with the package. An earlier version saved them, so loading them also tests that saved
pipelines keep loading."""

from pathlib import Path

import pytest
import torch

import diffiqa_hf
from diffiqa_hf import DifFIQAPipeline


FOLDER = Path(diffiqa_hf.__file__).parent / "checkpoints"
FACES = Path(__file__).parents[1] / "examples" / "faces"


@pytest.fixture(scope="module")
def pipe() -> DifFIQAPipeline:
    pipe = DifFIQAPipeline.from_pretrained("default")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_small_and_safe():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12_000_000
    assert {path.suffix for path in files} == {".json", ".md", ".safetensors"}


def test_loads_in_full_precision(pipe):
    # Stored in half precision, computed in single.
    assert pipe.unet.dtype == pipe.fr_model.dtype == torch.float32
    assert pipe.config.num_timesteps <= 100  # what the UNet was trained for


def test_restores(pipe):
    """What the UNet makes of a noisy face is closer to the face than the noisy one is."""
    face = pipe.image_processor([FACES / "astronaut.jpg"], return_tensors="pt").pixel_values
    noise = torch.randn(face.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        noisy = pipe.forward_process(face, 100, noise)
        restored = pipe.backward_process(noisy, 100, 1)
    assert (restored - face).pow(2).mean() < 0.5 * (noisy - face).pow(2).mean()


def test_the_same_person_is_closer(pipe):
    faces = ["astronaut.jpg", "astronaut_2_medium.jpg", "sample3_smile.jpg", "sample3_smile_2_medium.jpg"]
    pixels = pipe.image_processor([FACES / name for name in faces], return_tensors="pt").pixel_values
    with torch.no_grad():
        embeddings = torch.nn.functional.normalize(pipe.embed(pixels))
    similarity = embeddings @ embeddings.T
    assert min(similarity[0, 1], similarity[2, 3]) > max(similarity[0, 2], similarity[0, 3], similarity[1, 2])
