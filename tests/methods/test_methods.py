# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What holds for every method. Each test runs over the whole registry: a new method is tested by being there."""

import inspect
import io
from functools import cache

import numpy as np
import pytest
import torch
from fixtures.close import assert_close, is_close
from hypothesis import given, settings
from hypothesis import strategies as st

from diffiqa_hf import DifFIQAPipeline, FaceImageError, fold
from diffiqa_hf.conversion import DIALECTS
from diffiqa_hf.methods import CARDS, FaceQualityMethod, get_card, load_method
from diffiqa_hf.methods.cards.card import _speeds


NAMES = [card.name for card in CARDS]
every_method = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def method_of(make_method):
    return cache(make_method)


@pytest.fixture(scope="module")
def scores_of(method_of, faces):
    return cache(lambda name: method_of(name)(faces).scores)


def tolerance(scores: torch.Tensor) -> float:
    return 5e-6 * max(1.0, scores.abs().max().item())


# -- the cards -------------------------------------------------------------------------------------------------------


@every_method
def test_a_card_is_complete_and_true(name):
    card = get_card(name)
    assert issubclass(card.load_class(), FaceQualityMethod)
    assert set(card.needs) <= set(card.takes) <= {"weights", "fr_model"} and card.takes
    assert card.kind in ("analytical", "regression", "model-based", "baseline")
    assert all(value for _, value in card.rows())
    assert len(dict(card.rows()[:15])) == 15
    assert card.dialect is None or card.dialect in [dialect.name for dialect in DIALECTS]
    with pytest.raises(AttributeError):
        card.speed = "fast"


@every_method
def test_the_options_on_a_card_are_those_of_the_method(name):
    card = get_card(name)
    parameters = {*inspect.signature(card.load_class().__init__).parameters}
    if name == "diffiqa":  # passes on what the pipeline takes, but for what each call says itself
        parameters |= {*inspect.signature(DifFIQAPipeline.stream).parameters} - {
            *inspect.signature(FaceQualityMethod.stream).parameters
        }
        parameters -= {"pipeline", "options", "output_images"}
    assert parameters - {"self", "card", "model", "image_processor", "args", "kwargs"} == {*card.options}


def test_the_speeds_are_of_methods():
    assert set(_speeds()) <= set(NAMES)


@pytest.mark.parametrize("name", ["ser-fiq", "grafiqs", "froq", "vitnt-fiqa", "prefiqs"])
def test_a_folded_fr_model_is_refused_by_what_looks_into_it(make_network, name):
    with pytest.raises(ValueError, match="the model itself"):
        get_card(name).load_class()(get_card(name), fold(make_network(name)))


def test_names_are_unique_and_an_unknown_one_is_named():
    assert len(set(NAMES)) == len(NAMES)
    with pytest.raises(ValueError, match="unknown method 'nofiqa'; there are diffiqa, "):
        load_method("nofiqa")


# -- calling one -----------------------------------------------------------------------------------------------------


@every_method
def test_scores_tell_faces_apart_and_are_finite(scores_of, name):
    scores = scores_of(name)
    assert scores.shape == (5,) and scores.dtype == torch.float32 and scores.isfinite().all()
    # Far enough apart for the tests below to notice faces that are mixed up.
    assert scores.sort().values.diff().min() > 4 * tolerance(scores)


@every_method
@settings(max_examples=4, deadline=None, derandomize=True)
@given(order=st.permutations(range(5)), count=st.integers(1, 5), batch_size=st.integers(1, 6))
def test_a_score_does_not_depend_on_the_batch(method_of, scores_of, faces, name, order, count, batch_size):
    order = order[:count]
    scores = method_of(name)([faces[i] for i in order], batch_size=batch_size).scores
    torch.testing.assert_close(scores, scores_of(name)[order], atol=tolerance(scores_of(name)), rtol=0)


@every_method
def test_a_score_depends_on_the_seed_where_the_card_says_so(method_of, scores_of, faces, name):
    method = method_of(name)
    assert torch.equal(method(faces).scores, scores_of(name))
    other = method(faces, seed=1).scores
    assert is_close(other, scores_of(name)) != get_card(name).determinism.startswith("seed")


@every_method
def test_the_direction_is_the_cards(method_of, faces, name):
    output = method_of(name)(faces)
    if get_card(name).lower_is_better:
        assert torch.equal(output.terms["raw"], -output.scores)
    else:
        assert "raw" not in output.terms


@every_method
def test_an_iterator_is_read_as_needed(method_of, scores_of, faces, name):
    taken = []

    def images():
        for i, face in enumerate(faces):
            taken.append(i)
            yield face

    records = method_of(name).stream(images(), batch_size=1)
    assert not taken
    first = next(records)
    assert taken == [0] and first.index == 0
    assert first.score == pytest.approx(scores_of(name)[0].item(), abs=tolerance(scores_of(name)))
    assert [record.index for record in records] == [1, 2, 3, 4]


@every_method
def test_what_is_no_image_gets_nan_and_a_reason_or_is_an_error(method_of, scores_of, faces, name, tmp_path):
    method = method_of(name)
    (tmp_path / "empty.png").touch()
    images = [faces[0], str(tmp_path / "empty.png"), faces[1]]
    output = method(images)
    assert output.errors == [None, "empty file", None]
    assert output.image_indices.tolist() == [0, 1, 2]
    assert output.scores[1].isnan()
    torch.testing.assert_close(output.scores[[0, 2]], scores_of(name)[:2], atol=tolerance(scores_of(name)), rtol=0)
    for values in output.terms.values():
        assert values.isnan().tolist() == [False, True, False]
    with pytest.raises(FaceImageError, match="empty file"):
        method(images, on_error="raise")


