# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
insightface's verification packages (`lfw.bin`, `cfp_fp.bin`, ...): a pickle of (encoded images, same person or not).

A pickle can call whatever it names when it is loaded. This one needs lists, bytes and booleans, and, as some people
write it, NumPy arrays of them. So nothing that a file names is ever imported: the six names that NumPy pickles itself
with stand for the inert classes below, which only remember what they are given, and any other name is refused. NumPy
itself isn't let near the file either, as its unpickling trusts the flags of a dtype that it is handed.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any

from ...file_utils import file_fault
from .benchmark import BenchmarkError


class _Type:
    """Stands for the class `numpy.ndarray`, which is only ever an argument."""

    __slots__ = ()


class _DType:
    """Stands for a dtype: the string that it was made of, as `u1`, `b1`, `S4096` or `O8`."""

    __slots__ = ("code",)

    def __init__(self, code: Any = "", *args: Any):
        self.code = code.decode("latin-1") if isinstance(code, bytes) else str(code)

    def __setstate__(self, state: Any):
        pass


class _Array:
    """Stands for an array: what NumPy would have been told to fill it with."""

    __slots__ = ("dtype", "data")

    def __init__(self, *args: Any):
        self.dtype, self.data = _DType(), b""

    def __setstate__(self, state: Any):
        _, _, self.dtype, _, self.data = state

    def values(self) -> list:
        """The items of an array of one axis."""
        code = self.dtype.code.lstrip("<>|=")
        if code.startswith("O"):
            return list(self.data)
        if code in ("b1", "?"):
            return [value != 0 for value in self.data]
        size = int(code[1:] or 0)
        if code[:1] in ("i", "u") and size in (1, 2, 4, 8):
            return [any(self.data[at : at + size]) for at in range(0, len(self.data), size)]  # only whether it is 0
        if code[:1] == "S" and size:
            return [self.data[at : at + size].rstrip(b"\0") for at in range(0, len(self.data), size)]
        raise pickle.UnpicklingError(f"holds an array of type {self.dtype.code!r}")


class _Function:
    """Stands for a function; a state that the file wants to give it is refused."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Any):
        object.__setattr__(self, "_call", call)

    def __setattr__(self, name: str, value: Any):
        raise pickle.UnpicklingError("changes a function")

    def __setstate__(self, state: Any):
        raise pickle.UnpicklingError("changes a function")

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    # How Python 3 writes bytes where the protocol of the pickle is older than bytes are.
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"encodes with {encoding!r}")
    return text.encode("latin-1")


def _scalar(dtype: _DType, data: bytes = b"") -> bool:
    return any(data)


def _from_buffer(buffer: Any, dtype: _DType, *args: Any) -> _Array:
    array = _Array()
    array.dtype, array.data = dtype, bytes(buffer)
    return array


_ALLOWED = {
    ("numpy", "ndarray"): _Type,
    ("numpy", "dtype"): _DType,
    ("multiarray", "_reconstruct"): _Array,
    ("multiarray", "scalar"): _scalar,
    ("numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        for prefix in ("numpy.core.", "numpy._core."):  # NumPy 2 renamed the module
            module = module.removeprefix(prefix)
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"names {module}.{name}, which no such package needs")
        return _Function(_ALLOWED[module, name])


def read_bin(path: str | os.PathLike) -> tuple[list[bytes], list[bool]]:
    """
    The images and labels of a verification package; nothing in the file is run.

    Returns:
        2 P encoded images, those of pair i at 2 i and 2 i + 1, and P labels: whether pair i shows one person.

    Raises:
        BenchmarkError: It can't be read, names what isn't needed, or isn't such a pickle.
    """
    try:
        if reason := file_fault(path):
            raise BenchmarkError(f"{path}: {reason}")
        with open(path, "rb") as file:
            # Python 2 wrote the files that are around: its strings are the encoded images.
            content = _Unpickler(file, encoding="bytes").load()
        images, same = content
        images = [_bytes(image) for image in _items(images)]
        same = [bool(value) for value in _items(same)]
    except BenchmarkError:
        raise
    except OSError as error:
        raise BenchmarkError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # a broken pickle can trip over anything
        reason = str(error) if isinstance(error, pickle.UnpicklingError) else type(error).__name__
        raise BenchmarkError(f"{path}: not a verification package of insightface ({reason})") from error
    if len(images) != 2 * len(same) or not same:
        raise BenchmarkError(f"{path}: {len(images):,} images for {len(same):,} pairs, which need two each")
    return images, same


def _items(values: Any) -> list:
    if isinstance(values, _Array):
        return values.values()
    if isinstance(values, (list, tuple)):
        return list(values)
    raise pickle.UnpicklingError(f"holds a {type(values).__name__} where a list belongs")


def _bytes(image: Any) -> bytes:
    if isinstance(image, _Array) and image.dtype.code.lstrip("<>|=") in ("u1", "i1"):
        return bytes(image.data)
    if isinstance(image, (bytes, bytearray)):
        return bytes(image)
    raise pickle.UnpicklingError(f"holds a {type(image).__name__.lstrip('_')} where an encoded image belongs")


__all__ = ["read_bin"]
