# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores to percentiles and to expected FNMR, and the pipeline that has a calibration."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from fixtures.close import assert_close
from fixtures.fill import fill_state_dict
from fixtures.networks import make_scheduler, make_unet
from hypothesis import given, settings
from hypothesis import strategies as st

from diffiqa_hf import (
    DifFIQAPipeline,
    FaceImageProcessor,
    IResNetConfig,
    IResNetForFaceQuality,
    IResNetModel,
    calibration,
    load_method,
)
from diffiqa_hf.calibration import MIN_IDENTITIES, MIN_PAIRS, Calibration, fit_calibration, weights_digest


SIZE = 32


# -- percentiles ------------------------------------------------------------------------------------------------------


def test_percentiles_by_hand():
    fitted = fit_calibration(np.arange(101) / 10)  # 0, 0.1, ..., 10
    np.testing.assert_allclose(fitted.percentiles([0, 2.5, 9.99, 10]), [0, 25, 99.9, 100], atol=1e-9)
    assert fitted.percentiles([-1, 11, math.inf, -math.inf]).tolist() == [0, 100, 100, 0]
    assert math.isnan(fitted.percentiles(math.nan))
    assert fitted.percentiles(torch.tensor([[5.0]])).tolist() == [[50.0]]
    assert fitted.num_faces == 101 and fitted.levels == ()
    assert fitted.scores_at([0, 50, 100]).tolist() == [0, 5, 10]
    with pytest.raises(ValueError, match="percentiles lie in"):
        fitted.scores_at(101)


def test_faces_that_failed_are_left_out():
    fitted = fit_calibration([0.0, math.nan, 1.0, math.inf])
    assert fitted.num_faces == 2 and fitted.percentiles(0.25) == 25


def test_equal_scores_get_the_middle_of_their_share():
    fitted = fit_calibration([1.0] * 50 + [2.0] * 51)
    assert fitted.percentiles([0.9, 1.0, 2.0, 2.1]).tolist() == [0.0, 24.5, 75.0, 100.0]
    assert fit_calibration([3.0, 3.0]).percentiles([2.0, 3.0, 4.0]).tolist() == [0.0, 50.0, 100.0]


def test_percentiles_at_ties_and_ends():
    """One definition: of the other faces the per cent that score lower, and half of those that score the same."""
    scores = np.array([1.0] * 51 + list(range(2, 52)))  # 101 faces: each is a quantile
    fitted = fit_calibration(scores)
    for score in set(scores.tolist()):
        others = (scores < score).sum() + ((scores == score).sum() - 1) / 2
        assert fitted.percentiles(score) == pytest.approx(100 * others / 100)
    # Half of the faces have the lowest score: whoever has a little more has them all below.
    assert fitted.percentiles(1.0) == 25 and fitted.percentiles(np.nextafter(1.0, 2)) == pytest.approx(50)
    assert fitted.percentiles(1.5) == pytest.approx(50.5)
    # A block in the middle, from both sides.
    middle = fit_calibration([0.0] * 25 + [1.0] * 51 + [2.0] * 25)
    below, above = np.nextafter(1.0, 0), np.nextafter(1.0, 2)
    assert middle.percentiles([0, below, 1, above, 2]).tolist() == pytest.approx([12, 25, 50, 75, 88])
    ten = fit_calibration(np.arange(10.0))
    np.testing.assert_allclose(ten.percentiles(np.arange(10.0)), 100 * np.arange(10) / 9, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-10, 10).map(lambda x: round(x, 1)), min_size=2, max_size=60), st.randoms())
def test_a_higher_score_never_has_a_lower_percentile(scores, random):
    fitted = fit_calibration(scores)
    asked = np.sort([*scores, *(random.uniform(-12, 12) for _ in range(30))])
    percentiles = fitted.percentiles(asked)
    assert (np.diff(percentiles) >= 0).all()
    assert percentiles.min() >= 0 and percentiles.max() <= 100
    iso = fitted.to_iso(asked)
    assert (np.diff(iso) >= 0).all() and iso.min() >= 0 and iso.max() <= 100


