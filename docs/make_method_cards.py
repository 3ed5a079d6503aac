# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Writes docs/methods.md, all method cards, out of diffiqa_hf/methods/cards/. After a change there, or of speeds.json:

    python docs/make_method_cards.py

`diffiqa methods NAME` prints the same card in a terminal.
"""

import re
from pathlib import Path

from diffiqa_hf.methods.cards import CARDS, MethodCard


FILE = Path(__file__).with_name("methods.md")
HEADER = """\
<!-- Written by docs/make_method_cards.py. Do not edit: edit diffiqa_hf/methods/cards/ and run that. -->

# The methods

What `load_method` and `--method` take. In all of them a higher score is a better image. `diffiqa methods` prints the
table, `diffiqa methods NAME` one card.

- Beside each other on LFW: [results/lfw](results/lfw/report.md).
- The recipes of `training/train_quality.py`, run once: [results/recipes](results/recipes/README.md).
- Their speeds, beside the originals that run here: [methods.md](../benchmarks/results/methods.md).
"""


def main() -> None:
    FILE.write_text(document(), encoding="utf-8")
    print(FILE)


def document() -> str:
    """The whole file."""
    return "\n".join([HEADER, *table(), *(line for card in CARDS for line in section(card))]) + "\n"


def table() -> list[str]:
    """A line for each method."""
    lines = [
        "| name | title | kind | needs | training | licence of weights |",
        "|---|---|---|---|---|---|",
    ]
    for card in CARDS:
        needs = " and ".join(card.needed) or "nothing"
        if card.optional:
            needs += f" ({' and '.join(card.optional)} optional)"
        cells = [f"[{card.name}](#{card.name})", *map(_escaped, (card.title, card.kind, needs))]
        cells += [_escaped(text) for text in (card.training[0] if card.training else "-", card.weights_license)]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return lines


def section(card: MethodCard) -> list[str]:
    """The card itself."""
    return ["", f"## {card.name}", "", *(f"- **{heading}**: {_escaped(text)}" for heading, text in card.rows())]


def _escaped(text: str) -> str:
    """What Markdown would take for its own, in a text whose code is in backticks; addresses become links."""
    parts = re.split(r"(`[^`]*`|https://[^\s,;)]+)", text)
    for i, part in enumerate(parts):
        if part.startswith("https://"):
            parts[i] = f"<{part}>"
        elif not part.startswith("`"):
            parts[i] = re.sub(r"([\\*_<>\[\]])", r"\\\1", part)
    return "".join(parts)


if __name__ == "__main__":
    main()
