# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
LightQNet's frozen TensorFlow graphs (`lightqnet-dm100.pb`, `-dm050.pb`, `-dm025.pb`), read without TensorFlow.

A frozen graph is a `GraphDef` message of protocol buffers; its weights are the constants among its nodes. The reader
here knows the wire format and the five messages that matter, field numbers as in TensorFlow's `graph.proto`,
`node_def.proto`, `attr_value.proto`, `tensor.proto` and `tensor_shape.proto`. It computes nothing of the graph.
"""

import math
import os
import re
from collections.abc import Iterator

import numpy as np
import torch

from ..models import LightQNetConfig
from .loading import CheckpointError


# TensorFlow's numbers of data types.
_DTYPES = {1: np.dtype("<f4"), 3: np.dtype("<i4")}
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
_TRUNK = "UncertaintyModule/MobilenetV3"
_HEAD = "UncertaintyModule/Bottleneck"


def read_frozen_graph(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """
    The constants of a frozen TensorFlow graph by the names of their nodes, and, for each convolution, its strides in
    height and width as `NAME/strides`, an integer tensor: they leave no trace in the weights.

    Raises:
        CheckpointError: The file can't be read or is no frozen graph; the message is the reason in one line.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise CheckpointError(error.strerror or str(error)) from None
    if not content:
        raise CheckpointError("empty file")
    tensors = {}
    try:
        for number, value in _fields(memoryview(content)):
            if number == 1:
                name, op, attributes = _node(value)
                if op == "Const":
                    tensors[name] = _tensor(_submessage(attributes["value"], 8))
                elif op in _CONVOLUTIONS:
                    strides = _integers(_submessage(_submessage(attributes["strides"], 1), 3))
                    tensors[f"{name}/strides"] = torch.tensor(strides[1:3])  # batch, height, width, channels
    except (IndexError, KeyError, TypeError, ValueError) as error:  # whatever a damaged message leads to
        raise CheckpointError(f"truncated or damaged file, or no frozen TensorFlow graph ({error})") from None
    if not tensors:
        raise CheckpointError("a TensorFlow graph without constants: it has to be frozen")
    return tensors


def convert_lightqnet(tensors: dict[str, torch.Tensor]) -> tuple[LightQNetConfig, dict[str, torch.Tensor]]:
    """
    Args:
        tensors: What [`read_frozen_graph`] gives of a published file (RGB, (x - 128) / 128).

    Returns:
        The configuration and the state dict of a [`LightQNetForFaceQuality`].

    Raises:
        ValueError: A tensor is not expected; it is named.
        KeyError: One that the sizes are read off is missing.
    """
    norms = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    outside = {"Conv": "stem", "Conv_1": "feature"}
    converted, strides = {}, {}
    for name, tensor in tensors.items():
        path = name.removeprefix(f"{_TRUNK}/").split("/")
        if name == f"{_HEAD}/weights":
            converted["score.weight"] = tensor.t()
            continue
        if name == f"{_HEAD}/biases":
            converted["score.bias"] = tensor
            continue
        if name == "UncertaintyModule/Reshape/shape":
            continue
        if m := re.fullmatch(r"expanded_conv(?:_(\d+))?", path[0]):
            ours, path = f"blocks.{m[1] or 0}.{path[1]}", path[2:]
        elif path[0] in outside:
            ours, path = outside[path[0]], path[1:]
        else:
            raise ValueError(f"unexpected tensors: {name}")
        if path[-1] == "strides":
            strides[ours] = tensor.tolist()
        elif path == ["weights"]:
            converted[f"{ours}.conv.weight"] = tensor.permute(3, 2, 0, 1)  # from height, width, in, out
        elif path == ["depthwise_weights"]:
            converted[f"{ours}.conv.weight"] = tensor.permute(2, 3, 0, 1)  # from height, width, channels, 1
        elif len(path) == 2 and path[0] == "BatchNorm" and path[1] in norms:
            converted[f"{ours}.norm.{norms[path[1]]}"] = tensor
            converted[f"{ours}.norm.num_batches_tracked"] = torch.tensor(0)
        else:
            raise ValueError(f"unexpected tensors: {name}")
    blocks = []
    while f"blocks.{len(blocks)}.project.conv.weight" in converted:
        project = converted[f"blocks.{len(blocks)}.project.conv.weight"]
        stride = strides.pop(f"blocks.{len(blocks)}.depthwise")
        if stride not in ([1, 1], [2, 2]):
            raise ValueError(f"block {len(blocks)} has strides {stride}")
        blocks.append([project.shape[1], project.shape[0], stride[0]])
    if any(stride != [1, 1] for stride in strides.values()):
        raise ValueError(f"strides where LightQNet has none: {strides}")
    config = LightQNetConfig(
        stem_width=converted["stem.conv.weight"].shape[0],
        blocks=blocks,
        feature_width=converted["feature.conv.weight"].shape[0],
    )
    return config, converted


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one message: their numbers and values, integers or bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, position = _varint(message, position)
        elif wire_type in (1, 2, 5):
            length = {1: 8, 5: 4}.get(wire_type)
            if length is None:
                length, position = _varint(message, position)
            if position + length > len(message):
                raise ValueError("a field ends beyond its message")
            value = message[position : position + length]
            position += length
        else:
            raise ValueError(f"wire type {wire_type}")
        yield number, value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise ValueError("an integer of more than 64 bits")


