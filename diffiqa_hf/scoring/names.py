# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""When two names mean one file, and which row of a table a name means."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .tables import TableError


if TYPE_CHECKING:
    import numpy as np


# Of images, and of what is made of one; whatever else follows a point is a part of the name.
_ENDING = re.compile(
    r"\.(?:a?png|avif|bmp|dib|gif|hei[cf]s?|hif|j2[ck]|jfif|jp2|jpc|jpe|jpe?g|jp[fx]|mpo|npy|p[bfgnp]m|qoi|tga|tiff?|"
    r"webp)$",
    re.IGNORECASE,
)


def row_name(file: str) -> str:
    """A file's name as it stands in a table, which is valid UTF-8 whatever bytes the name has."""
    return file.encode("utf-8", "backslashreplace").decode("utf-8")


def one_form(name: str) -> str:
    """`name` with its accents in one form: a Mac writes them as letters of their own (NFD), others do not (NFC)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def existing_file(name: str) -> str:
    """The file of that name, with its accents in either form; the name itself where there is none."""
    if name.isascii() or os.path.lexists(name):
        return name
    forms = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return next((form for form in forms if os.path.lexists(form)), name)


class FileKeys:
    """
    What a file is called, however it is spelled: relative or absolute, with `./` or `..`, through a link, with accents
    in either form. Two names with one key are one file. A file need not be there; it is then taken as a name in the
    current folder. Folders are looked up once, if their files come one after the other.
    """

    most_folders = 5_000  # that are kept in mind

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def on_disk(self, path: str) -> str:
        """The place of a file on the disk, where names with accents in two forms are two files."""
        if "\0" in path:
            return path
        path = os.path.abspath(path)
        if os.path.islink(path):
            return os.path.realpath(path)
        folder, name = os.path.split(path)
        if folder not in self._folders:
            if len(self._folders) >= self.most_folders:
                self._folders.clear()
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)

    def __call__(self, name: str) -> str:
        if "\\" in name and os.sep == "/" and not os.path.lexists(name):
            name = name.replace("\\", "/")  # a table from Windows
        return one_form(row_name(self.on_disk(existing_file(name))))


class Names:
    """
    Finds rows by the names of their images, however much of the path both sides write.

    `Bo/Bo_0001.jpg` is found as such, and, where nothing else is called so, by what it ends in (`Bo_0001.jpg`,
    `Bo/Bo_0001`, `Bo_0001`) and by what ends in it (`faces/Bo/Bo_0001.jpg`). One side may lack the file's ending; two
    different endings are two files.

    Args:
        names: Of the rows.
        source: Where they are from, for the errors.

    Raises:
        TableError: A name occurs twice.
    """

    def __init__(self, names: Sequence[str], source: str):
        self.names, self.source = names, source
        self.keys = FileKeys()
        self._rows: dict[str, int] = {}
        for row, name in enumerate(names):
            if self._rows.setdefault(self.keys(name), row) != row:
                raise TableError(f"{source}: {name} occurs twice; there must be one score for each image")
        self._tails: dict[str, list[int]] = {}
        self._whole: dict[str, list[int]] = {}
        self._numbered: dict[tuple[str, int], list[int]] | None = None

    def find(self, wanted: Iterable[str], source: str, numbered: bool = False) -> np.ndarray:
        """
        The row of each name, (N,) int64.

        Args:
            numbered: The names are a person and a number, as LFW's: `Bo_0001` is `Bo_1.jpg`, `Bo_0001_0.png` (whose 0
                is that of a face in the picture) and `Bo/001.jpg` as well, where there is nothing else.

        Raises:
            TableError: Names are missing, or fit several rows, or two images fit one row.
        """
        wanted = list(wanted)
        rows = self.lookup(wanted, source, numbered)
        missing = list(dict.fromkeys(name for name, row in zip(wanted, rows.tolist(), strict=True) if row < 0))
        if missing:
            first = f"{missing[0]}{self._hint(missing[0])}"
            if len(missing) > 1:
                raise TableError(f"{source}: {len(missing):,} images are not in {self.source}, the first is {first}")
            raise TableError(f"{source}: the image {first} is not in {self.source}")
        return rows

    def lookup(self, wanted: Iterable[str], source: str, numbered: bool = False) -> np.ndarray:
        """As [`find`], with -1 for a name that is not there."""
        import numpy as np

        found: dict[str, int] = {}
        taken: dict[int, tuple[str, str]] = {}
        rows = []
        for name in wanted:
            row = found.get(name)
            if row is None:
                row = found[name] = self._find(name, source, numbered)
                if row >= 0:
                    self._check_taken(name, row, taken, source)
            rows.append(row)
        return np.array(rows, np.int64)

    def _find(self, name: str, source: str, numbered: bool) -> int:
        row = self._rows.get(self.keys(name))
        if row is not None:
            return row
        if not self._tails:
            self._index()
        # Not any common ending: A/1.jpg must not be taken for B/1.jpg.
        tails = _tails(_path(name))
        places = [(self._tails, tails[0]), *((self._whole, tail) for tail in tails)]
        found: list[int] = []
        for index, tail in places:
            # Of a name with an ending it is that file, or one whose name has none.
            found = index.get(tail) or [row for row in index.get(_bare(tail), ()) if not _ending(self.names[row])]
            if found:
                break
        if not found and numbered:
            found = self._find_numbered(name)
        if len(found) > 1:
            fits = ", ".join(self.names[row] for row in found[:2])
            raise TableError(f"{source}: {name} fits {len(found)} images of {self.source}: {fits}, ...")
        return found[0] if found else -1

    def _index(self) -> None:
        # By the name as it is, and without its ending: with one ending, both are of one file.
        for row, name in enumerate(self.names):
            path = _path(name)
            for tail in _tails(path):
                for spelling in dict.fromkeys((tail, _bare(tail))):
                    self._tails.setdefault(spelling, []).append(row)
            for spelling in dict.fromkeys((path, _bare(path))):
                self._whole.setdefault(spelling, []).append(row)

    def _find_numbered(self, name: str) -> list[int]:
        if self._numbered is None:
            self._numbered = {}
            for row, own in enumerate(self.names):
                for reading in _readings(_bare(_path(own))):
                    self._numbered.setdefault(reading, []).append(row)
        person, _, number = _bare(_path(name)).rpartition("_")
        return self._numbered.get((person, int(number)), []) if number.isdecimal() else []

    def _check_taken(self, name: str, row: int, taken: dict[int, tuple[str, str]], source: str) -> None:
        path = _path(name)
        if row not in taken:
            taken[row] = (name, path)
            return
        other, before = taken[row]
        longer, shorter = (before, path) if len(before) > len(path) else (path, before)
        one = _ending(longer) == _ending(shorter) or not (_ending(longer) and _ending(shorter))
        one = one and f"/{_bare(longer)}".endswith(f"/{_bare(shorter)}")
        if not one and self.keys(name) != self.keys(other):
            raise TableError(f"{source}: {other} and {name} both fit {self.names[row]} of {self.source}")
        taken[row] = (name, path) if longer == path else taken[row]

    def _hint(self, name: str) -> str:
        rows = self._tails.get(_bare(_path(name)), [])
        alike = [self.names[row] for row in rows if _ending(self.names[row])]
        return f" ({alike[0]} is, which is another file)" if alike else ""


def _path(name: str) -> str:
    """A path without what does not matter."""
    return posixpath.normpath(one_form(row_name(name)).replace("\\", "/")).lstrip("/")


def _ending(name: str) -> str:
    match = _ENDING.search(name)
    return "" if match is None else match.group()


def _bare(path: str) -> str:
    return _ENDING.sub("", path)


def _tails(path: str) -> list[str]:
    """The ways to write a path by its last parts, the longest first."""
    parts = path.split("/")
    return ["/".join(parts[at:]) for at in range(len(parts))]


def _readings(path: str) -> set[tuple[str, int]]:
    """A person and a number, as a file's name may be read: `Bo_1`, `Bo_0001_0`, `Bo/1`."""
    folder, _, name = path.rpartition("/")
    found = set()
    for pattern in (r"(.+)_(\d+)", r"(.+)_(\d+)_0"):
        if match := re.fullmatch(pattern, name):
            found.add((match[1], int(match[2])))
    if folder and (match := re.fullmatch(r"(\d+)(?:_0)?", name)):
        found.add((folder.rpartition("/")[2], int(match[1])))
    return found


__all__ = ["FileKeys", "Names", "existing_file", "one_form", "row_name"]
