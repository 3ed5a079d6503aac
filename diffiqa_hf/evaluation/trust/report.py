# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The report of a trust panel: tables, a picture of score against strength, and the numbers as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...file_utils import write_text
from ..comparison import plain
from ..figures import in_style, new_figure, save_figure, style_of
from ..tables import Cell, Table, number, to_markdown
from .damages import STRENGTHS
from .panel import ABOVE_LIMIT, COPY_LIMIT, PERCENTILE_LIMIT, SPEARMAN_LIMIT, TrustResult


if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_trust_report(
    results: Mapping[str, TrustResult],
    counts: Mapping[str, int],
    folder: str | Path,
    *,
    title: str = "Trust panel",
    notes: Sequence[str] = (),
    pictures: bool = True,
) -> None:
    """
    Writes `report.md` and `results.json`, and with `pictures` `trust.png` and `.svg`.

    Args:
        results: By the name of the method.
        counts: `faces`, `people` and `pictures`, as [`run_study`] counts them.
        notes: Sentences below the heading.
    """
    folder = Path(folder)
    summaries = {name: result.summary() for name, result in results.items()}
    record = {"title": title, **counts, "limits": _limits(), "methods": summaries}
    write_text(folder / "results.json", json.dumps(plain(record), indent=1, allow_nan=False) + "\n")
    if pictures:
        save_figure(plot_strengths(results), folder / "trust")
    tables = [_overview(results), _spearmans(summaries), _above(summaries), _non_faces(summaries), _copies(summaries)]
    lines = [
        f"# {title}",
        "",
        f"{counts['faces']:,} faces (people: {counts['people']:,}), each damaged in {len(_kinds(results))} ways at "
        f"{len(STRENGTHS)} strengths; {counts['pictures']} pictures that show no face. Methods for which fewer faces "
        "were taken say so.",
        "",
        *(f"{note}\n" for note in notes),
        "A method passes a check where",
        "",
        f"- the median over the faces of the rank correlation (Spearman) of score and strength, 0 being the clean "
        f"face, is at most {SPEARMAN_LIMIT:g}, and the strongest damage scores above the clean face in at most "
        f"{ABOVE_LIMIT:.0%} of the faces: a check for each kind of damage;",
        f"- a picture without a face lies below the percentile {PERCENTILE_LIMIT:g} of the clean faces: a check each;",
        f"- copies as good as the face rank as the faces do, Spearman at least {COPY_LIMIT:g}: a check each.",
        "",
        *(["![Score against strength](trust.png)", ""] if pictures else []),
        *(f"{to_markdown(table)}\n" for table in tables),
    ]
    write_text(folder / "report.md", "\n".join(lines).rstrip("\n") + "\n")


def _limits() -> dict[str, float]:
    return {
        "spearman": SPEARMAN_LIMIT,
        "above": ABOVE_LIMIT,
        "percentile": PERCENTILE_LIMIT,
        "copies": COPY_LIMIT,
    }


def _kinds(results: Mapping[str, TrustResult]) -> list[str]:
    return list(dict.fromkeys(kind for result in results.values() for kind in result.damaged))


def _overview(results: Mapping[str, TrustResult]) -> Table:
    rows = []
    for name, result in results.items():
        failed = [failure.of for failure in result.failures()]
        parts = (("damage", result.damaged), ("picture", result.non_faces), ("copy", result.copies))
        counts = (Cell(f"{failed.count(of)} of {len(all_of)}", failed.count(of)) for of, all_of in parts)
        rows.append((Cell(name), Cell(f"{len(result.clean)}", len(result.clean)), *counts))
    header = ("method", "faces", "kinds of damage failed", "pictures failed", "copies failed")
    return Table("overview", "Checks that each method fails", header, tuple(rows))


def _marked(value: float, fails: bool, digits: int = 2, percent: bool = False) -> Cell:
    cell = number(100 * value if percent else value, digits)
    return Cell(f"{cell.text} ✗" if fails else cell.text, cell.value)


def _by_kind(summaries: Mapping[str, dict], name: str, caption: str, key: str, fails, percent: bool = False) -> Table:
    kinds = list(dict.fromkeys(kind for summary in summaries.values() for kind in summary["damages"]))
    rows = []
    for kind in kinds:
        values = [summary["damages"].get(kind, {}).get(key, math.nan) for summary in summaries.values()]
        rows.append((Cell(kind), *(_marked(v, fails(v), 1 if percent else 2, percent) for v in values)))
    return Table(name, caption, ("damage", *summaries), tuple(rows))


def _spearmans(summaries: Mapping[str, dict]) -> Table:
    caption = "Median over the faces of Spearman(score, strength); ✗ where the check asks for less"
    return _by_kind(summaries, "spearman", caption, "spearman", lambda value: value > SPEARMAN_LIMIT)


def _above(summaries: Mapping[str, dict]) -> Table:
    caption = "Faces, in per cent, whose strongest damage scores above the clean face; ✗ where it is too many"
    return _by_kind(summaries, "above", caption, "above", lambda value: value > ABOVE_LIMIT, percent=True)


def _non_faces(summaries: Mapping[str, dict]) -> Table:
    pictures = list(dict.fromkeys(name for summary in summaries.values() for name in summary["non_faces"]))
    rows = []
    for picture in pictures:
        values = [summary["non_faces"].get(picture, math.nan) for summary in summaries.values()]
        rows.append((Cell(picture), *(_marked(v, v >= PERCENTILE_LIMIT, 1) for v in values)))
    caption = "Percentile of each picture without a face among the clean faces; ✗ where it is too high"
    return Table("non_faces", caption, ("picture", *summaries), tuple(rows))


def _copies(summaries: Mapping[str, dict]) -> Table:
    names = list(dict.fromkeys(name for summary in summaries.values() for name in summary["copies"]))
    rows = []
    for name in names:
        values = [summary["copies"].get(name, math.nan) for summary in summaries.values()]
        rows.append((Cell(name), *(_marked(v, v < COPY_LIMIT, 3) for v in values)))
    caption = "Rank correlation of the scores of the faces and of their copies; ✗ where it is too low"
    return Table("copies", caption, ("copy", *summaries), tuple(rows))


def plot_strengths(results: Mapping[str, TrustResult], columns: int = 4) -> Figure:
    """A panel for each kind of damage: median over the faces of the score's percentile among the clean faces."""
    kinds = _kinds(results)
    rows = math.ceil(len(kinds) / columns)
    figure = new_figure(2.6 * columns, 2.1 * rows + 0.25 * math.ceil(len(results) / columns))
    with in_style():
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        strengths = (0, *STRENGTHS)
        lines = {}
        for ax, kind in zip(axes, kinds, strict=False):
            for at, (name, result) in enumerate(results.items()):
                if kind not in result.damaged:
                    continue
                levels = result.percentiles(np.column_stack([result.clean, result.damaged[kind]]))
                color, dash = style_of(at)
                (lines[name],) = ax.plot(strengths, np.median(levels, 0), color=color, linestyle=dash, linewidth=1.4)
            ax.set_title(kind, fontsize=9)
            ax.set_xticks(strengths, ["clean", *map(str, STRENGTHS)])
            ax.tick_params(labelbottom=True)
            ax.set_ylim(-3, 103)
        for ax in axes[len(kinds) :]:
            ax.set_axis_off()
        for ax in axes[::columns]:
            ax.set_ylabel("median percentile")
        place = {"loc": "outside lower center", "ncols": min(columns, len(lines))}
        figure.legend(lines.values(), lines, frameon=False, fontsize=8, **place)
    return figure


__all__ = ["plot_strengths", "write_trust_report"]
