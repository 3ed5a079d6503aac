# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""A table of results once, and as Markdown, CSV, LaTeX and HTML."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


# What a cell can be marked with: its place in the column, and a quoted figure that can't be right.
MARKS = ("best", "second", "third", "suspect")
_SUPERSCRIPT = {"second": "²", "third": "³", "suspect": "?"}
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {character: "\\" + character for character in "&%$#_{}"}


@dataclass(frozen=True)
class Cell:
    """
    Args:
        text (`str`): As it is printed.
        value (`float`, *optional*): The number behind it, for sorting and for CSV.
        marks (`tuple[str, ...]`): Out of `MARKS`.
        hint (`str`): Shown where the mouse is over it.
    """

    text: str
    value: float | None = None
    marks: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True)
class Table:
    """
    Args:
        name (`str`): For file names and labels: letters, digits and `_`.
        caption (`str`): What it shows, in a sentence or two.
        header (`tuple[str, ...]`), rows (`tuple[tuple[Cell, ...], ...]`): C columns; the first one names the row.
        notes (`tuple[str, ...]`): Below it.
        quoted (`bool`): Whether its figures are somebody else's.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = field(default=())
    quoted: bool = False


def number(value: float | None, digits: int = 3, marks: Sequence[str] = (), hint: str = "") -> Cell:
    """A number in a cell; a dash where it is missing or undefined."""
    if value is None or math.isnan(value):
        return Cell("–", None, (), hint)
    return Cell(f"{value:.{digits}f}", value, tuple(marks), hint)


def ranked(column: Sequence[float | None], lower_is_better: bool, places: int = 1, digits: int = 3) -> list[Cell]:
    """Cells of a column, the best `places` of which are marked; what is printed alike has one place."""
    shown = [None if value is None or math.isnan(value) else round(value, digits) for value in column]
    order = sorted({value for value in shown if value is not None}, reverse=not lower_is_better)
    marks = dict(zip(order, MARKS[:places], strict=False))
    return [
        number(value, digits, (marks[short],) if short in marks else ())
        for value, short in zip(column, shown, strict=True)
    ]


def to_markdown(table: Table) -> str:
    """With its caption above and its notes below; second and third places and suspect figures are superscripts."""

    def cell(value: Cell) -> str:
        text = value.text.replace("|", "\\|")
        text = f"**{text}**" if "best" in value.marks else text
        return text + "".join(_SUPERSCRIPT.get(mark, "") for mark in value.marks)

    lines = [f"**{table.caption}**", "", _markdown_row(name.replace("|", "\\|") for name in table.header)]
    lines.append(_markdown_row(["---", *["---:"] * (len(table.header) - 1)]))
    lines += [_markdown_row(map(cell, row)) for row in table.rows]
    return "\n".join([*lines, *(f"\n{note}" for note in table.notes)]) + "\n"


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def to_csv(table: Table) -> str:
    """Numbers in full precision, and a column of marks for each column in which there are any."""
    marked = [any(row[at].marks for row in table.rows) for at in range(len(table.header))]
    rows = []
    for row in table.rows:
        cells = []
        for at, cell in enumerate(row):
            plain = cell.text if cell.text != "–" else ""
            cells.append(plain if cell.value is None else repr(float(cell.value)))
            if marked[at]:
                cells.append(" ".join(cell.marks))
        rows.append(cells)
    header = [
        name
        for at, title in enumerate(table.header)
        for name in ([title, f"{title} marks"] if marked[at] else [title])
    ]
    return csv_text([header, *rows])


def csv_text(rows: Iterable[Sequence]) -> str:
    """Rows as the text of a CSV file; `None` is empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def to_latex(table: Table) -> str:
    """A `table` environment that needs `booktabs`; places by bold and underline, suspect figures by a dagger."""

    def cell(value: Cell) -> str:
        text = latex(value.text)
        if "best" in value.marks:
            text = rf"\textbf{{{text}}}"
        if "second" in value.marks:
            text = rf"\underline{{{text}}}"
        return text + (r"$^{\dagger}$" if "suspect" in value.marks else "")

    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        " & ".join(map(latex, table.header)) + r" \\",
        r"\midrule",
        *(" & ".join(map(cell, row)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip\footnotesize {latex(note)}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex(text: str) -> str:
    """A text with what LaTeX takes for commands spelled out."""
    text = "".join(_LATEX.get(character, character) for character in text)
    return text.replace("–", "--").replace("±", r"$\pm$").replace("≈", r"$\approx$")


def to_html(table: Table) -> str:
    """A `figure` with the table; the script of the page sorts it by the numbers in `data-v`."""

    def cell(value: Cell, first: bool) -> str:
        attributes = "" if value.value is None else f' data-v="{float(value.value)!r}"'
        attributes += f' class="{" ".join(value.marks)}"' if value.marks else ""
        attributes += f' title="{html.escape(value.hint)}"' if value.hint else ""
        tag = "th" if first else "td"
        return f"<{tag}{attributes}>{html.escape(value.text)}</{tag}>"

    head = "".join(f'<th scope="col"><button>{html.escape(name)}</button></th>' for name in table.header)
    body = "\n".join(f"<tr>{''.join(cell(value, at == 0) for at, value in enumerate(row))}</tr>" for row in table.rows)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in table.notes)
    kind = "table quoted" if table.quoted else "table"
    return (
        f'<figure class="{kind}" id="{html.escape(table.name)}"><figcaption>{html.escape(table.caption)}</figcaption>'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
        f"{notes}</figure>\n"
    )


__all__ = ["MARKS", "Cell", "Table", "csv_text", "latex", "number", "ranked"]
__all__ += ["to_csv", "to_html", "to_latex", "to_markdown"]
