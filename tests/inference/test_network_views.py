# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""One network, several callers: views, modes, offloading."""

import threading

import pytest
import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from diffusers.hooks import apply_group_offloading
from torch import nn

from diffiqa_hf.calibration import weights_digest
from diffiqa_hf.inference.network_views import for_inference, is_offloaded, one_at_a_time, private_view, weights_of


class Scaled(nn.Module):
    """With a parameter and buffers of its own and, `shared`, a module that stands in two places."""

    def __init__(self, shared: bool):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("offset", torch.tensor([0.5]))
        self.register_buffer("unsaved", torch.tensor([2.0]), persistent=False)
        self.act = nn.PReLU()
        self.blocks = nn.Sequential(
            nn.Linear(4, 4), self.act if shared else nn.PReLU(), nn.BatchNorm1d(4), nn.Dropout(0.5)
        )
        self.nothing = None

    def forward(self, x):
        return self.act(self.blocks(x)) * self.scale + self.offset * self.unsaved


def make(shared: bool = False) -> Scaled:
    torch.manual_seed(0)
    model = Scaled(shared)
    model.blocks[2].running_mean.uniform_()
    return model


def test_hooks_on_a_view_are_its_own():
    model, x = make(shared=True).eval(), torch.randn(3, 4)
    expected, calls = model(x), []
    model.blocks[0].register_forward_hook(lambda *args: calls.append("mine"))
    view = private_view(model)
    view.blocks[0].register_forward_hook(lambda *args: calls.append("view's"))
    torch.testing.assert_close(view(x), expected)
    assert calls == ["mine", "view's"] and view.blocks[0].weight is model.blocks[0].weight
    assert view.act is view.blocks[1] and view.act is not model.act
    calls.clear()
    model(x)
    assert calls == ["mine"]


def test_a_network_in_training_mode_computes_in_evaluation_mode_and_stays_as_it_was():
    model, x = make(), torch.randn(5, 4)
    model.blocks[0].eval()  # frozen, as in fine-tuning
    with torch.no_grad():
        expected = make().eval()(x)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.testing.assert_close(for_inference(model)(x), expected)
    assert model.training and not model.blocks[0].training and model.blocks[2].training
    torch.testing.assert_close(dict(model.state_dict()), before, atol=0, rtol=0)
    model.eval()
    assert for_inference(model) is model


def test_a_compiled_network_in_training_mode():
    model, x = make(), torch.randn(5, 4)
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(for_inference(compiled)(x), make().eval()(x))
    assert model.training
    model.eval()
    assert for_inference(compiled) is compiled


def offload(model, kind):
    if kind == "model":
        return cpu_offload_with_hook(model, execution_device="cpu")[0]
    if kind == "sequential":
        return cpu_offload(model, execution_device="cpu")
    options = {"num_blocks_per_group": 1} if kind == "blocks" else {}
    apply_group_offloading(
        model, torch.device("cpu"), offload_type="block_level" if options else "leaf_level", **options
    )
    return model


@pytest.mark.parametrize("kind", ["model", "sequential", "blocks", "leaves"])
@torch.no_grad()
def test_an_offloaded_network_has_its_weights_and_is_called_by_one_at_a_time(kind):
    model, x = make().eval(), torch.randn(2, 4)
    digest, expected = weights_digest(model), model(x)
    assert not is_offloaded(model)
    model = offload(model, kind)
    assert is_offloaded(model) and private_view(model) is model
    for _ in range(2):
        assert weights_digest(model) == digest
        torch.testing.assert_close(model(x), expected)

    def waits():
        with one_at_a_time(model):
            entered.set()

    entered = threading.Event()
    with one_at_a_time(model):
        thread = threading.Thread(target=waits)
        thread.start()
        assert not entered.wait(0.2)
    thread.join()
    assert entered.is_set()


@torch.no_grad()
def test_a_network_that_is_offloaded_to_the_disk_has_its_weights(tmp_path):
    model = make().eval()
    expected, digest = {name: tensor.clone() for name, tensor in model.state_dict().items()}, weights_digest(model)
    apply_group_offloading(
        model,
        torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        offload_to_disk_path=str(tmp_path),
    )
    torch.testing.assert_close(weights_of(model), expected, atol=0, rtol=0)
    assert weights_digest(model) == digest


def test_offloaded_in_training_mode_is_refused():
    model = cpu_offload(make(), execution_device="cpu")
    with pytest.raises(ValueError, match=r"the Scaled is in training mode and offloaded: call its \.eval\(\) first"):
        for_inference(model)
