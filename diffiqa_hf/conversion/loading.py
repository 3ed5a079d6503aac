# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Foreign checkpoint files to the one state dict in them: which reader takes a file, and which wrappers come off."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..file_utils import file_fault
from .errors import CheckpointError
from .readers.pytorch import StandIn, read_pytorch_file


# Keys under which training scripts keep the network's state dict.
CONTAINERS = (
    "state_dict",
    "net_state_dict",
    "state_dict_backbone",
    "model_state_dict",
    "model",
    "backbone",
    "backbone_state_dict",
    "net",
    "network",
    "encoder",
    "module",
)
# What wrappers put before the names of all tensors; the longer ones first.
PREFIXES = (
    "features.module.",
    "module.features.",
    "module.",
    "model.",
    "backbone.",
    "_orig_mod.",
    "net.",
    "network.",
    "encoder.",
)
# What may stand beside the wrapped network: the classifier or margin head of the training, and the noise schedule
# that a diffusion keeps in buffers.
_OUTSIDE = re.compile(
    r"(module\.)?(head\..+|fc\.weight)$"
    r"|(betas|alphas_cumprod(_prev)?|sqrt_(one_minus_|recip_|recipm1_)?alphas_cumprod|log_one_minus_alphas_cumprod"
    r"|posterior_(variance|log_variance_clipped|mean_coef1|mean_coef2)|p2_loss_weight|loss_weight)$"
)


@dataclass
class ForeignStateDict:
    """
    The state dict in a checkpoint, its wrappers taken off.

    Args:
        tensors (`dict[str, torch.Tensor]`): By their bare names, on the CPU.
        prefix (`str`): What stood before every name.
        dropped (`list[str]`): Tensors that stood beside the network: a training head, a noise schedule.
    """

    tensors: dict[str, torch.Tensor]
    prefix: str
    dropped: list[str]


def read_checkpoint(path: str | os.PathLike, allow_pickle_globals: Iterable[str] = ()) -> Any:
    """
    What a `.pth`, `.pt`, `.ckpt`, `.bin`, `.safetensors`, MXNet's `.params` or dlib's `.dat` file holds, on the CPU.
    The kind of file is told by its content; those of TensorFlow and Keras by their names: `.pb` (a frozen graph),
    `.index` (of a checkpoint, with its data file beside it) and `.h5`.

    Args:
        path: Of the file.
        allow_pickle_globals (`Iterable[str]`): Full names, such as `"argparse.Namespace"`, of classes and functions
            that a pickle may ask for besides those of torch's weights-only reader. Each is replaced by an inert
            stand-in: neither imported nor called, so what it would have made is lost.

    Raises:
        CheckpointError: The file can't be read, or asks for something that is not allowed; the message is the reason.
    """
    if os.path.isdir(path):
        raise CheckpointError("is a directory: name the checkpoint file in it")
    if (reason := file_fault(path)) is not None:
        raise CheckpointError(reason)
    if os.fspath(path).endswith(".onnx"):
        raise CheckpointError(
            "an ONNX file: networks are read from folders and from the files that their authors train to (.pth, ...); "
            "convert the one that it was exported from"
        )
    if os.fspath(path).endswith(".pb"):
        from .readers.tensorflow_graph import read_frozen_graph

        return read_frozen_graph(path)
    if os.fspath(path).endswith(".index"):
        from .readers.tensorflow_bundle import read_tensor_bundle

        return read_tensor_bundle(path)
    if os.fspath(path).endswith((".h5", ".hdf5")):
        from .readers.keras import read_keras_file

        return read_keras_file(path)
    kind = _kind(path)
    if kind == "mxnet":
        from .readers.mxnet import read_params

        return read_params(path)
    if kind == "dlib":
        from .readers.dlib import read_dlib_network

        return read_dlib_network(path)
    if kind != "safetensors" and os.fspath(path).endswith(".safetensors"):
        raise CheckpointError("named .safetensors and is none")
    return read_pytorch_file(path, kind, allow_pickle_globals)


