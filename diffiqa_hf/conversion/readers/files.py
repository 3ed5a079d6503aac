# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Files of bytes, whole or mapped, and bytes that are read one after the other."""

import os

import numpy as np

from ..errors import CheckpointError


def read_file(path: str | os.PathLike) -> bytes:
    """
    The bytes of a file.

    Raises:
        CheckpointError: It can't be read, or there are none.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise CheckpointError(error.strerror or str(error)) from None
    if not content:
        raise CheckpointError("empty file")
    return content


def map_file(path: str | os.PathLike) -> np.ndarray:
    """The same as (N,) uint8, of which only what is looked at is read, whatever sizes a damaged file claims."""
    try:
        if not os.path.getsize(path):
            raise CheckpointError("empty file")
        return np.memmap(path, np.uint8, "r")
    except OSError as error:
        raise CheckpointError(error.strerror or str(error)) from None


class Cursor:
    """
    Bytes that are read one after the other.

    Args:
        content: (N,) uint8.
    """

    def __init__(self, content: np.ndarray):
        self.content, self.position = content, 0

    def take(self, size: int) -> np.ndarray:
        """
        The next ones.

        Raises:
            ValueError: There are not so many.
        """
        if size > len(self.content) - self.position:
            raise ValueError(f"{size} bytes should follow at {self.position} of {len(self.content)}")
        self.position += size
        return self.content[self.position - size : self.position]

    def check_end(self) -> None:
        """
        Raises:
            ValueError: There are more.
        """
        if left := len(self.content) - self.position:
            raise ValueError(f"{left} bytes after its end")


__all__ = ["Cursor", "map_file", "read_file"]
