# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Never half a file: what is under a name is whole, the old or the new."""

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4


def replace_file(path: str | os.PathLike, write: Callable[[Path], object]) -> Path:
    """
    Has a file written beside, which gets its name when it is whole and on the disk.

    Args:
        path: The file; its folder is made where it is not there.
        write: Is given the path beside.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several processes, of several machines even, may write the same file.
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Writes a text in UTF-8, as [`replace_file`]."""
    return replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline=""))


__all__ = ["replace_file", "write_text"]
