# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What an explanation says is what the score is made of."""

import numpy as np
import pytest
import torch
from fixtures.close import assert_close
from fixtures.networks import make_scheduler, make_unet
from PIL import Image
from torch.nn.functional import cosine_similarity

from diffiqa_hf import (
    DifFIQAPipeline,
    FaceImageError,
    FaceImageProcessor,
    IResNetConfig,
    IResNetForFaceQuality,
    IResNetModel,
)
from diffiqa_hf.calibration import fit_calibration
from diffiqa_hf.explanation import draw_explanation, draw_map, explain, integrated_gradients
from diffiqa_hf.pipeline_output import TERMS


SIZE = 32
CONFIG = {"depths": [1, 1, 1, 1], "widths": [8, 8, 8, 8], "embedding_size": 16, "crop_size": [SIZE, SIZE]}


@pytest.fixture(scope="module")
def pipe() -> DifFIQAPipeline:
    torch.manual_seed(0)
    unet = make_unet(SIZE)
    scheduler = make_scheduler()
    processor = FaceImageProcessor(size={"height": SIZE, "width": SIZE})
    fr_model = IResNetModel(IResNetConfig(**CONFIG)).eval()
    return DifFIQAPipeline(unet.eval(), scheduler, fr_model, processor, num_timesteps=20, num_repeats=3)


@pytest.fixture(scope="module")
def model() -> IResNetForFaceQuality:
    torch.manual_seed(0)
    return IResNetForFaceQuality(IResNetConfig(**CONFIG)).eval()


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def processor() -> FaceImageProcessor:
    return FaceImageProcessor(size={"height": SIZE, "width": SIZE})


# -- integrated gradients ---------------------------------------------------------------------------------------------


def test_of_a_linear_function_each_pixel_has_its_own_part():
    generator = torch.Generator().manual_seed(0)
    weights, start, end = torch.randn(3, 2, 3, 4, 5, generator=generator)
    maps = integrated_gradients(lambda x: (weights * x).sum((1, 2, 3)), start, end, num_points=1)
    torch.testing.assert_close(maps, (weights * (end - start)).sum(1))


def test_of_a_polynomial_the_sum_is_exact():
    generator = torch.Generator().manual_seed(1)
    start, end = torch.randn(2, 2, 3, 4, 4, generator=generator)

    def function(x):
        return (x**3 - 2 * x**2).sum((1, 2, 3)) + x[:, 0, 0, 0] * x[:, 1, 1, 1]

    # Two points of the Gauss-Legendre rule are exact for the gradient, which is of degree 2.
    maps = integrated_gradients(function, start, end, num_points=2)
    torch.testing.assert_close(maps.sum((1, 2)), function(end) - function(start), rtol=1e-5, atol=1e-5)


# -- DifFIQA ----------------------------------------------------------------------------------------------------------


def test_numbers_and_images_are_those_of_the_score(pipe, face):
    output = pipe(face, seed=3, output_images=True)
    explanation = explain(pipe, face, seed=3)
    assert explanation.score == pytest.approx(output.scores.item(), abs=1e-5)
    assert {name: pytest.approx(output.terms[name].item(), abs=1e-5) for name in TERMS} == explanation.terms
    torch.testing.assert_close(explanation.images["noisy"], output.noisy[0])
    torch.testing.assert_close(explanation.images["restored"], output.restored[0], atol=1e-5, rtol=0)
    assert set(explanation.images) == {"input", *TERMS}
    assert explanation.percentile is None and explanation.level is None
    # The images of the mirrored side have its similarities: with one copy, exactly those.
    one = explain(pipe, face, num_repeats=1)
    with torch.no_grad():
        embeddings = {name: pipe.embed(image[None]) for name, image in one.images.items()}
    for name in TERMS:
        similarity = cosine_similarity(embeddings["input"], embeddings[name]).item()
        assert similarity == pytest.approx(one.terms[name], abs=1e-5)


def test_the_map_sums_up_to_what_the_restoration_moved(pipe, face):
    for settings in ({}, {"num_timesteps": 200, "num_inference_steps": 1}, {"num_repeats": 1, "seed": 5}):
        explanation = explain(pipe, face, **settings)
        assert explanation.attribution.shape == (SIZE, SIZE)
        moved = 1 - explanation.terms["restored"]
        assert moved > 0
        assert explanation.attribution.sum() == pytest.approx(moved, rel=0.05, abs=1e-5)