def test_percentile_is_the_share_of_lower_scores():
    scores = np.random.default_rng(0).normal(size=5000)
    fitted = fit_calibration(scores)
    asked = np.linspace(-2.5, 2.5, 40)
    expected = [100 * (scores < score).mean() for score in asked]
    np.testing.assert_allclose(fitted.percentiles(asked), expected, atol=0.3)


def test_iso_integers():
    fitted = fit_calibration(np.arange(101.0))
    iso = fitted.to_iso([0.49, 0.5, 49.5, 99.5, -3, 300, math.nan])
    assert iso.dtype == np.int64
    assert iso.tolist() == [0, 1, 50, 100, 0, 100, -1]


@pytest.mark.parametrize("scores", [[], [1.0], [1.0, math.nan], [[1.0, 2.0]]])
def test_too_few_scores(scores):
    with pytest.raises(ValueError, match="two scores or more"):
        fit_calibration(scores)


# -- FNMR -------------------------------------------------------------------------------------------------------------


def make_study(people: int = 30, images: int = 5, seed: int = 0):
    """Embeddings that lie farther from their person's the lower the score is."""
    rng = np.random.default_rng(seed)
    identities = np.repeat(np.arange(people), images)
    scores = rng.uniform(size=people * images)
    centres = rng.normal(size=(people, 16))[identities]
    embeddings = centres + (2.5 - 2.2 * scores)[:, None] * rng.normal(size=(people * images, 16))
    return scores, embeddings.astype(np.float32), identities


def brute_force(scores, embeddings, identities, fmr):
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    mated, nonmated = [], []
    for i in range(len(scores)):
        for j in range(i):
            pair = (float(unit[i] @ unit[j]), min(scores[i], scores[j]), identities[i])
            (mated if identities[i] == identities[j] else nonmated).append(pair)
    similarities = sorted((pair[0] for pair in nonmated), reverse=True)
    # The most non-mated pairs that may match, and the next one that may not.
    rejected = similarities[math.floor(fmr * len(similarities))]
    rows = []
    for percentile in range(0, 100, 5):
        left = [pair for pair in mated if pair[1] >= np.quantile(scores, percentile / 100)]
        rows.append((len(left), sum(pair[0] <= rejected for pair in left), len({pair[2] for pair in left})))
    return rejected, len(nonmated), rows


def test_fnmr_is_that_of_brute_force():
    scores, embeddings, identities = make_study()
    fitted = fit_calibration(scores, embeddings, identities, fmr=1e-2)
    rejected, nonmated, rows = brute_force(scores, embeddings, identities, 1e-2)
    assert [(level.pairs, level.errors, level.identities) for level in fitted.levels] == rows
    assert [level.percentile for level in fitted.levels] == list(range(0, 100, 5))
    assert fitted.num_nonmated == nonmated and fitted.threshold == pytest.approx(rejected, abs=1e-5)
    assert rows[0][0] == 30 * 10 and 0 < rows[0][1] < 300
    # Discarding the worst helps, for the study is made so.
    assert fitted.levels[8].fnmr < fitted.levels[0].fnmr
    counted = [level for level in fitted.levels if level.pairs >= MIN_PAIRS and level.identities >= MIN_IDENTITIES]
    assert 0 < len(counted) < len(fitted.levels)
    for level in fitted.levels:
        if level in counted:
            assert level.fnmr == level.errors / level.pairs
        else:
            assert math.isnan(level.fnmr)


def test_expected_fnmr_is_that_of_the_level_at_or_below():
    fitted = fit_calibration(*make_study(), fmr=1e-2)
    first, second = fitted.levels[0].fnmr, fitted.levels[1].fnmr
    assert first != second
    np.testing.assert_array_equal(fitted.expected_fnmr([[0, 4.9], [5, 9]]), [[first, first], [second, second]])
    assert np.isnan(fitted.expected_fnmr([95, 100, math.nan])).all()  # too few pairs; no percentile
    assert np.isnan(fit_calibration([0.0, 1.0]).expected_fnmr(50))  # no FNMR was measured
    level = fitted.level_for_fnmr(second)
    assert level.fnmr <= second and level.percentile <= 5
    assert fitted.level_for_fnmr(-1) is None


