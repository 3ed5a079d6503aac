# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa methods`: which methods there are, and the card of each."""

import argparse
import re
import shutil
import textwrap
from typing import TYPE_CHECKING

from .errors import CommandError


if TYPE_CHECKING:
    from ..methods.cards import MethodCard


DESCRIPTION = """\
Lists the face image quality methods, or prints the card of one: paper, needs, input, range and direction, licences,
where to get weights, how to train it, what it was checked against. In all of them a higher score is a better image."""


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Adds `methods` to the commands of `diffiqa`."""
    parser = commands.add_parser("methods", help="list the methods, or show the card of one", description=DESCRIPTION)
    parser.set_defaults(run=run)
    parser.add_argument("name", nargs="?", metavar="NAME", help="the method whose card is shown")


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa methods`; returns its exit status."""
    if args.name is None:
        print(table())
        return 0
    from ..methods.cards import get_card

    try:
        card = get_card(args.name)
    except ValueError as error:
        raise CommandError(str(error)) from error
    # Wrapped for a person's terminal; where there is none, and the width is a guess, the lines are of 100 columns.
    print(text(card, shutil.get_terminal_size((100, 24)).columns))
    return 0


def table() -> str:
    """One line for each method: name, kind, what it takes, whether it draws random numbers, licence of the code."""
    from ..methods.cards import CARDS

    rows = [("method", "kind", "needs (takes)", "random", "code licence", "title")]
    for card in CARDS:
        needs = [*card.needed, *([f"({', '.join(card.optional)})"] if card.optional else [])]
        random = "seeded" if card.determinism.startswith("seed") else "no"
        # What more there is to say of a licence stands on the card.
        licence = re.split(r"[;(]", card.code_license)[0].strip()
        rows.append((card.name, card.kind, " ".join(needs), random, licence, card.title))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)] + [0]
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)


def text(card: "MethodCard", columns: int = 100) -> str:
    """A card as text of two columns, that many characters wide."""
    rows = card.rows()
    width = max(len(heading) for heading, _ in rows) + 2
    lines = []
    for heading, value in rows:
        wrapped = textwrap.wrap(value, max(columns - width, 30), break_long_words=False, break_on_hyphens=False)
        lines += [f"{heading if i == 0 else '':<{width}}{line}" for i, line in enumerate(wrapped)]
    return "\n".join(lines)
