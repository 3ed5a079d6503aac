# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Frozen graphs of TensorFlow (`.pb`), read without TensorFlow.

A frozen graph is a `GraphDef` message of protocol buffers; its weights are the constants among its nodes. The reader
here knows the five messages that matter, field numbers as in TensorFlow's `graph.proto`, `node_def.proto`,
`attr_value.proto`, `tensor.proto` and `tensor_shape.proto`. It computes nothing of the graph.
"""

import math
import os

import numpy as np
import torch

from ..errors import CheckpointError
from .files import read_file
from .protobuf import as_message, read_fields, read_integers, read_shape, submessage


# TensorFlow's numbers of data types.
_DTYPES = {1: np.dtype("<f4"), 3: np.dtype("<i4")}
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


def read_frozen_graph(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """
    The constants of a frozen TensorFlow graph by the names of their nodes, and, for each convolution, its strides in
    height and width as `NAME/strides`, an integer tensor: they leave no trace in the weights.

    Raises:
        CheckpointError: The file can't be read or is no frozen graph; the message is the reason in one line.
    """
    content = read_file(path)
    tensors = {}
    try:
        for number, value in read_fields(memoryview(content)):
            if number == 1:
                name, op, attributes = _node(as_message(value))
                if op == "Const":
                    tensors[name] = _tensor(submessage(attributes["value"], 8))
                elif op in _CONVOLUTIONS:
                    strides = read_integers(submessage(submessage(attributes["strides"], 1), 3))
                    tensors[f"{name}/strides"] = torch.tensor(strides[1:3])  # batch, height, width, channels
    except (IndexError, KeyError, TypeError, ValueError) as error:  # whatever a damaged message leads to
        raise CheckpointError(f"truncated or damaged file, or no frozen TensorFlow graph ({error})") from None
    if not tensors:
        raise CheckpointError("a TensorFlow graph without constants: it has to be frozen")
    return tensors


def _node(message: memoryview) -> tuple[str, str, dict[str, memoryview]]:
    """Name, operation and attributes of a `NodeDef`."""
    name = op = ""
    attributes = {}
    for number, value in read_fields(message):
        if number == 1:
            name = bytes(as_message(value)).decode()
        elif number == 2:
            op = bytes(as_message(value)).decode()
        elif number == 5:
            attribute = as_message(value)
            attributes[bytes(submessage(attribute, 1)).decode()] = submessage(attribute, 2)
    return name, op, attributes


def _tensor(message: memoryview) -> torch.Tensor:
    """A `TensorProto` of float32 or int32."""
    dtype, shape, content = None, [], None
    listed = []
    for number, value in read_fields(message):
        if number == 1 and isinstance(value, int):
            dtype = _DTYPES.get(value)
        elif number == 2:
            shape = read_shape(value)
        elif number == 4:
            content = np.frombuffer(value, np.uint8)
        elif number == 5:  # float_val, packed or one by one
            listed.append(np.frombuffer(value, np.uint8))
        elif number == 7:  # int_val
            numbers = read_integers(value) if isinstance(value, memoryview) else [value]
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


__all__ = ["read_frozen_graph"]
