# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Which images a folder holds, the same for every command and method."""

import importlib.util
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from .errors import one_line
from .names import FileKeys


# What Pillow opens, or lists, that is no photograph: documents, films, icons, brushes, and arrays of the sciences.
# (Some need programs that are not there, and `.fit` is what a sports watch writes.)
NO_PHOTOGRAPHS = frozenset("BUFR CUR EPS FITS FLI GBR GRIB HDF5 ICNS ICO IPTC MPEG PALM PDF WMF XVTHUMB".split())
HEIF_ENDINGS = frozenset((".heic", ".heics", ".heif", ".heifs", ".hif"))
VIDEO_ENDINGS = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"))

# Of systems, file servers and programs, in small letters; what begins with a point is hidden besides.
TOOL_NAMES = frozenset(
    (
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "@__thumb",
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "@synoresource",
        "@tmp",
        "__macosx",
        "__pycache__",
        "_gsdata_",
        "lost+found",
        "network trash folder",
        "recycler",
        "system volume information",
        "temporary items",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
    )
)


@cache
def image_endings() -> frozenset[str]:
    """The endings, in small letters and with the point, of the photographs that can be read."""
    from PIL import Image

    formats = Image.registered_extensions()
    endings = {ending for ending, name in formats.items() if name not in NO_PHOTOGRAPHS}
    if importlib.util.find_spec("pillow_heif") is not None:
        endings |= HEIF_ENDINGS
    return frozenset(endings)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden or a tool's, and so holds no faces of anybody."""
    return name.startswith(".") or name.casefold() in TOOL_NAMES


@dataclass
class FoundImages:
    """
    What [`find_images`] found. Unpacks to `files, problems`.

    Args:
        files (`list[str]`): Each once, in order.
        problems (`list[str]`): A line for each folder that could not be read or has no images, and for pictures that
            can't be read.
        notes (`list[str]`): Lines on what was left out for other reasons.
        heif (`list[str]`): HEIC and HEIF pictures, where the package that reads them is missing; a line of `problems`
            is about them.
        empty (`list[str]`): Folders inside of those that were named which hold neither images nor folders.
    """

    files: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    heif: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def __iter__(self):
        return iter((self.files, self.problems))


def linked_folders(folder: str) -> list[str]:
    """
    The links in a folder, at any depth, to folders that are not in it, each once: a glob does not look into them, as
    [`find_images`] does. Hidden ones and those of tools are left out.
    """

    def place(path: str) -> tuple[int, int]:
        status = os.stat(path)
        return status.st_dev, status.st_ino

    seen: set[tuple[int, int]] = set()
    links: list[str] = []
    found: list[str] = []
    above = os.path.realpath(folder) + os.sep

    def look_into(top: str) -> None:
        for path, folders, _ in os.walk(top):
            seen.add(place(path))
            inside = (os.path.join(path, name) for name in sorted(folders) if not is_hidden(name))
            links.extend(filter(os.path.islink, inside))

    look_into(folder)
    for link in links:  # to which those of linked folders come
        if place(link) not in seen and not above.startswith(os.path.realpath(link) + os.sep):
            found.append(link)
            look_into(link)
    return found


def find_images(paths: Iterable[str], recursive: bool = False) -> FoundImages:
    """The images that files and folders stand for.

    A file that is named is taken whatever its ending is (and whether or not it is there: scoring it says what is wrong
    with it); a video is not, and has a line among the problems. In a folder those with the ending of a photograph are
    taken ([`image_endings`]), in the order of their names, but nothing that is hidden or a tool's ([`is_hidden`]).
    Symbolic links are followed; a folder is looked into once, however many links lead to it, and a file that is there
    under two spellings or by a link counts once.
    """
    found = FoundImages()
    walk = _Walk(recursive)
    for argument in paths:
        if os.path.isdir(argument):
            walk.folder(argument, found)
        elif os.path.splitext(argument)[1].lower() in VIDEO_ENDINGS and os.path.isfile(argument):
            found.problems.append(f"{argument} is a video: `diffiqa score` and `best` take it by itself")
        else:
            walk.add(argument)
    found.files = list(walk.files.values())
    found.problems = list(map(one_line, [*found.problems, *walk.unreadable()]))
    found.notes = list(map(one_line, walk.left_out()))
    found.heif, found.empty = walk.heif, walk.empty
    return found


