# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Whose face it is: one rule for `evaluate`, `benchmark`, `calibrate` and `best`, and no guess where the folders leave it
open.
"""

from __future__ import annotations

import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import LineError
from .image_files import is_hidden
from .names import Names, one_form, row_name
from .tables import TABLE_ENDINGS, TableError, as_text, column_of, names_of, read_table


# Folders that are nobody's name wherever all folders of a level are called so: parts of a data set, poses and sessions
# of a person, kinds of files. A number may follow.
_NO_NAMES = re.compile(
    r"(?:train|training|test|testing|val|valid|validation|dev|eval|evaluation|gallery|probe|query|enrol|enroll|"
    r"enrol+ment|reference|references|part|fold|split|set|batch|"
    r"frontal|front|profile|left|right|side|session|visit|pose|neutral|smile|"
    r"images?|imgs?|pictures|photos?|faces?|crops?|aligned|cropped|raw|originals?|jpe?g|png)[-_ ]?\d*",
    re.IGNORECASE,
)

HOW = "folder, first-folder, parent, each-folder, name, regex:PATTERN or a table"


class PeopleError(LineError):
    """Who is who cannot be known; the message is the reason in one line."""


@dataclass
class People:
    """
    Whose faces they are.

    Args:
        labels (`list[str | None]`): For each image; `None`: unknown.
        rule (`str`): What they were taken from, for a person.
    """

    labels: list[str | None]
    rule: str
    files: Sequence[str] = field(repr=False)

    def said(self, who: tuple[str, str] = ("person", "people")) -> str:
        """One line: how many people, of how many images, an example, and how many images are of nobody known."""
        counts = Counter(label for label in self.labels if label is not None)
        unknown = len(self.labels) - counts.total()
        images = "image" if counts.total() == 1 else "images"
        some = f"{len(counts):,} {who[len(counts) != 1]} in {counts.total():,} {images}"
        if counts:
            label, count = counts.most_common(1)[0]
            first = self.files[self.labels.index(label)]
            some += f", such as {label} ({count:,}: {row_name(first)}{', ...' if count > 1 else ''})"
        if unknown:
            first = self.files[self.labels.index(None)]
            some += f"; {unknown:,} of nobody known, such as {row_name(first)}"
        return f"{some}; from {self.rule}"


PeopleRule = Callable[[Sequence[str]], People]


def parse_people(text: str, option: str, roots: Sequence[str] = (), one_is_enough: bool = False) -> PeopleRule:
    r"""
    The rule that an option names:

    - `folder`: the one folder that can be the person's. Below what all paths have in common, a level at which all
      folders have one name, or are called like parts of a data set (`train`), sessions and poses (`frontal`) or kinds
      of files (`images`), is nobody's; what lies in folders inside of one that has images itself is that one's. Where
      two levels are left that would give other people, it is an error that says how to choose.
    - `first-folder`: the first folder below the folders that were named (below what all paths have in common).
    - `parent`: the name of the last folder.
    - `each-folder`: every folder with images, by its path.
    - `name`: the file's name without its number, as LFW's: `Aaron_Eckhart_0001.jpg`, also `Aaron_Eckhart_1_0.png`.
    - `regex:PATTERN`: what the first group of the pattern finds in the path (the whole of it without a group).
    - a table ([`read_table`]) with the columns `file` and `identity`, in which files are found by as much of their
      path as it has ([`Names`]).

    Args:
        option: What the errors call it.
        roots: Folders that were named, below which people are looked for.
        one_is_enough: One folder with all images is one person, rather than an error.

    Raises:
        PeopleError: The text is none of these, or the pattern or the table is wrong. The rule itself raises it where
            the folders do not say who is who.
    """
    if text in ("folder", "first-folder", "parent", "each-folder"):
        return lambda files: _by_folders(text, files, option, roots, one_is_enough)
    if text == "name":
        return lambda files: People(_by_name(files), "the names of the files", files)
    if text.startswith("regex:"):
        try:
            pattern = re.compile(text.removeprefix("regex:"))
        except (re.error, RecursionError, OverflowError) as error:
            raise PeopleError(f"{option} {text}: no regular expression: {error}") from error
        return lambda files: People(_each_once(_found(pattern, file) for file in files), "the pattern", files)
    if Path(text).suffix.lower() in TABLE_ENDINGS:
        return _by_table(text, option)
    raise PeopleError(f"{option} {text}: neither {HOW} ({', '.join(TABLE_ENDINGS)})")


def _found(pattern: re.Pattern, file: str) -> str | None:
    match = pattern.search(row_name(file).replace(os.sep, "/"))
    return None if match is None else one_form(match.group(1 if pattern.groups else 0) or "") or None


def _by_table(path: str, option: str) -> PeopleRule:
    try:
        table = read_table(path)
        names = names_of(column_of(table, "file", path), f"{path}: column file")
        labels = [as_text(label) for label in column_of(table, "identity", path)]
        rows: dict[str, int] = {}
        keys = Names([], path).keys
        for row, name in enumerate(names):
            first = rows.setdefault(keys(name), row)
            if labels[first] != labels[row]:
                raise TableError(f"{path}: {name} is there twice, as {labels[first]} and as {labels[row]}")
        kept = list(rows.values())
        index = Names([names[row] for row in kept], path)
    except TableError as error:
        raise PeopleError(f"{option} {error}") from error

    def rule(files: Sequence[str]) -> People:
        try:
            found = index.lookup([row_name(file) for file in files], option)
        except TableError as error:
            raise PeopleError(str(error)) from error
        people = [None if row < 0 else labels[kept[row]] for row in found.tolist()]
        return People([None if label is None else one_form(label) for label in people], path, files)

    return rule


def _by_name(files: Sequence[str]) -> list[str | None]:
    def stems() -> Iterator[str]:
        return (one_form(os.path.splitext(os.path.basename(row_name(file)))[0]) for file in files)

    # The 0 that detectors of several faces append is no number of a picture where all have it.
    numbered = len(files) > 0 and all(re.fullmatch(r".+_\d+_0", stem) for stem in stems())
    found = (stem.removesuffix("_0") if numbered else stem for stem in stems())
    matches = (re.fullmatch(r"(.+?)[-_. ]?(?<!\d)\d+", stem) for stem in found)
    return _each_once(None if match is None else match[1] for match in matches)


def _each_once(labels: Iterable[str | None]) -> list[str | None]:
    """A list in which equal labels are one string: of a million files it has to fit the memory."""
    known: dict[str | None, str | None] = {}
    return [known.setdefault(label, label) for label in labels]


def _by_folders(how: str, files: Sequence[str], option: str, roots: Sequence[str], one_is_enough: bool) -> People:
    number_of: dict[str, int] = {}
    folders = (os.path.dirname(row_name(file).replace("\\", "/")) for file in files)
    folder_of = array("q", (number_of.setdefault(folder, len(number_of)) for folder in folders))
    known_parts: dict[str, str] = {}  # of a hundred thousand paths most begin alike
    paths = [
        tuple(known_parts.setdefault(part, part) for part in _parts(os.path.abspath(folder))) for folder in number_of
    ]
    in_no_folder = not any(number_of)
    number_of.clear()
    named = [_parts(os.path.abspath(row_name(root))) for root in roots]
    shared = len(os.path.commonprefix([*paths, *named])) if paths else 0
    below = [path[shared:] for path in paths]
    # Names in no folder, such as a table may have, are in none that is called anything.
    label_of_all = paths[0][shared - 1] if shared and not in_no_folder else "."
    known = [not any(map(is_hidden, path)) for path in below]
    if not any(path for path, is_known in zip(below, known, strict=True) if is_known):
        if not one_is_enough:
            raise PeopleError(
                f"{option} {how}: all images lie in one folder, so that it names one person; by names of files such "
                f"as Aaron_Eckhart_0001.jpg: {option} name"
            )
        labels: list[str | None] = [label_of_all if is_known else None for is_known in known]
        return People([labels[folder] for folder in folder_of], "the folder", files)
    # A picture beside the folders of people is of nobody known.
    known = [is_known and bool(path) for path, is_known in zip(below, known, strict=True)]
    places = [path for path, is_known in zip(below, known, strict=True) if is_known]
    if how == "folder":
        found, rule = _one_level(places, option, one_is_enough)
        if len(set(found)) == 1 and not one_is_enough:
            raise PeopleError(f"{option} {how}: all images are of one person, {found[0]}, by their folders")
    else:
        pick = {"first-folder": lambda p: p[0], "parent": lambda p: p[-1], "each-folder": "/".join}[how]
        found, rule = [pick(path) for path in places], {"parent": "the last folders"}.get(how, f"{how[:5]} folders")
    labels_of_known = iter(found)
    labels = _each_once(one_form(next(labels_of_known)) if is_known else None for is_known in known)
    return People([labels[folder] for folder in folder_of], rule, files)


def _parts(path: str) -> tuple[str, ...]:
    return tuple(one_form(part) for part in path.split(os.sep) if part)


def _one_level(places: list[tuple[str, ...]], option: str, any_name: bool) -> tuple[list[str], str]:
    """The people of folders, as paths of one part or more below what they have in common."""
    # What lies inside of a folder that has images itself is that one's.
    own = set(places)
    paths = [next(path[:end] for end in range(1, len(path) + 1) if path[:end] in own) for path in places]
    if len({len(path) for path in paths}) > 1:
        paths = [tuple(part for part in path if not _NO_NAMES.fullmatch(part)) for path in paths]
    depths = {len(path) for path in paths}
    if any_name and depths == {1}:
        return [path[0] for path in paths], "the folders"
    if len(depths) == 1 and depths != {0}:
        levels = list(zip(*paths, strict=True))
        # Where people are, folders differ.
        meant = [level for level in levels if not all(map(_NO_NAMES.fullmatch, level))]
        meant = [level for level in meant if len(set(level)) > 1] or meant[:1]
        # Several levels are one where they divide the images alike: Ann/Ann_1, Bob/Bob_1.
        if meant and all(len(set(zip(meant[0], level, strict=True))) == len(set(level)) for level in meant[1:]):
            if all(len(set(level)) == len(set(meant[0])) for level in meant):
                number = levels.index(meant[0]) + 1
                rule = "the folders" if len(levels) == 1 else f"level {number} of {len(levels)} of the folders"
                return list(meant[0]), rule
    firsts, lasts = {place[0] for place in places}, {place[-1] for place in places}
    example = max(places, key=len)
    raise PeopleError(
        f"which folder is the person is not clear, as in {'/'.join(example)}: {option} first-folder would give "
        f"{len(firsts):,} people such as {example[0]}, {option} parent {len(lasts):,} such as {example[-1]}; or "
        f"each-folder, name, regex:PATTERN, a table"
    )


__all__ = ["HOW", "People", "PeopleError", "parse_people"]
