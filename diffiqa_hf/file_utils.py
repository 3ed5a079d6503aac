# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Never half a file: what is under a name is whole, the old or the new."""

import os
import shutil
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


def replace_folder(path: str | os.PathLike, write: Callable[[Path], object]) -> Path:
    """
    Has a folder written beside (`.tmp`), which gets its name when it is whole; the one before is deleted then. A
    process that is killed between the two leaves that one as `.old`.

    Args:
        path: The folder.
        write: Is given the path beside, where nothing is.
    """
    path = Path(path)
    temporary, old = (path.with_name(path.name + ending) for ending in (".tmp", ".old"))
    shutil.rmtree(temporary, ignore_errors=True)
    write(temporary)
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
    os.replace(temporary, path)
    shutil.rmtree(old, ignore_errors=True)
    return path


__all__ = ["replace_file", "replace_folder", "write_text"]
