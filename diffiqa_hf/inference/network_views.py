# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
One network, several callers: how a network computes for inference, whatever its owner or other threads do with it.

A view is a network of its own modules around the same weights. What is done to the modules of a view, such as hooks or
a change of mode, nobody else sees, so calls need not wait for each other.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from accelerate.utils import named_module_tensors
from safetensors.torch import load_file
from torch import nn
from torch.utils.hooks import RemovableHandle


# What offloads a network moves its weights about while it runs, and onto one device: such calls wait for each other.
_OFFLOADED = threading.RLock()
_HOOKS = ("_hf_hook", "_diffusers_hook")
_HOOK_TABLES = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def uncompiled(model: nn.Module) -> nn.Module:
    """The model that `torch.compile` has wrapped, or the model itself. It has the same weights."""
    return getattr(model, "_orig_mod", model)


def is_offloaded(model: nn.Module) -> bool:
    """Whether hooks of accelerate or diffusers move the weights while the network runs."""
    return any(name in module.__dict__ for module in uncompiled(model).modules() for name in _HOOKS)


def one_at_a_time(*models: nn.Module) -> AbstractContextManager:
    """What a call of these networks runs in: a lock where one of them is offloaded, otherwise nothing."""
    return _OFFLOADED if any(map(is_offloaded, models)) else nullcontext()


def private_view(model: nn.Module) -> nn.Module:
    """
    A network of other modules around the same parameters and buffers, for hooks that no other caller may see. An
    offloaded network, whose modules hold the hooks that move its weights, is given back itself: it is called by one at
    a time (see [`one_at_a_time`]).
    """
    model = uncompiled(model)
    return model if is_offloaded(model) else _view(model, {})


def for_inference(model: nn.Module) -> nn.Module:
    """
    The network in evaluation mode: the model itself, or a view where any part of it is in training mode. So neither
    its mode nor its running statistics change.

    Raises:
        ValueError: It is in training mode and offloaded.
    """
    if not any(module.training for module in uncompiled(model).modules()):
        return model
    if is_offloaded(model):
        what = type(uncompiled(model)).__name__
        raise ValueError(f"the {what} is in training mode and offloaded: call its .eval() first")
    return private_view(model).eval()


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a model, wherever accelerate or diffusers has put it."""
    model = uncompiled(model)
    with _OFFLOADED:  # a call that runs meanwhile would move it about
        state = model.state_dict(keep_vars=True)
        for prefix, module in model.named_modules(remove_duplicate=False):
            prefix = prefix and prefix + "."
            hook = module.__dict__.get("_hf_hook")
            for part in getattr(hook, "hooks", [hook]):
                if getattr(part, "weights_map", None) is not None:
                    own = named_module_tensors(module, part.offload_buffers, part.place_submodules, True)
                    state |= {prefix + name: part.weights_map[name] for name, _ in own}
            # Group offloading to the disk: what is in memory meanwhile is nothing.
            registry = module.__dict__.get("_diffusers_hook")
            hook = None if registry is None else registry.get_hook("group_offloading")
            if hook is not None and hook.group.offload_to_disk_path:
                stored = load_file(hook.group.safetensors_file_path)
                stored = {id(tensor): stored[key] for tensor, key in hook.group.tensor_to_key.items()}
                state = {name: stored.get(id(tensor), tensor) for name, tensor in state.items()}
        return {name: tensor.detach() for name, tensor in state.items()}


@contextmanager
def removed(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Takes hooks away at the end."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def output_of(model: nn.Module, faces: torch.Tensor, name: str) -> Any:
    """
    What a model gives by the name `name`, whether it gives an output class or, by `return_dict=False` in its
    configuration, a tuple, whose first entry is its main output.
    """
    output = model(faces)
    return output[0] if isinstance(output, tuple) else getattr(output, name)


def _view(module: nn.Module, known: dict[nn.Module, nn.Module]) -> nn.Module:
    if module in known:
        return known[module]
    view = known[module] = module.__new__(type(module))
    view.__dict__.update(module.__dict__)
    for name in ("_parameters", "_buffers", *_HOOK_TABLES):
        view.__dict__[name] = module.__dict__[name].copy()
    view.__dict__["_modules"] = {
        name: None if child is None else _view(child, known) for name, child in module._modules.items()
    }
    return view


__all__ = [
    "for_inference",
    "is_offloaded",
    "one_at_a_time",
    "output_of",
    "private_view",
    "removed",
    "uncompiled",
    "weights_of",
]
