# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Networks that dlib has written (`serialize` of its `loss_metric` networks, `.dat` or `.dnn`), read without dlib.

The format is that of dlib's serialize.h, dnn/core.h, dnn/input.h, dnn/layers.h and cuda/tensor.h. An integer is a byte
with its sign and size, and so many bytes, little-endian. A number with a point is two integers, mantissa and exponent;
a text its length and bytes; a truth value the character 0 or 1. A tensor is a version, four sizes, and float32 values.

A network is nested from the loss down to the input, and a layer's own data come after those of all below it. So a file
begins with one integer for each layer from the last to the first: 2 for a layer, 1 for a tag or a skip (which have no
data, and which of them it is the file does not say), 3 for the first layer, which holds the input. The data follow in
the order of computation.
"""

import math
import os
from collections.abc import Callable, Mapping

import numpy as np
import torch

from ..errors import CheckpointError
from .files import Cursor, map_file


# Far more than any network has; a file of nothing but such integers ends soon.
_MAX_LAYERS = 10_000
_MAX_TEXT = 64
# What dlib's float_details has for infinities and NaN in place of an exponent.
_NOT_FINITE = (32000, 32001, 32002)

Arrays = dict[str, torch.Tensor]


def read_dlib_network(path: str | os.PathLike) -> Arrays:
    """
    The arrays of a network by the number of their layer in the order of computation (0 is the input), its kind and
    what they are, on the CPU:

    - `0.input_rgb_image_sized.mean` (R, G, B) and `.size` (height, width);
    - `N.con.weight` (filters, channels, height, width), `.bias`, `.stride` and `.padding` (y, x);
    - `N.affine.weight` and `.bias` of each channel;
    - `N.max_pool.size`, `.stride`, `.padding`, and those of `avg_pool` (y, x; a size of 0 stands for the whole);
    - `N.fc.weight` (outputs, inputs) and, where there is one, `.bias`;
    - `N.relu`, `N.add_prev` and `N.tag` (a tag or a skip), which are empty;
    - `loss.loss_metric.margin` and `.distance`.

    Raises:
        CheckpointError: The file can't be read, is no such network, or has layers of other kinds; the message is the
            reason in one line.
    """
    content = map_file(path)
    try:
        return _network(_Stream(content))
    except ValueError as error:
        raise CheckpointError(f"truncated or damaged file, or no face recognition network of dlib ({error})") from None


class _Stream(Cursor):
    """dlib's elementary types, read one after the other."""

    def integer(self) -> int:
        control = int(self.take(1)[0])
        size = control & 0x7F
        if not 1 <= size <= 8:
            raise ValueError(f"no integer at {self.position - 1}")
        value = int.from_bytes(self.take(size).tobytes(), "little")
        return -value if control & 0x80 else value

    def expect(self, *allowed: int, what: str) -> int:
        value = self.integer()
        if value not in allowed:
            raise ValueError(f"{what} is {value}, known {'are' if len(allowed) > 1 else 'is'} {_listed(allowed)}")
        return value

    def number(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        if exponent in _NOT_FINITE or not -2000 < exponent < 2000:
            raise ValueError(f"a number that is not finite before {self.position}")
        try:
            return math.ldexp(mantissa, exponent)
        except OverflowError:
            raise ValueError(f"a number that is not finite before {self.position}") from None

    def flag(self) -> bool:
        value = self.take(1).tobytes()
        if value not in (b"0", b"1"):
            raise ValueError(f"no truth value at {self.position - 1}")
        return value == b"1"

    def text(self) -> str:
        size = self.integer()
        if not 0 <= size <= _MAX_TEXT:
            raise ValueError(f"a name of {size} letters")
        return self.take(size).tobytes().decode("ascii", "backslashreplace")

    def pair(self) -> tuple[int, int]:
        return self.size(), self.size()

    def size(self) -> int:
        value = self.integer()
        if value < 0:
            raise ValueError(f"a size of {value} before {self.position}")
        return value

    def shape(self, version: int) -> tuple[int, int, int, int]:
        self.expect(version, what="the version of a tensor")
        return self.size(), self.size(), self.size(), self.size()

    def tensor(self) -> np.ndarray:
        """The values, flat. Their number is held against the rest of the file before anything is made of them."""
        return self.take(4 * math.prod(self.shape(2))).view("<f4")

    def aliases(self, values: np.ndarray, count: int) -> list[np.ndarray]:
        """The tensors that share the values of one, in their order."""
        # The shapes of all come first, before what else the layer has; an unused one is 0x0x0x0.
        shapes = [self.shape(1) for _ in range(count)]
        sizes = [math.prod(shape) for shape in shapes]
        if sum(sizes) != len(values):
            raise ValueError(f"{len(values)} values in a layer for shapes of {sum(sizes)}")
        parts = np.split(values, np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _network(stream: _Stream) -> Arrays:
    stream.expect(1, what="the version of the loss layer")
    arrays = _named("loss", stream, {"loss_metric_": _loss, "loss_metric_2": _loss})
    versions: list[int] = []
    while not versions or versions[-1] != 3:
        versions.append(stream.expect(1, 2, 3, what="the version of a layer"))
        if len(versions) > _MAX_LAYERS:
            raise ValueError(f"more than {_MAX_LAYERS} layers")
    arrays |= _named("0", stream, _INPUTS)
    for number, version in enumerate(reversed(versions), start=1):
        if version == 1:
            arrays[f"{number}.tag"] = torch.empty(0)
            continue
        arrays |= _named(str(number), stream, _LAYERS)
        for _ in range(3):  # whether it has been set up, and two of the training
            stream.flag()
        for _ in range(3):  # gradients and output, which are empty in a network that was cleaned before it was written
            stream.tensor()
        if version == 3:
            stream.expect(1, what="the number of samples that the input makes of one")
    stream.check_end()
    return arrays


def _named(prefix: str, stream: _Stream, readers: Mapping[str, Callable[[_Stream, str], Arrays]]) -> Arrays:
    """What one part has, by their full names."""
    kind = stream.text()
    if kind not in readers:
        raise ValueError(f"a part of the kind {kind!r} where {_listed(readers)} are known")
    name = f"{prefix}.{kind.rstrip('23456').rstrip('_')}"
    return {f"{name}.{what}" if what else name: value for what, value in readers[kind](stream, kind).items()}


def _loss(stream: _Stream, kind: str) -> Arrays:
    margin, distance = (stream.number(), stream.number()) if kind == "loss_metric_2" else (0.04, 0.6)
    return {"margin": torch.tensor(margin), "distance": torch.tensor(distance)}


def _rgb_input(stream: _Stream, kind: str) -> Arrays:
    mean = torch.tensor([stream.number() for _ in range(3)])
    return {"mean": mean, "size": torch.tensor(stream.pair())}


def _convolution(stream: _Stream, kind: str) -> Arrays:
    values = stream.tensor()
    filters, kernel, stride, padding = stream.size(), stream.pair(), stream.pair(), stream.pair()
    weight, bias = stream.aliases(values, 2)
    _skip_multipliers(stream)
    if kind != "con_4":
        stream.flag()  # whether the bias is used: its shape says so as well
    if kind == "con_6" and stream.flag():
        raise ValueError("a convolution that a ReLU was fused into")
    if (len(weight), weight.shape[2:]) != (filters, kernel):
        raise ValueError(f"a convolution of {filters} filters of {kernel} with weights of {weight.shape}")
    arrays = {"weight": _own(weight), "stride": torch.tensor(stride), "padding": torch.tensor(padding)}
    return arrays | ({"bias": _own(bias.ravel())} if bias.size else {})


def _affine(stream: _Stream, kind: str) -> Arrays:
    weight, bias = stream.aliases(stream.tensor(), 2)
    stream.expect(0, what="the mode of an affine layer")  # by channel
    if kind == "affine_2" and stream.flag():
        raise ValueError("an affine layer that was fused into another")
    return {"weight": _own(weight.ravel()), "bias": _own(bias.ravel())}


def _linear(stream: _Stream, kind: str) -> Arrays:
    outputs, inputs = stream.pair()
    weight, bias = stream.aliases(stream.tensor(), 2)
    stream.expect(0, 1, what="the mode of a bias")
    _skip_multipliers(stream)
    if kind == "fc_3":
        stream.flag()
    if weight.shape != (inputs, outputs, 1, 1):
        raise ValueError(f"a linear layer of {inputs} by {outputs} with weights of {weight.shape}")
    arrays = {"weight": _own(weight[:, :, 0, 0].T)}
    return arrays | ({"bias": _own(bias.ravel())} if bias.size else {})


def _pooling(stream: _Stream, kind: str) -> Arrays:
    return {what: torch.tensor(stream.pair()) for what in ("size", "stride", "padding")}


def _relu(stream: _Stream, kind: str) -> Arrays:
    if kind == "relu_2" and stream.flag():
        raise ValueError("a ReLU that was fused into another layer")
    return {"": torch.empty(0)}


def _nothing(stream: _Stream, kind: str) -> Arrays:
    return {"": torch.empty(0)}


_INPUTS = {"input_rgb_image_sized": _rgb_input}
_LAYERS = {
    "con_4": _convolution,
    "con_5": _convolution,
    "con_6": _convolution,
    "affine_": _affine,
    "affine_2": _affine,
    "relu_": _relu,
    "relu_2": _relu,
    "max_pool_2": _pooling,
    "avg_pool_2": _pooling,
    "add_prev_": _nothing,
    "fc_2": _linear,
    "fc_3": _linear,
}


def _skip_multipliers(stream: _Stream) -> None:
    for _ in range(4):  # of the learning rate and weight decay, for weights and biases
        stream.number()


def _own(values: np.ndarray) -> torch.Tensor:
    """A copy in its own memory."""
    return torch.from_numpy(np.array(values, np.float32))


def _listed(values) -> str:
    return ", ".join(map(str, values))


__all__ = ["read_dlib_network"]
