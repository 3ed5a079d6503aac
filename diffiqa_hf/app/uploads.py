# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What was uploaded, as files on the disk: photographs, folders of them, and archives, all within bounds."""

import os
import shutil
import stat
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ..scoring.image_files import HEIF_ENDINGS, image_endings, is_hidden


MEGABYTE = 1024 * 1024
PIECE = MEGABYTE  # of what is read at a time


class UploadError(ValueError):
    """Too much was uploaded, or nothing that can be used; the message is the reason in one line."""


@dataclass(frozen=True)
class Limits:
    """
    Args:
        megabytes: Of one request, all its files together.
        unpacked: Megabytes of what archives have inside, all together.
        files: Photographs of one batch.
    """

    megabytes: int = 200
    unpacked: int = 1_000
    files: int = 1_000


@dataclass
class Upload:
    """
    One photograph.

    Args:
        name (`str`): What its owner calls it, with the folder that it is in.
        path (`Path`): Where it lies, under a name of ours.
        error (`str`, *optional*): Why it is not whole there.
    """

    name: str
    path: Path
    error: str | None = None


@dataclass
class Received:
    """
    Args:
        uploads (`list[Upload]`): In the order of their names within each archive or folder.
        notes (`list[str]`): A line on what was left out.
    """

    uploads: list[Upload] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def receive(files: Iterable[tuple[str, BinaryIO]], folder: Path, limits: Limits) -> Received:
    """
    Lays photographs into a folder under names of ours, so that no name of an upload is ever a path.

    A file that was chosen by itself is taken whatever its ending is, and scoring it says what is wrong with it. Of an
    archive, or a folder (whose files have names with slashes), what has the ending of a photograph is taken, and
    nothing that is hidden or a tool's, as the commands do.

    Args:
        files: The name of each upload, and its content.
        folder: An empty one.

    Raises:
        UploadError: It is more than the limits allow; there is no photograph; what should be an archive is none.
    """
    into = _Folder(folder, limits)
    files = list(files)
    archives = sum(_is_archive(name) for name, _ in files)
    for name, content in files:
        if _is_archive(name):
            into.unpack(name, content, f"{Path(name).stem}/" if archives > 1 else "")
        elif len(parts := _parts(name)) > 1 and not into.wanted(parts):
            continue
        else:
            into.add("/".join(parts) or "photograph", content)
    if not into.found.uploads:
        left_out = into.notes()
        raise UploadError(f"there is no photograph: {left_out[0]}" if left_out else "there is no photograph")
    into.found.notes += into.notes()
    return into.found


class _Folder:
    def __init__(self, folder: Path, limits: Limits):
        self.folder, self.limits = folder, limits
        self.found = Received()
        self.left = limits.unpacked * MEGABYTE
        self.others: Counter[str] = Counter()
        self.hidden = self.outside = 0
        self._names: Counter[str] = Counter()

    def wanted(self, parts: list[str]) -> bool:
        """Whether a file of an archive or folder is a photograph by its name; others are counted."""
        ending = os.path.splitext(parts[-1])[1].lower() if parts else ""
        if any(map(is_hidden, parts)):
            self.hidden += 1
        elif ending not in image_endings() and ending not in HEIF_ENDINGS:
            self.others[ending or "no ending"] += 1
        else:
            return True
        return False

    def add(self, name: str, content: BinaryIO) -> None:
        """One more photograph."""
        if len(self.found.uploads) >= self.limits.files:
            raise UploadError(
                f"more than {self.limits.files:,} photographs at a time; `diffiqa score` has no such bound"
            )
        self._names[name] += 1
        if (count := self._names[name]) > 1:
            name = f"{name} ({count})"
        path = self.folder / f"{len(self.found.uploads):06}{os.path.splitext(name)[1][:10]}"
        self.found.uploads.append(upload := Upload(name, path))
        try:
            with open(path, "wb") as file:
                while piece := content.read(PIECE):
                    self.left -= len(piece)
                    if self.left < 0:
                        raise UploadError(f"more than {self.limits.unpacked:,} megabytes of photographs at a time")
                    file.write(piece)
        except UploadError:
            raise
        except Exception as error:  # zipfile raises what its decompressors raise
            upload.error = f"damaged in the archive: {str(error).strip() or type(error).__name__}"

    def unpack(self, name: str, content: BinaryIO, prefix: str) -> None:
        """The photographs of an archive, of which no more is read than the limits allow."""
        if not hasattr(content, "seekable"):  # a SpooledTemporaryFile of Python 3.10
            with tempfile.TemporaryFile() as whole:
                shutil.copyfileobj(content, whole)
                return self.unpack(name, whole, prefix)
        try:
            archive = zipfile.ZipFile(content)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            self.found.uploads.append(Upload(name, self.folder / "none", f"not a zip archive, or damaged: {error}"))
            return
        with archive:
            for info in sorted(archive.infolist(), key=lambda info: info.filename):
                if info.is_dir():
                    continue
                if _leads_outside(info):
                    self.outside += 1
                    continue
                parts = _parts(info.filename)
                if self.wanted(parts):
                    self._member(archive, info, prefix + "/".join(parts))

    def _member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> None:
        try:
            with archive.open(info) as content:
                self.add(name, content)  # type: ignore[arg-type]
        except UploadError:
            raise
        except Exception as error:  # encrypted, a way of compression that is not there, damaged where it begins
            reason = "encrypted" if info.flag_bits & 1 else f"damaged in the archive: {error}"
            self.found.uploads.append(Upload(name, self.folder / "none", reason))

    def notes(self) -> list[str]:
        """Lines on what was left out."""
        lines = []
        if self.others:
            kinds = ", ".join(f"{count:,} {ending}" for ending, count in sorted(self.others.most_common(5)))
            lines.append(f"left out, as no photographs by their endings: {kinds}")
        if self.hidden:
            lines.append(f"left out, as hidden or a tool's: {_files(self.hidden)}")
        if self.outside:
            lines.append(f"left out, as links or with a path that leads out of the archive: {_files(self.outside)}")
        return lines


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _is_archive(name: str) -> bool:
    return name.lower().endswith(".zip")


def _parts(name: str) -> list[str]:
    """The folders and the name of a file, as text: it is shown, and never opened."""
    parts = (part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    return ["".join(c if c.isprintable() else "?" for c in part)[:200] for part in parts]


def _leads_outside(info: zipfile.ZipInfo) -> bool:
    name = info.filename.replace("\\", "/")
    absolute = name.startswith("/") or name[1:2] == ":"
    return absolute or ".." in name.split("/") or stat.S_ISLNK(info.external_attr >> 16)


__all__ = ["Limits", "Received", "Upload", "UploadError", "receive"]
