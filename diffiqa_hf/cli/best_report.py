# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The page of `diffiqa best --report`: one file that needs nothing else, to be looked at by who decides."""

import html
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..images.framing import data_uri, framed
from ..images.loading import FaceImageError, load_image
from ..scoring.names import existing_file
from ..scoring.score_rows import Rows
from .decisions import Decision, Threshold, summary, why_again, why_low
from .errors import printable


PICTURE = 168  # longest side of a picture on the page, in pixels
NOTHING = "nothing that is measured stands out"
MOST_PICTURES = 2_000  # a page with more would be too large for a browser

STYLE = """
:root { color-scheme: light; --ink: #1d1f24; --grey: #686d78; --line: #dfe2e8; --bad: #b3261e; --good: #1f6f43; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 28px 24px 60px; color: var(--ink); background: #fff;
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 10px; }
p { margin: 4px 0; } .grey { color: var(--grey); }
.counts { display: flex; flex-wrap: wrap; gap: 12px; margin: 18px 0 4px; }
.counts div { border: 1px solid var(--line); border-radius: 8px; padding: 8px 16px; min-width: 120px; }
.counts b { display: block; font-size: 24px; }
.people { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 12px; }
.person { border: 1px solid var(--line); border-top: 3px solid var(--good); border-radius: 8px; padding: 10px;
  overflow-wrap: anywhere; break-inside: avoid; }
.again .person { border-top-color: var(--bad); }
.picture { height: 168px; display: flex; align-items: center; justify-content: center; background: #f5f6f8;
  border-radius: 5px; margin-bottom: 8px; color: var(--grey); }
.picture img { max-width: 100%; max-height: 168px; display: block; }
.name { font-weight: 600; } .file { font-size: 12px; color: var(--grey); }
.why { color: var(--bad); } .chosen .why { color: var(--grey); }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
td:first-child { white-space: nowrap; }
"""


def report_page(
    decisions: Sequence[Decision],
    rows: Rows,
    threshold: Threshold,
    facts: Mapping[str, str],
    left_out: Sequence[str],
) -> str:
    """
    The page.

    Args:
        decisions: Of all people.
        rows: Of all photographs, with `file`, `error` and `num_faces`.
        threshold: That they were decided by.
        facts: What was done, by what it is called: the method, the calibration, ...
        left_out: Lines on files and folders that have no row.
    """
    below = [(d, d.best) for d in decisions if d.best is not None and not d.chosen]
    below.sort(key=lambda item: item[1]["score"])
    none = [d for d in decisions if not d.usable]
    chosen = [d for d in decisions if d.chosen]
    pictures = _Pictures(rows)
    parts = [_counts(decisions, below, none, chosen, rows)]
    if below:
        parts.append(f"<h2>Must come again: the best photograph is below {_text(str(threshold))}</h2>")
        cards = [_card(d, best, why_low(best) or NOTHING, pictures) for d, best in below]
        parts.append(f'<div class="people again">{"".join(cards)}</div>')
    if none:
        parts.append("<h2>Must come again: no usable photograph</h2>")
        lines = [
            f'<tr><td class="name">{_text(d.person)}</td><td class="why">{_text(why_again(d, threshold))}</td></tr>'
            for d in none
        ]
        parts.append(f"<table>{''.join(lines)}</table>")
    if chosen:
        parts.append("<h2>Chosen photographs</h2>")
        cards = [_card(d, row, why_low(row), pictures) for d in chosen for row in d.chosen]
        parts.append(f'<div class="people chosen">{"".join(cards)}</div>')
    parts += _left_out(rows, left_out)
    if pictures.wanted > MOST_PICTURES:
        parts.append(
            f'<p class="grey">{pictures.wanted - MOST_PICTURES:,} pictures are not shown: a page has at most '
            f"{MOST_PICTURES:,}.</p>"
        )
    parts.append(_facts({"photographs": pictures.folder, **facts}))
    body = "\n".join(parts)
    title = "The best photographs"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body><h1>{title}</h1>\n<p>{_text(summary(decisions, threshold))}.</p>\n{body}</body></html>\n"
    )