def test_too_few_people_give_no_fnmr_however_many_pairs_they_have():
    fitted = fit_calibration(*make_study(people=MIN_IDENTITIES - 1, images=12), fmr=1e-2)
    assert fitted.levels[0].pairs > MIN_PAIRS and math.isnan(fitted.levels[0].fnmr)


def test_too_few_nonmated_pairs_or_no_mated_ones_leave_percentiles():
    scores, embeddings, identities = make_study(people=5, images=4)
    with pytest.warns(UserWarning, match="30 mated pairs and 160 non-mated ones; an FMR of 0.001 needs 1,000"):
        assert fit_calibration(scores, embeddings, identities).levels == ()
    with pytest.warns(UserWarning, match="0 mated pairs"):
        assert fit_calibration(scores, embeddings, np.arange(20), fmr=0.1).num_faces == 20


def test_who_is_not_known_is_in_no_pair():
    scores, embeddings, identities = make_study()
    named = [None if i % 7 == 0 else f"person {identity}" for i, identity in enumerate(identities)]
    embeddings[0] = 0  # no embedding is looked at of somebody unknown
    fitted = fit_calibration(scores, embeddings, named, fmr=1e-2)
    assert fitted.num_faces == len(scores)
    keep = np.array([name is not None for name in named])
    without = fit_calibration(scores[keep], embeddings[keep], identities[keep], fmr=1e-2)
    assert fitted.threshold == without.threshold and fitted.num_nonmated == without.num_nonmated
    assert (fitted.levels[0].pairs, fitted.levels[0].errors) == (without.levels[0].pairs, without.levels[0].errors)


def test_given_pairs_are_those_that_are_compared():
    scores, embeddings, identities = make_study()
    scores[3] = math.nan
    every = np.stack(np.triu_indices(len(scores), 1), axis=1)
    whole = fit_calibration(scores, embeddings, identities, fmr=1e-2)
    given_all = fit_calibration(scores, embeddings, identities, pairs=every, fmr=1e-2)
    assert given_all.levels == whole.levels and given_all.num_nonmated == whole.num_nonmated
    fewer = fit_calibration(scores, embeddings, identities, pairs=every[::2], fmr=1e-2)
    assert fewer.levels[0].pairs + fewer.num_nonmated == sum(3 not in pair for pair in every[::2].tolist())


def test_of_very_many_pairs_so_many_are_drawn_of_each_kind(monkeypatch):
    scores, embeddings, identities = make_study(people=60)
    order = np.random.default_rng(1).permutation(len(scores))
    study = scores[order], embeddings[order], identities[order]
    whole = fit_calibration(*study, fmr=1e-2)
    monkeypatch.setattr(calibration, "MAX_PAIRS", 20_000)
    drawn = fit_calibration(*study, fmr=1e-2)
    assert drawn.num_nonmated == 20_000 < whole.num_nonmated
    assert [level.pairs for level in drawn.levels] == [level.pairs for level in whole.levels]
    assert drawn.threshold == pytest.approx(whole.threshold, abs=0.03)
    assert fit_calibration(*study, fmr=1e-2) == drawn


def test_most_images_of_one_person(monkeypatch):
    """One person of 400 images and 20 of two: most of the non-mated pairs are of that one, and mated ones abound."""
    codes = np.concatenate([np.zeros(400, int), np.arange(1, 21).repeat(2)])
    nonmated = 440 * 439 // 2 - 400 * 399 // 2 - 20
    monkeypatch.setattr(calibration, "MAX_PAIRS", 10_000)
    pairs = calibration._choose_pairs(codes, 0)
    same = codes[pairs[:, 0]] == codes[pairs[:, 1]]
    assert same.sum() == 10_000 and (~same).sum() == 10_000 < nonmated
    assert len(set(map(tuple, pairs.tolist()))) == 20_000 and (pairs[:, 0] < pairs[:, 1]).all()
    monkeypatch.setattr(calibration, "MAX_PAIRS", 50_000)
    pairs = calibration._choose_pairs(codes, 0)
    assert (codes[pairs[:, 0]] != codes[pairs[:, 1]]).sum() == nonmated  # all there are


