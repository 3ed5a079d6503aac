# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
PyTorch's files. Nothing that a file says is ever run: pickles go through torch's weights-only reader, and what that
refuses stays out or is replaced by an inert stand-in.
"""

import io
import os
import pickle
import re
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from safetensors.torch import load_file
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from ..errors import CheckpointError


class _BoundedFile(io.BufferedReader):
    """Makes room for what is left of the file, and not for as much as a damaged pickle says there is."""

    def __init__(self, path: str | os.PathLike):
        super().__init__(io.FileIO(path))
        self.size = os.path.getsize(path)

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size if size is None or size < 2**20 else min(size, max(0, self.size - self.tell())))


class StandIn:
    """Takes the place of an object that a pickle asks for: built and filled like it, without doing anything."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def read_pytorch_file(path: str | os.PathLike, kind: str, allow_pickle_globals: Iterable[str] = ()) -> Any:
    """
    What a file of PyTorch or of safetensors holds, on the CPU.

    Args:
        path: Of the file.
        kind (`str`): `"safetensors"`, `"zip"` (torch.save since 1.6) or `"pickle"` (before).
        allow_pickle_globals: As for [`~diffiqa_hf.conversion.loading.read_checkpoint`].

    Raises:
        CheckpointError: The file can't be read, or asks for something that is not allowed; the message is the reason.
    """
    allowed = [(StandIn, name) for name in allow_pickle_globals]
    try:
        if kind == "safetensors":
            return load_file(path)
        with safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle's protocol; what can't be read is an error anyway
            try:
                # Mapped, so that the optimiser's share of a training checkpoint is not read at all.
                if kind == "zip":
                    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                with _BoundedFile(path) as file:
                    return torch.load(file, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:
                raise CheckpointError(_refusal(path, str(error))) from None
    except CheckpointError:
        raise
    except UnicodeEncodeError:
        raise CheckpointError("torch can't open a file whose name is not UTF-8: rename it") from None
    except Exception as error:  # the readers raise whatever they trip over in a damaged file
        lines = str(error).strip().splitlines() or [type(error).__name__]
        what = {"safetensors": "safetensors file", "zip": "PyTorch file", "pickle": "PyTorch file"}[kind]
        if "TorchScript" in lines[0]:
            raise CheckpointError("a TorchScript archive, which is a program: a state dict is needed") from None
        raise CheckpointError(f"truncated or damaged {what} ({lines[0]})") from None


def _refusal(path: str | os.PathLike, message: str) -> str:
    """Why torch's weights-only reader refused the file, with the names of what it asks for."""
    # The reader's message has the first name, also where it is one that is never let in; of builtins without module.
    asked_for = re.findall(r"GLOBAL (\S+) (?:was not|whose module)", message)
    found = {name if "." in name else f"builtins.{name}" for name in asked_for}
    try:
        rest = get_unsafe_globals_in_checkpoint(path)
    except Exception:  # in files of the old format, and in pickles that torch.save does not write, it lists nothing
        rest = []
    names = sorted(found.union(rest))
    if not names:
        paragraphs = [part.strip() for part in message.split("\n\n")]
        inner = paragraphs[1] if len(paragraphs) > 1 else paragraphs[0]
        return (
            f"refused by torch's weights-only reader: {inner.splitlines()[0] if inner else 'not a pickle of tensors'}"
        )
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    if any(name.split(".")[0] in ("os", "posix", "nt", "sys") for name in names):
        return f"refused: reading it as a pickle would run {listed}; no weights need that"
    return f"refused: besides tensors it holds {listed} (--allow-pickle-globals NAME leaves one out, by its name)"


__all__ = ["StandIn", "read_pytorch_file"]