class _Walk:
    def __init__(self, recursive: bool):
        self.recursive = recursive
        self.files: dict[str, str] = {}
        self.keys = FileKeys()
        self.seen: set[tuple[int, int]] = set()
        self.again: list[tuple[str, str]] = []
        self.hidden: list[str] = []
        self.heif: list[str] = []
        self.empty: list[str] = []
        self.others: Counter[str] = Counter()

    def add(self, path: str) -> None:
        first = self.files.setdefault(self.keys.on_disk(path), path)
        if first != path:
            self.again.append((path, first))

    def folder(self, argument: str, found: FoundImages) -> None:
        count = 0
        readable, has_folders = True, False
        folders = [argument]
        while folders:
            folder = folders.pop()
            try:
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) in self.seen:
                    count += 1  # its images, if any, are in the list
                    continue
                self.seen.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as entries:
                    inside = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                found.problems.append(f"cannot read the folder {folder}: {error.strerror or error}")
                readable = False
                continue
            deeper, images, heif = [], 0, len(self.heif)
            for entry in inside:
                if is_hidden(entry.name):
                    self.hidden.append(entry.path)
                elif os.path.isdir(entry.path):  # where entry.is_dir() would end at a link to itself
                    deeper.append(entry.path)
                # A link that leads nowhere is kept, to be reported; a pipe or socket is not an image.
                elif os.path.isfile(entry.path) or not os.path.exists(entry.path):
                    images += self._file(entry.path)
            count += images
            if not images and not deeper and folder != argument and len(self.heif) == heif:
                self.empty.append(folder)
            has_folders = has_folders or bool(deeper)
            if self.recursive:
                folders += reversed(deeper)
        if not count and readable:
            hint = ", only folders: --recursive looks into them" if has_folders and not self.recursive else ""
            found.problems.append(f"no images in the folder {argument}{hint}")

    def _file(self, path: str) -> bool:
        ending = os.path.splitext(path)[1].lower()
        if ending in image_endings():
            self.add(path)
            return True
        if ending in HEIF_ENDINGS:
            self.heif.append(path)
        else:
            self.others[ending or "no ending"] += 1
        return False

    def unreadable(self) -> list[str]:
        if not self.heif:
            return []
        return [
            f"{_some(self.heif, 'HEIC or HEIF picture')} left out: `pip install 'diffiqa-hf[heif]'` lets them be read"
        ]

    def left_out(self) -> list[str]:
        notes = []
        if self.others:
            kinds = ", ".join(f"{count:,} {ending}" for ending, count in self.others.most_common(5))
            kinds += ", ..." if len(self.others) > 5 else ""
            notes.append(f"left out of the folders, as no photographs by their endings: {kinds}")
        if self.hidden:
            notes.append(f"{_some(self.hidden, 'hidden file or folder', 'hidden files or folders')} left out")
        if self.empty:
            notes.append(f"{_some(self.empty, 'folder')} without images")
        if self.again:
            path, first = self.again[0]
            count = len(self.again)
            files = "1 file is" if count == 1 else f"{count:,} files are"
            notes.append(f"{files} there under two names and count once, such as {path} ({first})")
        return notes


def _some(paths: list[str], one: str, many: str | None = None) -> str:
    return f"1 {one} ({paths[0]})" if len(paths) == 1 else f"{len(paths):,} {many or one + 's'} (such as {paths[0]})"


__all__ = ["FoundImages", "find_images", "image_endings", "is_hidden", "linked_folders"]