@pytest.mark.parametrize("nobody", [None, "", math.nan])
def test_faces_that_leave_the_fnmr_are_counted(nobody):
    scores, embeddings, identities = make_study()
    named = [nobody if i % 7 == 0 else f"person {identity}" for i, identity in enumerate(identities)]
    embeddings[[1, 2]] = [[0.0], [math.nan]]
    with pytest.warns(UserWarning) as caught:
        fitted = fit_calibration(scores, embeddings, named, fmr=1e-2)
    assert [str(entry.message) for entry in caught] == [
        "of 150 faces 126 are in the pairs of the FNMR: it is not known who 22 of them show, and 2 of them have no "
        "embedding (it is zero or not finite)"
    ]
    keep = np.array([i % 7 != 0 and i not in (1, 2) for i in range(150)])
    without = fit_calibration(scores[keep], embeddings[keep], identities[keep], fmr=1e-2)
    assert (fitted.num_nonmated, fitted.threshold) == (without.num_nonmated, without.threshold)
    assert (fitted.levels[0].pairs, fitted.levels[0].errors) == (without.levels[0].pairs, without.levels[0].errors)


def test_shapes_that_do_not_fit():
    scores, embeddings, identities = make_study(people=3)
    with pytest.raises(ValueError, match="go together"):
        fit_calibration(scores, embeddings)
    with pytest.raises(ValueError, match="15 scores, embeddings of shape"):
        fit_calibration(scores, embeddings[1:], identities)


# -- files and settings -----------------------------------------------------------------------------------------------


def test_save_and_load(tmp_path):
    settings_ = {"num_repeats": 4, "terms": ("noisy",), "weights": {"unet": "ab", "fr_model": None}}
    fitted = fit_calibration(*make_study(), fmr=1e-2, settings=settings_, data="a gate in Köln, 150 faces")
    fitted.save_pretrained(tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["calibration.json"]
    assert Calibration.from_pretrained(tmp_path / "new") == fitted
    fitted.save(tmp_path / "other name.json")
    assert Calibration.from_pretrained(tmp_path / "other name.json") == fitted
    with pytest.raises(OSError, match="has no calibration.json"):
        Calibration.from_pretrained(tmp_path)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "calibration.json"
    good = fit_calibration([0.0, 1.0]).to_dict()
    descending = {**good, "quantiles": good["quantiles"][::-1]}
    for text in (
        "",
        "{}",
        "[1]",
        json.dumps({**good, "format": 2}),
        json.dumps({**good, "more": 1}),
        json.dumps(descending),
        json.dumps({**good, "quantiles": good["quantiles"][:100]}),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match="is no calibration"):
            Calibration.from_pretrained(tmp_path)


def test_differences():
    weights = {"unet": "ab", "fr_model": "cd"}
    fitted = fit_calibration([0.0, 1.0], settings={"num_repeats": 4, "terms": ("a", "b"), "weights": weights})
    same = {"num_repeats": 4, "terms": ["a", "b"], "weights": weights, "another": 1}
    assert fitted.differences(same) == []
    assert fitted.differences({**same, "weights": {"unet": None, "fr_model": "cd"}}) == []
    assert fitted.differences({**same, "num_repeats": 10}) == ["num_repeats was 4, is 10"]
    assert fitted.differences({**same, "weights": {"unet": "ab", "fr_model": "ef"}}) == ["other weights of fr_model"]
    # What is another thing altogether is not taken for it.
    assert len(fitted.differences({"weights": {"model": "ab"}})) == 4
    assert len(fitted.differences({})) == 4
    assert fitted.misfit(same) is None
    assert "measured with other settings (num_repeats was 4, is 10)" in fitted.misfit({**same, "num_repeats": 10})


def test_digest_changes_with_any_weight():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    digests = {weights_digest(model)}
    for tensor in model.state_dict().values():
        tensor.view(-1)[-1] += 1
        digests.add(weights_digest(model))
    assert len(digests) == 1 + len(model.state_dict())
    assert weights_digest(model.to(memory_format=torch.channels_last)) in digests
    assert weights_digest(model.half()) is None


# -- the pipeline -----------------------------------------------------------------------------------------------------


def make_fr_model(seed: int) -> IResNetModel:
    torch.manual_seed(seed)
    config = IResNetConfig(depths=[1, 1, 1, 1], widths=[8, 8, 8, 8], embedding_size=16, crop_size=[SIZE, SIZE])
    return IResNetModel(config).eval()


def make_pipeline() -> DifFIQAPipeline:
    torch.manual_seed(0)
    unet = make_unet(SIZE)
    scheduler = make_scheduler()
    processor = FaceImageProcessor(size={"height": SIZE, "width": SIZE})
    pipe = DifFIQAPipeline(unet.eval(), scheduler, make_fr_model(0), processor, num_timesteps=100, num_repeats=2)
    pipe.register_to_config(num_inference_steps=1)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(6)]


