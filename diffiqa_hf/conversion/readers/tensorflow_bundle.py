# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Checkpoints of TensorFlow (`.index` with `.data-00000-of-00001` beside it), read without TensorFlow.

The index is a table in LevelDB's format: sorted keys, in blocks, with an index block and a footer at the end. Its
values are messages of protocol buffers (TensorFlow's `tensor_bundle.proto`) that say where in the data files the bytes
of a tensor are. The reader here knows what TensorFlow writes: one part for each tensor, no compression.
"""

import math
import os
from collections.abc import Iterator

import numpy as np
import torch

from ..errors import CheckpointError
from .files import read_file
from .protobuf import read_fields, read_shape, read_varint


_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
# TensorFlow's numbers of data types; those of what a checkpoint has besides weights (a counter of steps) as well.
_DTYPES = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i4"), 9: np.dtype("<i8")}


def read_tensor_bundle(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """
    The variables of a TensorFlow checkpoint by their names, on the CPU. Their checksums are not looked at.

    Args:
        path: Of the `.index` file. The data files are looked for beside it.

    Raises:
        CheckpointError: A file can't be read or is no such checkpoint; the message is the reason in one line.
    """
    path = os.fspath(path)
    content = memoryview(read_file(path))
    try:
        entries = dict(_table(content))
        shards = _integer_fields(entries.pop(b""))  # the header
        if shards.get(2, 0) != 0:
            raise ValueError("big-endian numbers")
        data = _map_shards(path.removesuffix(".index"), shards.get(1, 1))
        return {bytes(name).decode(): _tensor(entry, data) for name, entry in entries.items()}
    except CheckpointError:
        raise
    except (IndexError, KeyError, TypeError, ValueError) as error:  # whatever a damaged table leads to
        raise CheckpointError(f"truncated or damaged file, or no index of a TensorFlow checkpoint ({error})") from None


def _table(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The keys and values of a table."""
    footer = content[-_FOOTER:]
    if len(footer) < _FOOTER or int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise ValueError("it does not end like one")
    position = 0
    for _ in range(2):  # where the block of the table's own facts is; of that nothing is needed
        _, position = read_varint(footer, position)
    for _, handle in _block(content, *_handle(footer, position)):
        yield from _block(content, *_handle(handle, 0))


def _handle(content: memoryview, position: int) -> tuple[int, int]:
    offset, position = read_varint(content, position)
    return offset, read_varint(content, position)[0]


def _block(content: memoryview, offset: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
    block = content[offset : offset + size]
    if len(block) < size or size < 4:
        raise ValueError("a block ends beyond the file")
    if content[offset + size] != 0:
        raise ValueError("a compressed block, which TensorFlow does not write")
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 - 4 * restarts
    key, position = b"", 0
    while position < end:
        shared, position = read_varint(block, position)
        own, position = read_varint(block, position)
        length, position = read_varint(block, position)
        if shared > len(key) or position + own + length > end:
            raise ValueError("an entry ends beyond its block")
        key = key[:shared] + bytes(block[position : position + own])
        position += own
        yield key, block[position : position + length]
        position += length


def _integer_fields(message: memoryview) -> dict[int, int]:
    return {number: value for number, value in read_fields(message) if isinstance(value, int)}


def _map_shards(prefix: str, count: int) -> list[np.ndarray]:
    if not 0 < count < 1 << 16:
        raise ValueError(f"{count} data files")
    data = []
    for i in range(count):
        name = f"{prefix}.data-{i:05d}-of-{count:05d}"
        try:
            data.append(np.memmap(name, np.uint8, "r"))
        except (OSError, ValueError) as error:  # ValueError where it is empty
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(f"its data file {os.path.basename(name)}: {reason}") from None
    return data


def _tensor(entry: memoryview, data: list[np.ndarray]) -> torch.Tensor:
    """The tensor of a `BundleEntryProto`."""
    facts = _integer_fields(entry)
    shape: list[int] = []
    for number, value in read_fields(entry):
        if number == 2:
            shape = read_shape(value)
        elif number == 7:
            raise ValueError("a tensor in several parts")
    dtype = _DTYPES.get(facts.get(1, 0))
    if dtype is None:
        raise ValueError("a tensor of no known type of numbers")
    offset, size = facts.get(4, 0), facts.get(5, 0)
    content = data[facts.get(3, 0)][offset : offset + size]
    if len(content) != size:
        raise ValueError("a data file is too short")
    if size != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{size} bytes for a shape of {shape}")
    values = np.array(content).view(dtype)  # a copy: of a file that may go, and in its own memory
    return torch.from_numpy(values.reshape(shape).astype(dtype.newbyteorder("=")))


__all__ = ["read_tensor_bundle"]
