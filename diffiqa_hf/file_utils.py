# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Never half a file: what is under a name is whole, the old or the new. And what a file that is no such thing is instead.
"""

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


def name_file(temporary: Path, path: Path) -> bool:
    """Gives a file its name, unless there is a file of that name: then `False`."""
    try:
        os.link(temporary, path)  # unlike a rename it fails where another process was first
    except FileExistsError:
        return False
    except OSError:  # a file system without links, where two that begin in the same moment may both be first
        if path.exists():
            return False
        os.replace(temporary, path)
    return True


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


def free_name(taken: set[str], stem: str, ending: str = "") -> str:
    """`stem` and `ending`, with a number between them if that is taken; `taken` has it from now on."""
    free, count = stem + ending, 1
    # Folded: some file systems take A and a for one name.
    while free.casefold() in taken:
        count += 1
        free = f"{stem}_{count}{ending}"
    taken.add(free.casefold())
    return free


def printable(text: str) -> str:
    """`text` on one line, its control characters and undecodable bytes spelled out: names may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def file_fault(path: str | os.PathLike) -> str | None:
    """
    Why a file can't hold what its name says, whatever that is: it is not there, empty, or what a failed download
    leaves in its place. `None` where nothing of the kind is seen.
    """
    try:
        if os.path.isdir(path):
            return "a folder and no file"
        if os.stat(path) and not os.path.isfile(path):
            return "not a regular file"  # a pipe would block
        with open(path, "rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return error.strerror or str(error)
    except ValueError:  # a null byte
        return "no such file"
    if not head:
        return "empty file"
    return stand_in(head)


def stand_in(head: bytes) -> str | None:
    """
    What lies in the place of a file that was not downloaded: the pointer of Git LFS, or a web page.

    Args:
        head: The first bytes of the file, 100 or more.

    Returns:
        The reason in one line, without the name of the file; `None` where it is neither.
    """
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer and not the file itself: `git lfs pull` fetches it"
    # A safetensors file begins with the length of its header, whose first byte may be that of "<".
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<") and head[8:9] != b"{":
        return "an HTML or XML page: the download gave a web page"
    return None


__all__ = [
    "file_fault",
    "free_name",
    "name_file",
    "printable",
    "replace_file",
    "replace_folder",
    "stand_in",
    "write_text",
]