@pytest.fixture
def calibrated(faces) -> DifFIQAPipeline:
    pipe = make_pipeline()
    pipe.calibration = fit_calibration(pipe(faces).scores, settings=pipe.calibration_settings())
    return pipe


def test_the_pipeline_fills_in_percentiles_and_changes_no_score(calibrated, faces):
    without = make_pipeline()(faces)
    assert without.percentiles is None and len(without.to_tuple()) == 4
    output = calibrated(faces)
    assert_close(output.scores, without.scores)
    expected = calibrated.calibration.percentiles(output.scores)
    np.testing.assert_allclose(output.percentiles.numpy(), expected, atol=1e-3)
    assert sorted(output.percentiles.tolist()) == pytest.approx([0, 20, 40, 60, 80, 100], abs=1e-3)
    assert torch.equal(output.percentiles.argsort(), output.scores.argsort())
    records = list(calibrated.stream(faces))
    assert [record.percentile for record in records] == pytest.approx(output.percentiles.tolist())


def test_a_face_that_failed_has_no_percentile(calibrated, faces, tmp_path):
    percentiles = calibrated([tmp_path / "missing.png", faces[0]]).percentiles
    assert percentiles[0].isnan() and 0 <= percentiles[1] <= 100


@pytest.mark.parametrize(
    "other",
    [
        {"num_timesteps": 50},
        {"num_inference_steps": 2},
        {"num_repeats": 1},
        {"use_flip": False},
        {"use_backward": False},
    ],
)
def test_other_settings_have_no_percentiles_and_one_warning(calibrated, faces, other, caplog):
    assert calibrated(faces[0], **other).percentiles is None
    assert calibrated(faces[0], **other).percentiles is None
    warnings = [record.message for record in caplog.records if "no percentiles" in record.message]
    assert len(warnings) == 1
    assert {"use_flip": "terms", "use_backward": "terms"}.get(*other, *other) in warnings[0]
    # The same settings, spelled out, are the same.
    assert (
        calibrated(faces[0], num_timesteps=100, num_inference_steps=1, num_repeats=2, seed=3).percentiles is not None
    )


def test_another_fr_model_has_no_percentiles(calibrated, faces, tmp_path, caplog):
    calibrated.save_pretrained(tmp_path)
    swapped = DifFIQAPipeline.from_pretrained(tmp_path, fr_model=make_fr_model(1))
    assert swapped.calibration == calibrated.calibration
    assert swapped(faces[0]).percentiles is None
    assert "other weights of fr_model" in caplog.text
    calibrated.register_modules(fr_model=make_fr_model(1))
    assert calibrated(faces[0]).percentiles is None
    calibrated.register_modules(fr_model=make_fr_model(0))
    assert calibrated(faces[0]).percentiles is not None


def test_a_calibration_is_saved_and_loaded_with_its_pipeline(calibrated, faces, tmp_path):
    calibrated.save_pretrained(tmp_path)
    expected = calibrated(faces).percentiles
    loaded = DifFIQAPipeline.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(faces).percentiles, expected)
    half = DifFIQAPipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert half(faces).percentiles is not None
    (tmp_path / "calibration.json").write_text("{")
    with pytest.raises(ValueError, match="calibration.json is no calibration"):
        DifFIQAPipeline.from_pretrained(tmp_path)
    (tmp_path / "calibration.json").unlink()
    assert DifFIQAPipeline.from_pretrained(tmp_path).calibration is None
    make_pipeline().save_pretrained(tmp_path)
    assert not (tmp_path / "calibration.json").exists()


