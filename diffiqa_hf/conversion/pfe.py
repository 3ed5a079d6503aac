# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
PFE's TensorFlow checkpoints (`ckpt-N.index` with `ckpt-N.data-00000-of-00001` beside it), read without TensorFlow.

The index is a table in LevelDB's format: sorted keys, in blocks, with an index block and a footer at the end. Its
values are messages of protocol buffers (TensorFlow's `tensor_bundle.proto`) that say where in the data files the bytes
of a tensor are. The reader here knows what TensorFlow writes: one part for each tensor, no compression.
"""

import math
import os
import re
from collections.abc import Iterator

import numpy as np
import torch

from ..models.pfe import PFEConfig, SphereNetConfig
from .lightqnet import _dimension, _fields, _varint
from .loading import CheckpointError


_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
# TensorFlow's numbers of data types; those of what a checkpoint has besides weights (a counter of steps) as well.
_DTYPES = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i4"), 9: np.dtype("<i8")}
# What a training keeps beside the network's tensors.
_TRAINING = re.compile(r"global_step|.*/(Momentum|Adam|Adam_1|ExponentialMovingAverage)")
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def read_tensor_bundle(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """
    The variables of a TensorFlow checkpoint by their names, on the CPU. Their checksums are not looked at.

    Args:
        path: Of the `.index` file. The data files are looked for beside it.

    Raises:
        CheckpointError: A file can't be read or is no such checkpoint; the message is the reason in one line.
    """
    path = os.fspath(path)
    content = memoryview(_read(path))
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


def convert_pfe(tensors: dict[str, torch.Tensor]) -> tuple[PFEConfig, dict[str, torch.Tensor]]:
    """
    Args:
        tensors: What [`read_tensor_bundle`] gives of a published file: SphereNet-64 and its uncertainty module (RGB,
            112x96, (x - 127.5) / 128), 146 tensors.

    Returns:
        The configuration and the state dict of a [`PFEForFaceQuality`].

    Raises:
        ValueError: A tensor is not expected; it is named.
        KeyError: One that the sizes are read off is missing.
    """
    outside = {"SphereNet/Bottleneck": ("backbone.fc", "backbone.features")}
    outside["UncertaintyModule/fc1"] = ("uncertainty.fc1", "uncertainty.norm1")
    outside["UncertaintyModule/fc_log_sigma_sq"] = ("uncertainty.fc2", "uncertainty.norm2")
    # The variables of the scale and the shift are called after the letters next to theirs.
    outside_scalars = {"alpha": "uncertainty.scale", "gamma": "uncertainty.shift"}
    converted = {}
    for name, tensor in tensors.items():
        if _TRAINING.fullmatch(name):
            continue
        module, _, kind = name.rpartition("/")
        if m := re.fullmatch(r"SphereNet/conv(\d+)/Conv(?:_(\d+))?(/p_re_lu)?", module):
            stage, number = int(m[1]) - 1, int(m[2] or 0)
            ours = "down" if number == 0 else f"blocks.{(number - 1) // 2}.conv{(number - 1) % 2 + 1}"
            ours = f"backbone.stages.{stage}.{ours}"
            if m[3] and kind == "alpha":
                converted[f"{ours}.act.weight"] = tensor.flatten()
                continue
            if not m[3] and kind in ("weights", "biases"):
                # From height, width, in, out.
                value = tensor.permute(3, 2, 0, 1) if kind == "weights" else tensor
                converted[f"{ours}.conv.{'weight' if kind == 'weights' else 'bias'}"] = value
                continue
        elif module in outside and kind == "weights":
            converted[f"{outside[module][0]}.weight"] = tensor.t()
            continue
        elif module.removesuffix("/BatchNorm") in outside and kind in _NORM:
            norm = outside[module.removesuffix("/BatchNorm")][1]
            converted[f"{norm}.{_NORM[kind]}"] = tensor
            converted[f"{norm}.num_batches_tracked"] = torch.tensor(0)
            continue
        elif module == "UncertaintyModule/scale_and_shift" and kind in outside_scalars:
            converted[outside_scalars[kind]] = tensor.reshape(())
            continue
        raise ValueError(f"unexpected tensors: {name}")
    # The original's last normalisation shifts and does not scale.
    converted["backbone.features.weight"] = torch.ones_like(converted["backbone.features.bias"])

    depths, widths = [], []
    while f"backbone.stages.{len(depths)}.down.conv.weight" in converted:
        stage = f"backbone.stages.{len(depths)}"
        widths.append(converted[f"{stage}.down.conv.weight"].shape[0])
        blocks = {name.split(".")[4] for name in converted if name.startswith(f"{stage}.blocks.")}
        depths.append(len(blocks))
    backbone = SphereNetConfig(depths=depths, widths=widths, embedding_size=converted["backbone.fc.weight"].shape[0])
    height, width = (side >> len(depths) for side in backbone.crop_size)
    for name in ("backbone.fc.weight", "uncertainty.fc1.weight"):
        # What is read there is flattened from height, width, channels.
        rows = converted[name].unflatten(1, (height, width, widths[-1]))
        converted[name] = rows.permute(0, 3, 1, 2).flatten(1)
    return PFEConfig(backbone_config=backbone), converted


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise CheckpointError(error.strerror or str(error)) from None
    if not content:
        raise CheckpointError("empty file")
    return content


def _table(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The keys and values of a table."""
    footer = content[-_FOOTER:]
    if len(footer) < _FOOTER or int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise ValueError("it does not end like one")
    position = 0
    for _ in range(2):  # where the block of the table's own facts is; of that nothing is needed
        _, position = _varint(footer, position)
    for _, handle in _block(content, *_handle(footer, position)):
        yield from _block(content, *_handle(handle, 0))


def _handle(content: memoryview, position: int) -> tuple[int, int]:
    offset, position = _varint(content, position)
    return offset, _varint(content, position)[0]


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
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + own + length > end:
            raise ValueError("an entry ends beyond its block")
        key = key[:shared] + bytes(block[position : position + own])
        position += own
        yield key, block[position : position + length]
        position += length


def _integer_fields(message: memoryview) -> dict[int, int]:
    return {number: value for number, value in _fields(message) if isinstance(value, int)}


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
    shape = []
    for number, value in _fields(entry):
        if number == 2:
            shape = [_dimension(dimension) for field, dimension in _fields(value) if field == 2]
        elif number == 7:
            raise ValueError("a tensor in several parts")
    dtype = _DTYPES.get(facts.get(1))
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


__all__ = ["convert_pfe", "read_tensor_bundle"]
