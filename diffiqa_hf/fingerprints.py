# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Which weights and settings a model or a folder has, in a few digits. Imported without torch."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


# Settings of networks that came after tables and labels had been made: where one says no more than was so before, the
# fingerprint is that of before.
_LATER_SETTINGS = {"face_check": False}
# Of a configuration, what no score depends on.
DESCRIPTIONS = ("architectures", "dtype", "quality_normalization", "torch_dtype", "training_data", "weights_license")


def digest_of(tensors: Iterable[tuple[str, np.ndarray]]) -> str:
    """16 hexadecimal digits that change with any tensor and any name; the tensors by the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor))
    return digest.hexdigest()[:16]


def folder_digest(folder: str | os.PathLike, name: str = "model.safetensors") -> str | None:
    """
    [`digest_of`] the weights in the one safetensors file of a folder, which is that of the model that is loaded from
    it in float32. `None` where there is no file of this name, or it has weights of another type.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(folder) / name, framework="np") as file:
            keys = sorted(file.keys())
            if any(file.get_slice(key).get_dtype() not in ("F16", "F32", "I64") for key in keys):
                return None
            tensors = ((key, file.get_tensor(key)) for key in keys)
            return digest_of((key, x.astype(np.float32) if x.dtype == np.float16 else x) for key, x in tensors)
    except (OSError, SafetensorError):
        return None


def config_digest(config: Mapping[str, Any]) -> str:
    """8 hexadecimal digits of what a network's scores depend on in its configuration."""
    known = {
        name: value
        for name, value in config.items()
        if name not in DESCRIPTIONS and not name.startswith("_") and not name.endswith("_version")
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:8]


def file_digest(path: str | os.PathLike) -> str:
    """16 hexadecimal digits of what is in a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()[:16]


def fingerprint(method: Any, later_settings: bool = False) -> str:
    """
    16 hexadecimal digits that change with any weight or setting of a model's parts, and with nothing else: not with
    the place that it was loaded from, nor with the versions of the libraries, nor with what runs it.

    Args:
        method: A [`DifFIQAPipeline`], or a [`~diffiqa_hf.methods.FaceQualityMethod`].
        later_settings (`bool`, *optional*, defaults to `False`): With those settings that are left out, as it was
            before they were.
    """
    # Of a method whose network torch has not loaded.
    if (known := getattr(method, "known_fingerprint", None)) is not None:
        if not later_settings:
            return known
        method = method.to_torch()
    pipe = getattr(method, "pipeline", method)
    if hasattr(pipe, "components"):
        parts = pipe.components
    else:
        parts = {"model": pipe.model, "image_processor": pipe.image_processor}
    digest = hashlib.sha256()
    for name, part in sorted(parts.items()):
        config = getattr(part, "config", part)
        config = config.to_dict() if hasattr(config, "to_dict") else dict(config)
        plain = {k: v for k, v in config.items() if not k.startswith("_") and not k.endswith("_version")}
        if not later_settings:
            plain = {k: v for k, v in plain.items() if k not in _LATER_SETTINGS or v != _LATER_SETTINGS[k]}
        digest.update(json.dumps([name, plain], sort_keys=True, default=str).encode())
        if hasattr(part, "state_dict"):
            for key, tensor in sorted(part.state_dict().items()):
                digest.update(key.encode())
                digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]


def recorded_fingerprint(method: Any, recorded: Iterable[str | None]) -> str:
    """
    The [`fingerprint`] of a method, in the form that a record has it in: builds of the morning of 1 December 2026 had
    the settings that are left out in it, and what they began goes on.

    Args:
        recorded: Fingerprints in the record, of this method or others; `None` where there is none.
    """
    now, there = fingerprint(method), set(recorded) - {None}
    if now in there or not there:
        return now
    try:
        before = fingerprint(method, later_settings=True)
    except ValueError:  # an ONNX file, which those builds did not take
        return now
    return before if before in there else now


__all__ = ["config_digest", "digest_of", "file_digest", "fingerprint", "folder_digest", "recorded_fingerprint"]