def test_folding_keeps_the_percentiles(calibrated, faces):
    expected = calibrated(faces).percentiles
    calibrated.enable_folding()
    torch.testing.assert_close(calibrated(faces).percentiles, expected, atol=5.0, rtol=0)


def test_a_plain_tuple_has_the_order_of_the_output(calibrated, faces):
    output = calibrated(faces[:2], output_images=True)
    as_tuple = calibrated(faces[:2], output_images=True, return_dict=False)
    assert len(as_tuple) == 7
    for value, name in zip(as_tuple[4:], ("noisy", "restored", "percentiles"), strict=True):
        torch.testing.assert_close(value, output[name])


# -- methods ----------------------------------------------------------------------------------------------------------


def make_quality_model(seed: int = 0) -> IResNetForFaceQuality:
    config = IResNetConfig(depths=[1, 1, 1, 1], widths=[8, 8, 8, 8], embedding_size=16, crop_size=[SIZE, SIZE])
    model = IResNetForFaceQuality(config).eval()
    # Weights of a size that tells faces apart.
    tensors = fill_state_dict({name: tensor.shape for name, tensor in model.state_dict().items()}, str(seed))
    model.load_state_dict({name: 3 * tensor if tensor.ndim > 1 else tensor for name, tensor in tensors.items()})
    return model


def make_method(weights, name: str = "diffiqa-r", **options):
    return load_method(
        name, weights, image_processor=FaceImageProcessor(size={"height": SIZE, "width": SIZE}), **options
    )


@pytest.fixture
def quality_folder(faces, tmp_path):
    """A quality model and its calibration."""
    folder = tmp_path / "quality"
    make_quality_model().save_pretrained(folder)
    FaceImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    method = make_method(str(folder))
    assert method.calibration is None and method(faces).percentiles is None
    fit_calibration(method(faces).scores, settings=method.calibration_settings()).save_pretrained(folder)
    return folder


def test_a_method_has_the_calibration_beside_its_weights(quality_folder, faces, tmp_path):
    method = make_method(quality_folder)
    assert method.calibration == Calibration.from_pretrained(quality_folder)
    output = method([*faces, tmp_path / "missing.png"])
    torch.testing.assert_close(output.scores[:-1], make_method(make_quality_model())(faces).scores)
    assert sorted(output.percentiles[:-1].tolist()) == pytest.approx([0, 20, 40, 60, 80, 100], abs=1e-3)
    assert output.percentiles[-1].isnan()
    assert torch.equal(output.percentiles[:-1].argsort(), output.scores[:-1].argsort())
    records = list(method.stream(faces))
    assert [record.percentile for record in records] == pytest.approx(output.percentiles[:-1].tolist(), abs=0.01)
    *_, percentiles = method(faces, return_dict=False)
    torch.testing.assert_close(percentiles, output.percentiles[:-1], atol=0.01, rtol=0)
    # The same network under another name.
    assert make_method(quality_folder, "cr-fiqa")(faces).percentiles is not None
    method.calibration = None
    assert method(faces).percentiles is None


def test_a_method_in_half_precision_or_folded_keeps_its_percentiles(quality_folder, faces):
    expected = make_method(quality_folder)(faces).percentiles
    method = make_method(quality_folder)
    method.enable_folding()
    torch.testing.assert_close(method(faces).percentiles, expected, atol=1.0, rtol=0)
    assert make_method(quality_folder, dtype=torch.bfloat16)(faces).percentiles is not None


def test_a_method_of_other_weights_has_no_percentiles_and_one_warning(quality_folder, faces, caplog):
    method = make_method(make_quality_model(1))
    method.calibration = Calibration.from_pretrained(quality_folder)
    for _ in range(2):
        assert method(faces).percentiles is None
    assert caplog.text.count("no percentiles") == 1 and "other weights of model" in caplog.text
    # A calibration that is set afterwards is a new matter.
    method.calibration = fit_calibration(method(faces).scores, settings=method.calibration_settings())
    assert method(faces).percentiles is not None
    (quality_folder / "calibration.json").write_text("{")
    with pytest.raises(ValueError, match="calibration.json is no calibration"):
        make_method(quality_folder)


