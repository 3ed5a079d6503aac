# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
MXNet's lists of arrays (`.params`), read without MXNet: `NDArray::Save` in its src/ndarray/ndarray.cc, little-endian
throughout: a magic number, the arrays, their names.
"""

import math
import os
import re
import struct
from typing import Any

import numpy as np
import torch

from ..errors import CheckpointError
from .files import Cursor, map_file


_MAGIC = 0x112
# What an array begins with: since the dimensions have 64 bits, since the kind of storage comes before them, and in the
# NumPy mode. Before, it was the number of dimensions.
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_MAX_DIMS = 32
# By MXNet's numbers of data types.
_DTYPES = tuple(map(np.dtype, ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")))


def read_params(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """
    The arrays of an MXNet `.params` file by their names, without the `arg:` or `aux:` before them, on the CPU. Dense
    ones only; where they were in MXNet (CPU or a GPU) does not matter.

    Raises:
        CheckpointError: The file can't be read or is no such file; the message is the reason in one line.
    """
    content = map_file(path)
    try:
        return _read(_Cursor(content))
    except (ValueError, struct.error) as error:
        raise CheckpointError(f"truncated or damaged file, or no .params file of MXNet ({error})") from None


class _Cursor(Cursor):
    """MXNet's numbers, one after the other."""

    def numbers(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}")))


def _read(cursor: _Cursor) -> dict[str, torch.Tensor]:
    magic, _, count = cursor.numbers("QQQ")
    if magic != _MAGIC:
        raise ValueError("it does not begin like one")
    arrays = [_array(cursor) for _ in range(count)]  # each takes bytes, so that a wrong count ends soon
    (named,) = cursor.numbers("Q")
    if named != count:
        raise ValueError(f"{count} arrays and {named} names")
    tensors: dict[str, torch.Tensor] = {}
    for array in arrays:
        name = bytes(cursor.take(*cursor.numbers("Q"))).decode()
        name = re.sub("^(arg|aux):", "", name)
        if name in tensors:
            raise ValueError(f"two arrays called {name!r}")
        tensors[name] = array
    cursor.check_end()
    return tensors


def _array(cursor: _Cursor) -> torch.Tensor:
    (dims,) = cursor.numbers("I")
    dimension = "I"
    if dims == _V3:
        raise ValueError("an array of MXNet's NumPy mode, which no network of insightface has")
    if dims in (_V1, _V2):
        if dims == _V2:
            (storage,) = cursor.numbers("i")
            if storage:
                raise ValueError(f"an array of storage type {storage}: sparse ones can't be read, dense ones are 0")
        (dims,) = cursor.numbers("I")
        dimension = "q"
    if not 0 < dims <= _MAX_DIMS:
        raise ValueError(f"an array of {dims} dimensions")
    shape = cursor.numbers(f"{dims}{dimension}")
    if min(shape) < 1:
        raise ValueError(f"an array of shape {shape}")
    _, _, number = cursor.numbers("iii")  # first the device that it was on
    if not 0 <= number < len(_DTYPES):
        raise ValueError(f"an array of data type {number}")
    dtype = _DTYPES[number]
    values = np.array(cursor.take(math.prod(shape) * dtype.itemsize)).view(dtype)  # a copy, in its own memory
    return torch.from_numpy(values.reshape(shape).astype(dtype.newbyteorder("="), copy=False))


__all__ = ["read_params"]
