# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""One method, many threads, and networks as their owners left them: over the whole registry."""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from diffiqa_hf.methods import CARDS, load_method


NAMES = [card.name for card in CARDS]
every_method = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def often_switched():
    """Threads take turns a hundred times as often, so that one is met in the middle of another."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(interval / 100)
    yield
    sys.setswitchinterval(interval)


def tolerance(scores: torch.Tensor) -> float:
    return 1e-5 * max(1.0, scores.abs().max().item())


@every_method
def test_several_threads_get_the_scores_of_one(make_method, faces, often_switched, name):
    method = make_method(name)
    calls = [partial(method, [faces[i % 5], faces[(i + 2) % 5]], batch_size=1 + i % 2) for i in range(12)]
    expected = torch.stack([call().scores for call in calls])
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda call: call(), calls))
    assert [output.errors for output in outputs] == [[None, None]] * len(calls)
    scores = torch.stack([output.scores for output in outputs])
    torch.testing.assert_close(scores, expected, atol=tolerance(expected), rtol=0)


@every_method
def test_a_server_may_call_without_gradients(make_method, faces, name):
    method = make_method(name)
    expected = method(faces).scores
    for without in (torch.no_grad, torch.inference_mode):
        with without():
            found = method(faces).scores
        torch.testing.assert_close(found.clone(), expected, atol=tolerance(expected), rtol=0)


@every_method
@pytest.mark.parametrize("after", [False, True])
def test_a_network_in_training_mode_is_read_in_evaluation_mode_and_left_as_it_was(
    make_method, make_network, faces, name, after
):
    expected = make_method(name)(faces).scores
    network = make_network(name)
    parts = [network.unet, network.fr_model] if name == "diffiqa" else [network]
    if not after:
        for part in parts:
            part.train()
    method = make_method(name, network)
    if after:
        for part in parts:
            part.train()
        method.model.train()
    before = [{key: value.clone() for key, value in part.state_dict().items()} for part in parts]
    torch.testing.assert_close(method(faces).scores, expected, atol=tolerance(expected), rtol=0)
    assert not after or all(module.training for part in parts for module in part.modules())
    for part, state in zip(parts, before, strict=True):
        torch.testing.assert_close(dict(part.state_dict()), state, atol=0, rtol=0)


@every_method
def test_a_network_that_gives_tuples(make_method, make_network, faces, name):
    network = make_network(name)
    expected = make_method(name, network)(faces[:2]).scores
    (network.fr_model if name == "diffiqa" else network).config.return_dict = False
    torch.testing.assert_close(
        make_method(name, network)(faces[:2]).scores, expected, atol=tolerance(expected), rtol=0
    )


@every_method
def test_a_compiled_network(make_method, make_network, faces, name):
    if name == "diffiqa":
        pytest.skip("its pipeline has a test of its own")
    expected = make_method(name)
    method = make_method(name)
    # Without a backend, which would take a minute for each: what Dynamo does with hooks and classes is the same.
    method.model = torch.compile(method.model, backend="eager")
    scores = expected(faces[:2]).scores
    torch.testing.assert_close(method(faces[:2]).scores, scores, atol=tolerance(scores), rtol=0)
    assert method.calibration_settings() == expected.calibration_settings()


@every_method
def test_folding_twice_is_folding_once(make_method, faces, name):
    method = make_method(name)
    method.enable_folding()
    expected = method(faces[:2]).scores
    for winograd in (False, True):
        method.enable_folding(winograd)
        torch.testing.assert_close(method(faces[:2]).scores, expected, atol=20 * tolerance(expected), rtol=1e-5)


@every_method
@pytest.mark.parametrize("winograd", [False, True])
def test_folding_and_half_precision_in_either_order(make_method, faces, name, winograd):
    if name in ("faceqan", "grafiqs", "pfe"):
        pytest.skip("too inexact in half precision for its score to be compared")
    expected = make_method(name).to(dtype=torch.bfloat16)(faces)
    first, second = make_method(name), make_method(name)
    first.enable_folding(winograd)
    first.to(dtype=torch.bfloat16)
    second.to(dtype=torch.bfloat16)
    second.enable_folding(winograd)
    for method in (first, second):
        assert next(method.model.parameters()).dtype == torch.bfloat16
        output = method(faces)
        assert output.errors == [None] * len(faces)
        atol = 0.1 * max(1.0, expected.scores.abs().max().item())
        torch.testing.assert_close(output.scores, expected.scores, atol=atol, rtol=0)


@pytest.mark.parametrize("name", ["grafiqs", "ser-fiq", "froq", "vitnt-fiqa"])
def test_what_looks_into_the_fr_model_leaves_no_hook(make_method, make_network, faces, name):
    network = make_network(name)
    method = make_method(name, network)
    calls = []
    (network.embed if name == "vitnt-fiqa" else network.fc).register_forward_hook(lambda *args: calls.append(name))
    method(faces[:2])
    assert calls  # the owner's own hooks are called
    assert sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules()) == 1


def test_pfe_on_a_folded_iresnet(make_network, faces):
    from diffiqa_hf.models.pfe import PFEForFaceQuality

    model = PFEForFaceQuality.from_fr_model(make_network("faceqan")).eval()
    with torch.no_grad():
        model.uncertainty.scale.fill_(1.0)  # else all variances are nearly the same
    method = load_method("pfe", weights=model)
    method.image_processor.size = {"height": 32, "width": 32}
    expected = method(faces).scores
    method.enable_folding()
    torch.testing.assert_close(method(faces).scores, expected, atol=0, rtol=1e-4)