def _submessage(message: memoryview, number: int) -> memoryview:
    """The last field of that number, which is the one that counts."""
    found = None
    for field, value in _fields(message):
        if field == number:
            found = value
    if not isinstance(found, memoryview):
        raise ValueError(f"field {number} is missing")
    return found


def _node(message: memoryview) -> tuple[str, str, dict[str, memoryview]]:
    """Name, operation and attributes of a `NodeDef`."""
    name = op = ""
    attributes = {}
    for number, value in _fields(message):
        if number in (1, 2, 5) and not isinstance(value, memoryview):
            raise ValueError("a node without a name")
        if number == 1:
            name = bytes(value).decode()
        elif number == 2:
            op = bytes(value).decode()
        elif number == 5:
            attributes[bytes(_submessage(value, 1)).decode()] = _submessage(value, 2)
    return name, op, attributes


def _tensor(message: memoryview) -> torch.Tensor:
    """A `TensorProto` of float32 or int32."""
    dtype, shape, content = None, [], None
    listed = []
    for number, value in _fields(message):
        if number == 1:
            dtype = _DTYPES.get(value)
        elif number == 2:
            shape = [_dimension(dimension) for field, dimension in _fields(value) if field == 2]
        elif number == 4:
            content = np.frombuffer(value, np.uint8)
        elif number == 5:  # float_val, packed or one by one
            listed.append(np.frombuffer(value, np.uint8))
        elif number == 7:  # int_val
            numbers = _integers(value) if isinstance(value, memoryview) else [value]
            listed.append(np.array(numbers, np.uint64).astype(np.int32).view(np.uint8))
    if dtype is None:
        raise ValueError("a constant that is neither float32 nor int32")
    if content is None:
        content = np.concatenate(listed) if listed else np.empty(0, np.uint8)
    values = content.view(dtype)
    count = math.prod(shape)
    if values.size == 1 and 1 < count < 1 << 28:
        values = values.repeat(count)  # one value stands for all
    if values.size != count:
        raise ValueError(f"{values.size} values for a shape of {shape}")
    return torch.from_numpy(values.reshape(shape).astype(dtype.newbyteorder("=")))


def _dimension(message: memoryview) -> int:
    size = 0
    for number, value in _fields(message):
        if number == 1:
            size = value
    return size


def _integers(message: memoryview) -> list[int]:
    """A packed list of integers."""
    values, position = [], 0
    while position < len(message):
        value, position = _varint(message, position)
        values.append(value)
    return values


__all__ = ["convert_lightqnet", "read_frozen_graph"]
