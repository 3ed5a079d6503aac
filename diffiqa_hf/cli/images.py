# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Which images the commands are about, and whose they are."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..scoring.image_files import FoundImages, find_images
from ..scoring.people import People, PeopleError, parse_people
from .errors import CommandError
from .scoring import say


IMAGES_HELP = (
    "images, and folders with images: photographs by their endings, and nothing that is hidden or a tool's; "
    "a folder or file that can't be read, such as HEIC without the extra heif, has a line, and the exit status is 1"
)


def images_of(paths: Sequence[str], recursive: bool) -> tuple[list[str], list[str]]:
    """The images that files and folders stand for, and what could not be read; all there is to say of it is said."""
    found = all_images_of(paths, recursive)
    return found.files, found.problems


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Which images: named, or in a list."""
    parser.add_argument("paths", nargs="*", metavar="FOLDER_OR_FILE", help=IMAGES_HELP)
    parser.add_argument(
        "--files-from",
        metavar="FILE",
        help="also the images and folders that a text file names, a line each (or, as `find -print0` has them, with "
        "zeros between them); - is the standard input",
    )
    parser.set_defaults(usage_error=parser.error)


def take_list(args: argparse.Namespace, others: bool = False) -> None:
    """
    Adds the paths of `--files-from` to those that are named.

    Args:
        others: Without any there are other options that say what to do.

    Raises:
        CommandError: The list can't be read, or is empty.
    """
    if args.files_from is None:
        if not args.paths and not others:
            args.usage_error("the following arguments are required: FOLDER_OR_FILE, or --files-from")
        return
    try:
        if args.files_from == "-":
            content = sys.stdin.buffer.read()
        else:
            content = Path(args.files_from).read_bytes()
    except OSError as error:
        raise CommandError(f"--files-from {args.files_from}: {error.strerror or error}") from error
    parts = content.split(b"\0") if b"\0" in content else content.removeprefix(b"\xef\xbb\xbf").splitlines()
    listed = [os.fsdecode(part) for part in parts if part.strip()]
    if not listed:
        raise CommandError(f"--files-from {args.files_from}: names no files")
    args.paths = [*args.paths, *listed]


def shard(text: str) -> tuple[int, int]:
    """The type of an option `I/N`."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text} is not I/N with I from 1 to N, such as 1/4")
    return int(number), int(count)


def all_images_of(paths: Sequence[str], recursive: bool) -> FoundImages:
    """As [`images_of`], with all that was found. Pictures of a kind that can't be read are files that will fail."""
    found = find_images(paths, recursive)
    for line in (*found.problems, *found.notes):
        say(line)
    found.files += found.heif
    return found


def people_rule(
    text: str, option: str, paths: Sequence[str] = (), one_is_enough: bool = False
) -> Callable[..., People]:
    """
    The rule of an option, as [`parse_people`] has it, which says what it took.

    Raises:
        CommandError: The text names none; from the rule: the folders do not say who is who.
    """
    try:
        parsed = parse_people(text, option, [path for path in paths if os.path.isdir(path)], one_is_enough)
    except PeopleError as error:
        raise CommandError(str(error)) from error

    def rule(files: Sequence[str], said: bool = True) -> People:
        try:
            people = parsed(files)
        except PeopleError as error:
            raise CommandError(str(error)) from error
        if said:
            say(f"{option} {text}: {people.said(('group', 'groups') if one_is_enough else ('person', 'people'))}")
        return people

    return rule


def looks_into_folders(how: str | None) -> bool:
    """Whether people that are named so lie in folders of their own, which are looked into."""
    return how in ("folder", "first-folder", "parent", "each-folder")


def several_faces(count: int, file: str, faces: float) -> str:
    """A line on photographs that show several faces, of which one was taken."""
    photographs = "1 photograph shows" if count == 1 else f"{count:,} photographs show"
    return f"{photographs} several faces, such as {file} ({faces:.0f}); the largest was taken"