def _counts(decisions, below, none, chosen, rows) -> str:
    boxes = {
        "people": len(decisions),
        "with a chosen photograph": len(chosen),
        "below the threshold": len(below),
        "without a usable photograph": len(none),
        "photographs": _different(row["file"] for row in rows),
    }
    return f'<div class="counts">{"".join(f"<div><b>{n:,}</b>{_text(name)}</div>" for name, n in boxes.items())}</div>'


def _different(files: Iterable[str]) -> int:
    """How many different ones there are, without having all of them in memory."""
    return len(np.unique(np.fromiter(map(hash, files), np.int64)))


def _card(decision: Decision, row: Mapping[str, Any], why: str, pictures: "_Pictures") -> str:
    numbers = f"score {row['score']:.4f}"
    if row.get("percentile") is not None:
        numbers += f", percentile {row['percentile']:.0f}"
    count = decision.scored + decision.failed
    of = f"of {count} photographs" if count > 1 else "the only photograph"
    file = f'<div class="file">{_text(pictures.name(row["file"]))}<br>{of}</div>'
    return (
        f'<div class="person"><div class="picture">{pictures.of(row)}</div><div class="name">{_text(decision.person)}'
        f'</div><div>{numbers}</div><div class="why">{_text(why)}</div>{file}</div>'
    )


class _Pictures:
    """Pictures for the page, as many as it can have, and the names of their files below the folder of all."""

    def __init__(self, rows: Rows) -> None:
        self.wanted = 0
        folders = {os.path.dirname(os.path.abspath(row["file"])) for row in rows}
        self.folder = os.path.commonpath(folders) if folders else ""

    def name(self, file: str) -> str:
        """The file below the folder that all lie in."""
        return os.path.relpath(os.path.abspath(file), self.folder)

    def of(self, row: Mapping[str, Any]) -> str:
        """The photograph of a row, with a frame around the face where it is known."""
        self.wanted += 1
        if self.wanted > MOST_PICTURES:
            return "not shown"
        try:
            picture = load_image(existing_file(row["file"]))
        except (FaceImageError, OSError):
            return "not here any more"
        boxes = [] if row.get("box") is None else [row["box"]]
        return f'<img alt="" src="{data_uri(framed(picture, boxes, 2 * PICTURE))}">'


def _left_out(rows: Rows, left_out: Sequence[str]) -> list[str]:
    errors: dict[str, list] = {}  # how many, and the first
    nobodys: list = [0, ""]
    for row in rows:
        found = [errors.setdefault(row["error"], [0, row["file"]])] if row["error"] is not None else []
        for entry in (*found, *([nobodys] if row["group"] is None else [])):
            entry[0] += 1
            entry[1] = entry[1] or row["file"]
    lines = [(why, count, file) for why, (count, file) in sorted(errors.items(), key=lambda item: -item[1][0])]
    if nobodys[0]:
        lines.append(("nobody's: the rule of the groups does not say whose they are", *nobodys))
    first = next((row["file"] for row in rows if (row.get("num_faces") or 0) > 1), None)
    if first is not None:
        count = _different(row["file"] for row in rows if (row.get("num_faces") or 0) > 1)
        lines.append(("several faces: the largest was taken", count, first))
    if not lines and not left_out:
        return []
    cells = [
        f"<tr><td>{count:,}</td><td>{_text(why)}</td>"
        f"<td class='file'>{_text(file)}{', ...' if count > 1 else ''}</td></tr>"
        for why, count, file in lines
    ]
    parts = ["<h2>Files that were left out, and what was noticed</h2>"]
    parts += [f"<table>{''.join(cells)}</table>"] if cells else []
    return parts + [f"<p>{_text(line)}</p>" for line in left_out]


def _facts(facts: Mapping[str, str]) -> str:
    cells = [f"<tr><td>{_text(name)}</td><td>{_text(value)}</td></tr>" for name, value in facts.items() if value]
    return f"<h2>How it was decided</h2><table>{''.join(cells)}</table>"


def _text(text: str) -> str:
    return html.escape(printable(str(text)))


__all__ = ["report_page"]
