# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""dlib's ResNet: how canonical faces become its chips. (tests/conversion/dialects/test_dlib.py has its layers.)"""

import numpy as np
import pytest
import torch
from fixtures.fill import make_images

from diffiqa_hf import DlibResNetConfig, DlibResNetModel
from diffiqa_hf.alignment import ARCFACE_TEMPLATE, arcface_template


# What dlib's chips of 150 pixels are aligned to: the five points of its mean face, from its 68 (see the model's file).
CHIP_POINTS = np.array([[47.549, 46.599], [100.476, 46.599], [74.013, 76.563], [50.415, 103.023], [97.610, 103.023]])


def make_model(**kwargs) -> DlibResNetModel:
    torch.manual_seed(0)
    sizes = {"depths": [1, 1], "widths": [4, 6], "embedding_size": 5, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return DlibResNetModel(DlibResNetConfig(**{**sizes, **kwargs})).eval()


def chip_coordinates(size: int = 150, face_size: int = 112) -> tuple[torch.Tensor, torch.Tensor]:
    """Faces whose colours are their x and y, as chips: where each pixel of a chip comes from."""
    y, x = torch.meshgrid(*[torch.arange(face_size, dtype=torch.float32)] * 2, indexing="ij")
    model = make_model(chip_size=size, crop_size=[face_size, face_size])
    chip = model.prepare_faces(torch.stack([x, y, y])[None])[0]
    assert chip.shape == (3, size, size)
    return chip[0], chip[1]


@pytest.mark.parametrize(("size", "face_size"), [(150, 112), (300, 112), (150, 224), (100, 112)])
def test_chips_are_the_best_fit_of_the_template(size, face_size):
    x, y = chip_coordinates(size, face_size)
    points, template = CHIP_POINTS, ARCFACE_TEMPLATE
    # The least-squares scale and shift, between pixels of 112 and of 150.
    scale = ((points - points.mean(0)) * (template - template.mean(0))).sum() / (
        (template - template.mean(0)) ** 2
    ).sum()
    shift = points.mean(0) - scale * template.mean(0)
    pixels = (np.arange(size) + 0.5) * 150 / size - 0.5
    for found, expected in (
        (x[size // 2].numpy(), (pixels - shift[0]) / scale),
        (y[:, size // 2].numpy(), (pixels - shift[1]) / scale),
    ):
        expected = (expected + 0.5) * face_size / 112 - 0.5
        inside = (expected > 1) & (expected < face_size - 2)
        assert inside.mean() > 0.8
        np.testing.assert_allclose(found[inside], expected[inside], atol=2e-3 if size > face_size else 0.1)
    assert arcface_template((face_size, face_size)).max() < face_size


def test_the_last_row_goes_on():
    _, y = chip_coordinates()
    torch.testing.assert_close(y[-9:], torch.full_like(y[-9:], 111))
    assert y[120, 0] < 111


def test_a_face_of_one_colour_is_a_chip_of_that_colour():
    faces = torch.tensor([-1.0, 0.25, 1.0]).view(1, 3, 1, 1).expand(1, 3, 112, 112)
    for size in (150, 64):
        chips = make_model(chip_size=size).prepare_faces(faces)
        torch.testing.assert_close(chips, faces[:, :, :1, :1].expand(1, 3, size, size))


def test_the_published_scale():
    config = DlibResNetConfig()
    with torch.device("meta"):
        assert DlibResNetModel(config).num_parameters() == 5_614_592
    model = make_model(image_mean=config.image_mean, image_std=config.image_std)
    prepared = model.prepare_faces(torch.ones(1, 3, 112, 112))[0, :, 75, 75]  # white
    torch.testing.assert_close(prepared, (255 - torch.tensor([122.782, 117.001, 104.298])) / 256)


def test_gradients_are_those_of_differences():
    torch.manual_seed(0)
    model = make_model(crop_size=[14, 14], chip_size=24).double()
    faces = torch.rand(1, 3, 14, 14, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model(x).embeddings, faces, fast_mode=True)
    model(faces).embeddings.sum().backward()
    # A chip begins at pixel 5 of the 112 to the left, and at 20 from above.
    assert (faces.grad[0, :, 3:, 1:-1] != 0).any(dim=1).all()


def test_chips_as_they_are():
    model = make_model(chip_size=None, crop_size=[150, 150])
    chips = make_images(0, 2)[:, :, :1, :1].expand(2, 3, 150, 150)
    torch.testing.assert_close(model.prepare_faces(chips), chips)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"depths": [1, 2, 3]}, "as many positive numbers"),
        ({"depths": [], "widths": []}, "as many positive numbers"),
        ({"depths": [1, 0]}, "as many positive numbers"),
        ({"widths": [6, 4]}, "widths grow"),
        ({"crop_size": [112, 96]}, "square faces"),
    ],
)
def test_wrong_configurations(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_model(**kwargs)
