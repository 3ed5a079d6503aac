# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Keras' files (HDF5), read without Keras: the weights and, of the description of the layers that stands in the file as
JSON, the few facts that leave no trace in them. Nothing in the file is run.
"""

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..errors import CheckpointError


# The layers that FaceQnet is made of, and what holds layers. A Lambda, for one, would be code.
_CONTAINERS = ("Model", "Functional", "Sequential")
_LAYERS = (
    *("InputLayer", "Conv2D", "BatchNormalization", "Activation", "ReLU", "MaxPooling2D", "AveragePooling2D"),
    *("GlobalAveragePooling2D", "Add", "Flatten", "Dropout", "Dense"),
)
ACTIVATIONS = ("linear", "relu", "sigmoid")
TRUNK_PARTS = {"1x1_reduce": "reduce", "3x3": "conv", "1x1_increase": "increase", "1x1_proj": "proj"}
TRUNK = re.compile(rf"(?:conv1/7x7_s2|conv(\d+)_(\d+)_({'|'.join(TRUNK_PARTS)}))(/bn)?")


def read_keras_file(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """
    The weights of a Keras model that was saved whole as HDF5, in the order of the layers, as `LAYER/KIND` (`kernel`,
    `bias`, `gamma`, ...). With each dense layer comes `LAYER/activation`, the position of its activation in linear,
    relu, sigmoid; with each batch normalisation `LAYER/epsilon`.

    Of a file with weights alone those of a trunk are read, which say all but the epsilon (keras-vggface leaves it as
    Keras has it). The `classifier` of VGGFace2's people is left out.

    Raises:
        CheckpointError: The file can't be read, is no such model, or h5py is missing; the message is the reason.
    """
    try:
        import h5py
    except ImportError:
        raise CheckpointError("reading Keras files takes h5py: pip install 'diffiqa-hf[keras]'") from None
    try:
        if not os.path.getsize(path):
            raise CheckpointError("empty file")
        if not h5py.is_hdf5(path):
            raise CheckpointError("no HDF5 file")
        with h5py.File(path, "r") as file:
            return _read(file, h5py)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(os.strerror(error.errno) if error.errno else f"damaged HDF5 file ({error})") from None
    except (AttributeError, KeyError, RecursionError, RuntimeError, TypeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"damaged file, or no model that Keras has saved whole ({lines[0]})") from None


def _read(file: Any, h5py: Any) -> dict[str, torch.Tensor]:
    if "model_config" not in file.attrs or "model_weights" not in file:
        return _read_trunk(file, h5py)
    layers = list(_layers(json.loads(_text(file.attrs["model_config"]))))
    if unknown := {kind for kind, _ in layers} - {*_LAYERS}:
        raise ValueError(f"a layer of kind {unknown.pop()}, which FaceQnet has none of")
    weights = _weights(file["model_weights"], h5py)
    tensors: dict[str, torch.Tensor] = {}
    last = None
    for kind, settings in layers:
        name = settings["name"]
        tensors |= weights.pop(name, {})
        if kind == "BatchNormalization":
            tensors[f"{name}/epsilon"] = torch.tensor(float(settings["epsilon"]), dtype=torch.float64)
        activation = {"ReLU": "relu"}.get(kind, settings.get("activation"))
        if kind == "Dense":
            last = name
            tensors[f"{name}/activation"] = torch.tensor(ACTIVATIONS.index(activation))
        elif kind in ("Activation", "ReLU") and last is not None:
            # Of the dense layer before it, which then has none of its own.
            if tensors[f"{last}/activation"] != 0:
                raise ValueError(f"two activations after {last}")
            tensors[f"{last}/activation"] = torch.tensor(ACTIVATIONS.index(activation))
    if weights:
        raise ValueError(f"weights of {next(iter(weights))}, which is not among the layers")
    if not tensors:
        raise ValueError("no weights in it")
    return tensors


def _read_trunk(file: Any, h5py: Any) -> dict[str, torch.Tensor]:
    weights = _weights(file, h5py) if "layer_names" in file.attrs else {}
    weights.pop("classifier", None)
    if not weights or not all(map(TRUNK.fullmatch, weights)):
        raise ValueError("without a description of the layers: the weights alone do not say what is computed")
    return {name: tensor for tensors in weights.values() for name, tensor in tensors.items()}


def _layers(description: dict) -> Iterator[tuple[str, dict]]:
    """Kind and settings of each layer, in the file's order, those of models within models as well."""
    kind, settings = description["class_name"], description["config"]
    if kind not in _CONTAINERS:
        yield kind, settings
        return
    # Old files of a Sequential have the list itself.
    for layer in settings if isinstance(settings, list) else settings["layers"]:
        yield from _layers(layer)


def _weights(group: Any, h5py: Any) -> dict[str, dict[str, torch.Tensor]]:
    """
    By layer. A dataset's name is `LAYER/KIND:0` below the group of its layer or of the model that holds the layer,
    with a number after LAYER where a name was taken (`dense_1/dense_1_2/kernel:0`).
    """
    found: dict[str, dict[str, torch.Tensor]] = {}
    for top in group.attrs["layer_names"]:
        top = _text(top)
        names = [_text(name) for name in group[top].attrs["weight_names"]]
        parents = {name.rpartition("/")[0] for name in names}
        for name in names:
            parent, _, kind = name.rpartition("/")
            layer = top if len(parents) == 1 else parent.removeprefix(f"{top}/")
            dataset = group[top][name]
            if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != "f":
                raise ValueError(f"{name} holds no floating point numbers")
            values = np.asarray(dataset[()], dtype=np.float32)
            found.setdefault(layer, {})[f"{layer}/{kind.partition(':')[0]}"] = torch.from_numpy(values)
    return found


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


__all__ = ["ACTIVATIONS", "TRUNK", "TRUNK_PARTS", "read_keras_file"]