def test_where_the_restoration_changes_nothing_the_map_is_empty(pipe, face):
    """What the FR model sees is changed in one half of the face alone: the map is 0 in the other."""
    crop = pipe.image_processor(face, return_tensors="pt").pixel_values
    changed = crop.clone()
    changed[..., : SIZE // 2] += 0.3
    with torch.no_grad():
        reference = pipe.embed(crop)
    maps = integrated_gradients(lambda x: 1 - cosine_similarity(reference, pipe.embed(x)), crop, changed)[0]
    assert (maps[:, SIZE // 2 :] == 0).all() and maps[:, : SIZE // 2].abs().sum() > 0


def test_an_explanation_leaves_the_pipeline_as_it_was(pipe, face):
    before = pipe(face).scores
    explain(pipe, face)
    assert_close(pipe(face).scores, before)
    assert all(parameter.grad is None for parameter in pipe.fr_model.parameters())
    with torch.no_grad():  # of a caller
        assert np.abs(explain(pipe, face).attribution).sum() > 0


def test_an_explanation_is_made_where_gradients_are_off(pipe, model, face, processor):
    for explained, extra in ((pipe, {}), (model, {"image_processor": processor})):
        expected = explain(explained, face, **extra)
        for without in (torch.no_grad, torch.inference_mode):
            with without():
                found = explain(explained, face, **extra)
            assert_close(found.attribution, expected.attribution)


def test_percentile_and_level_of_a_calibrated_pipeline(pipe, face):
    score = pipe(face).scores.item()
    pipe.calibration = fit_calibration([score - 0.1, score, score + 0.1], settings=pipe.calibration_settings())
    try:
        assert explain(pipe, face).percentile == pytest.approx(50, abs=1)
        assert explain(pipe, face, num_repeats=1).percentile is None
    finally:
        pipe.calibration = None


def test_bad_images(pipe, model, processor, tmp_path):
    for explained in (pipe, model):
        with pytest.raises(FaceImageError, match="no such file"):
            explain(explained, tmp_path / "missing.png", image_processor=processor)


def test_broken_weights(face, processor):
    model = IResNetForFaceQuality(IResNetConfig(**CONFIG)).eval()
    torch.nn.init.constant_(model.head.score.weight, float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        explain(model, face, image_processor=processor)


# -- a quality model --------------------------------------------------------------------------------------------------


def test_the_map_of_a_quality_model_sums_up_to_what_detail_is_worth(model, face, processor):
    calibration = fit_calibration(*_small_study())
    explanation = explain(model, face, image_processor=processor, calibration=calibration)
    crops = torch.stack([explanation.images["input"], explanation.images["blurred"]])
    with torch.no_grad():
        scores = model(crops).scores.tolist()
    assert [explanation.score, explanation.terms["blurred"]] == pytest.approx(scores, abs=1e-5)
    assert torch.equal(crops[:1], processor(face, return_tensors="pt").pixel_values)
    assert crops[1].std() < crops[0].std()
    assert explanation.attribution.sum() == pytest.approx(scores[0] - scores[1], rel=0.1, abs=1e-4)
    assert explanation.percentile == calibration.percentiles(scores[0])
    assert explanation.level == calibration.level(explanation.percentile)


def _small_study():
    rng = np.random.default_rng(0)
    identities = np.repeat(np.arange(20), 5)
    embeddings = rng.normal(size=(20, 8))[identities] + rng.normal(size=(100, 8))
    return rng.normal(size=100), embeddings, identities


# -- the picture ------------------------------------------------------------------------------------------------------


def test_pictures(pipe, model, face, processor):
    explained = explain(pipe, face)
    picture = draw_explanation(explained, "a long name " * 20)
    assert picture.mode == "RGB" and picture.width > picture.height
    # The face itself is in it, at its own place.
    from diffiqa_hf.explanation import FACE, MARGIN, TITLE

    shown = np.asarray(picture.crop((MARGIN, TITLE, MARGIN + FACE, TITLE + FACE)), dtype=float)
    expected = np.asarray(Image.fromarray(face).resize((FACE, FACE), Image.Resampling.BICUBIC), dtype=float)
    assert np.abs(shown - expected).max() <= 1
    distilled = draw_explanation(explain(model, face, image_processor=processor))
    assert distilled.height == picture.height and distilled.width < picture.width


def test_red_is_above_zero_and_blue_below(model, face, processor):
    explanation = explain(model, face, image_processor=processor)
    explanation.images["input"] = torch.zeros(3, SIZE, SIZE)
    explanation.attribution = np.zeros((SIZE, SIZE))
    assert len(np.unique(np.asarray(draw_map(explanation, 64)))) == 1
    explanation.attribution[4:12, 4:12] = 2.0
    explanation.attribution[20:28, 20:28] = -1.0
    red, _, blue = np.asarray(draw_map(explanation, 64), dtype=int).transpose(2, 0, 1)
    assert red[16, 16] - blue[16, 16] > 100 and blue[48, 48] - red[48, 48] > 50
    assert abs(red[16, 48] - blue[16, 48]) < 5