def find_state_dict(checkpoint: Any) -> ForeignStateDict:
    """
    The network's tensors in what a file holds, without the containers and prefixes that training scripts put round
    them.

    Raises:
        CheckpointError: There are no tensors.
    """
    for _ in range(len(CONTAINERS)):  # no deeper, for a pickle may contain itself
        inside = _inside(checkpoint)
        if inside is None:
            break
        checkpoint = inside
    if not isinstance(checkpoint, Mapping):
        raise CheckpointError(f"no state dict in it, but {_what(checkpoint)}")
    tensors = {
        name: value.detach() for name, value in checkpoint.items() if isinstance(name, str) and _is_plain_tensor(value)
    }
    if not tensors:
        keys = ", ".join(repr(key) for key in list(checkpoint)[:5])
        raise CheckpointError(f"no tensors in it{', only ' + keys if keys else ''}")

    taken = ""
    dropped: list[str] = []
    while True:
        for prefix in PREFIXES:
            outside = [name for name in tensors if not name.startswith(prefix)]
            if len(outside) < len(tensors) and all(map(_OUTSIDE.match, outside)):
                break
        else:
            return ForeignStateDict(tensors, taken, dropped)
        taken += prefix
        dropped += outside
        tensors = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _inside(checkpoint: Any) -> Any:
    """What a container holds: what stands under a known key, or the one state dict among what it lists."""
    if isinstance(checkpoint, Mapping):
        for key in CONTAINERS:
            if isinstance(checkpoint.get(key), Mapping | list | tuple):
                return checkpoint[key]
        if any(map(_is_plain_tensor, checkpoint.values())):
            return None
        named = dict(checkpoint)
    elif isinstance(checkpoint, list | tuple):
        named = {f"number {i}": value for i, value in enumerate(checkpoint, 1)}
    else:
        return None
    found = {key: value for key, value in named.items() if isinstance(value, Mapping) and _holds_tensors(value)}
    if len(found) > 1:
        names = ", ".join(map(str, list(found)[:5]))
        raise CheckpointError(f"several state dicts in it ({names}): save the one of the network by itself")
    return next(iter(found.values()), None)


def _holds_tensors(value: Mapping) -> bool:
    """Whether it is a state dict, or a container of one under a known key."""
    values = [value, *(value[key] for key in CONTAINERS if isinstance(value.get(key), Mapping))]
    return any(isinstance(x, str) and _is_plain_tensor(inside[x]) for inside in values for x in inside)


def _kind(path: str | os.PathLike) -> str:
    """`"safetensors"`, `"zip"` (torch.save since 1.6), `"pickle"` (before), `"mxnet"` or `"dlib"`."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(b"\x80"):
        return "pickle"
    if head.startswith(b"\x12\x01\0\0\0\0\0\0"):
        return "mxnet"
    # The version of the loss layer, 1, and the text of its kind.
    if head.startswith(b"\x01\x01\x01") and head[4:9] == b"loss_":
        return "dlib"
    if head.startswith(b"BZh"):
        raise CheckpointError("compressed by bzip2: `bunzip2` unpacks it")
    if os.fspath(path).endswith(".params"):
        raise CheckpointError("no .params file of MXNet")
    if os.fspath(path).endswith(".dat"):
        raise CheckpointError("no network of dlib")
    raise CheckpointError("neither a PyTorch nor a safetensors file")


def _is_plain_tensor(value: Any) -> bool:
    # Sparse, quantised and meta tensors are no weights of the networks that we know.
    if not isinstance(value, torch.Tensor):
        return False
    return value.device.type == "cpu" and value.layout == torch.strided and not value.is_quantized


def _what(value: Any) -> str:
    if isinstance(value, StandIn):
        return "a whole pickled object: its state_dict() has to be saved by the code that it came with"
    return f"a {type(value).__name__}"


__all__ = ["ForeignStateDict", "find_state_dict", "read_checkpoint"]