@every_method
def test_broken_weights_are_an_error_and_no_score(make_method, make_network, faces, name):
    network = make_network(name)
    parameters = network.fr_model if name == "diffiqa" else network
    with torch.no_grad():
        for parameter in parameters.parameters():
            parameter.fill_(float("nan"))
    output = make_method(name, network)(faces[:1])
    assert output.scores.isnan().all() and "not finite" in output.errors[0]


@every_method
def test_it_takes_what_the_image_processor_takes(method_of, scores_of, faces, name, tmp_path):
    from PIL import Image

    path = tmp_path / "face.png"
    Image.fromarray(faces[0]).save(path)
    images = [path, Image.fromarray(faces[0]), torch.tensor(faces[0]).permute(2, 0, 1), faces[0] / 255.0]
    for form in (images, np.stack(faces[:1] * 2)):
        scores = method_of(name)(form).scores
        expected = scores_of(name)[0].expand(len(form))
        torch.testing.assert_close(scores, expected, atol=tolerance(scores_of(name)), rtol=0)
    assert method_of(name)(faces[0]).scores.shape == (1,)
    assert method_of(name)([]).scores.shape == (0,)


@every_method
def test_a_call_leaves_the_network_as_it_was(make_method, make_network, faces, name):
    network = make_network(name)
    method = make_method(name, network)
    before = {key: value.clone() for key, value in method.model.state_dict().items()}
    trained = [parameter.requires_grad for parameter in method.model.parameters()]
    method(faces[:2])
    assert all(torch.equal(value, before[key]) for key, value in method.model.state_dict().items())
    assert [parameter.requires_grad for parameter in method.model.parameters()] == trained
    for module in method.model.modules():
        assert not module.training and not module._forward_hooks and not module._forward_pre_hooks
    assert all(parameter.grad is None for parameter in method.model.parameters())


@every_method
def test_in_double_precision_the_scores_are_the_same(make_method, faces, name):
    method = make_method(name)
    expected = method(faces[:2]).scores
    assert method.to(dtype=torch.float64) is method
    assert next(method.model.parameters()).dtype == torch.float64
    torch.testing.assert_close(method(faces[:2]).scores, expected, atol=20 * tolerance(expected), rtol=0)


@every_method
@pytest.mark.parametrize("winograd", [False, True])
def test_folded_the_scores_are_the_same(make_method, faces, name, winograd):
    method = make_method(name)
    expected = method(faces).scores
    network = method.model
    method.enable_folding(winograd)
    assert (method.model is network) == (name in ("ser-fiq", "grafiqs", "froq", "vitnt-fiqa"))
    torch.testing.assert_close(method(faces).scores, expected, atol=20 * tolerance(expected), rtol=1e-5)


@every_method
def test_a_tuple_and_a_progress_bar(make_method, faces, name):
    method = make_method(name)
    bar = io.StringIO()
    method.set_progress_bar_config(file=bar, mininterval=0)
    output = method(faces[:2])
    assert "2/2" in bar.getvalue() and "image" in bar.getvalue()
    scores, *_ = method(faces[:2], return_dict=False)
    assert_close(scores, output.scores)


@pytest.mark.parametrize("name", ["faceqan", "ser-fiq", "grafiqs"])
def test_out_of_memory_halves_the_batch(make_method, scores_of, faces, name):
    method = make_method(name)
    rows = []

    def little_memory(module, args):
        rows.append(len(args[0]))
        if len(args[0]) > 6:
            raise torch.OutOfMemoryError("too much")

    method.model.register_forward_pre_hook(little_memory)
    if name != "faceqan":
        images, expected = faces + faces[:4], torch.cat([scores_of(name), scores_of(name)[:4]])
    else:  # two copies or three of each face go through the network
        images, expected = faces, scores_of(name)
    scores = method(images, batch_size=len(images)).scores
    assert max(rows) > 6 and rows[-1] <= 6
    torch.testing.assert_close(scores, expected, atol=tolerance(expected), rtol=0)


def test_settings_that_make_no_sense(method_of, faces):
    method = method_of("embedding-norm")
    for wrong in ({"batch_size": 0}, {"seed": "1"}, {"on_error": "ignore"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            method(faces, **wrong)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("faceqan", {"num_steps": 0}),
        ("faceqan", {"eps": 0}),
        ("faceqan", {"exponent": 2.5}),
        ("ser-fiq", {"num_passes": 1}),
        ("ser-fiq", {"dropout": 1.0}),
        ("ser-fiq", {"layer": "no_such_layer"}),
        ("grafiqs", {"layer": "no_such_layer"}),
        ("diffiqa", {"preset": "no_such_preset"}),
        ("vitnt-fiqa", {"num_blocks": 1}),
        ("vitnt-fiqa", {"num_blocks": 4}),
        ("vitnt-fiqa", {"scaling": 0.0}),
        ("prefiqs", {"sparsity": 1.0}),
        ("prefiqs", {"scope": "channel"}),
    ],
)
def test_options_that_make_no_sense(make_method, name, options):
    with pytest.raises(ValueError, match=str(next(iter(options))) if "layer" not in options else "no_such_layer"):
        make_method(name, **options)


def test_a_calibration_that_does_not_hold_is_not_used():
    method = load_method("diffiqa", num_timesteps=1)
    assert method.calibration is not None and method.usable_calibration() is None
    assert load_method("diffiqa").usable_calibration() is not None


def test_diffiqa_names_the_terms_that_it_gives():
    for options in ({}, {"use_flip": False}):
        method = load_method("diffiqa", align=False, num_timesteps=1, num_repeats=1, **options)
        terms = method(np.zeros((112, 112, 3), np.uint8)).terms
        assert method.term_names() == tuple(terms)