def test_the_method_of_a_pipeline_has_the_pipelines_calibration(calibrated, faces, tmp_path):
    expected = calibrated(faces).percentiles
    calibrated.save_pretrained(tmp_path)
    for weights in (calibrated, tmp_path):
        method = load_method("diffiqa", weights)
        assert method.calibration == calibrated.calibration
        torch.testing.assert_close(method(faces).percentiles, expected, atol=0.01, rtol=0)
    assert method.calibration_settings() == calibrated.calibration_settings()
    other = load_method("diffiqa", calibrated, num_repeats=1, use_flip=False)
    assert other(faces).percentiles is None
    other.calibration = fit_calibration(other(faces).scores, settings=other.calibration_settings())
    assert other(faces).percentiles is not None and calibrated(faces).percentiles is not None


def test_the_options_of_a_method_are_among_its_settings(faces):
    fr_model = make_fr_model(0)
    processor = FaceImageProcessor(size={"height": SIZE, "width": SIZE})

    def grafiqs(layer: str):
        return load_method("grafiqs", fr_model=fr_model, image_processor=processor, layer=layer)

    method = grafiqs("layer2")
    settings_ = method.calibration_settings()
    assert settings_ == {
        "method": "grafiqs",
        "options": {"layer": "layer2"},
        "weights": {"model": weights_digest(fr_model)},
    }
    fitted = fit_calibration(method(faces).scores, settings=settings_)
    method.calibration = fitted
    assert method(faces).percentiles.isfinite().all()
    for layer in ("layer3", "image"):
        other = grafiqs(layer)
        other.calibration = fitted
        assert other(faces).percentiles is None
    froq = load_method("froq", fr_model=fr_model, image_processor=processor, layers=["layer2"], num_candidates=3)
    assert froq.calibration_settings()["options"] == {"layers": ["layer2"], "num_candidates": 3}


# -- transformers.pipeline --------------------------------------------------------------------------------------------


def test_the_pipeline_of_transformers_has_percentiles(quality_folder, faces, tmp_path, caplog):
    from transformers import pipeline

    task = "face-image-quality-assessment"
    expected = make_method(quality_folder)(faces)
    assess = pipeline(task, model=str(quality_folder), device="cpu")
    results = assess([faces[0], faces[1]], batch_size=2)
    assert all(list(result) == ["score", "percentile"] for result in results)
    for i, result in enumerate(results):
        assert result["score"] == pytest.approx(expected.scores[i].item(), abs=1e-5)
        assert result["percentile"] == pytest.approx(expected.percentiles[i].item(), abs=1.0)
    # It is saved with the model, and may be set or taken away.
    assess.save_pretrained(tmp_path / "saved")
    assert "percentile" in pipeline(task, model=str(tmp_path / "saved"), device="cpu")(faces[0])
    fitted = assess.calibration
    assess.calibration = None
    assert list(assess(faces[0])) == ["score"]
    assess.calibration = fitted
    assert "percentile" in assess(faces[0])

    # Other weights; a model that was never in a folder; a folder that has gone.
    make_quality_model(1).save_pretrained(quality_folder)
    other = pipeline(task, model=str(quality_folder), device="cpu")
    assert list(other(faces[0])) == list(other(faces[1])) == ["score"]
    assert caplog.text.count("no percentiles") == 1
    processor = FaceImageProcessor.from_pretrained(quality_folder)
    in_memory = pipeline(task, model=make_quality_model(), image_processor=processor, device="cpu")
    assert list(in_memory(faces[0])) == ["score"]
    model = IResNetForFaceQuality.from_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved")
    assert list(pipeline(task, model=model, image_processor=processor, device="cpu")(faces[0])) == ["score"]
    (quality_folder / "calibration.json").write_text("{")
    with pytest.raises(ValueError, match="calibration.json is no calibration"):
        pipeline(task, model=str(quality_folder), device="cpu")
