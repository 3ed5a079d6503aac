# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""How all figures look, and how they are saved."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..file_utils import replace_file


if TYPE_CHECKING:
    from matplotlib.figure import Figure


INK, GREY = "#1e1e22", "#76767e"
BEST = "no score can pass it"  # of the curve that an order by the errors themselves gives
# Paul Tol's "bright" and "muted" schemes (colour-blind safe), the darker ones first; then again with another dash.
COLORS = (
    "#4477AA",
    "#EE6677",
    "#228833",
    "#AA3377",
    "#CCBB44",
    "#66CCEE",
    "#332288",
    "#882255",
    "#44AA99",
    "#999933",
)
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
_STYLE = {
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 9.0,
    "grid.color": "#e6e6ea",
    "grid.linewidth": 0.6,
    "svg.hashsalt": "diffiqa_hf",  # the same file for the same curves
    "text.color": INK,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
}


def style_of(number: int) -> tuple[str, str | tuple]:
    """Colour and dash of the method of this number: no two of 40 are alike."""
    return COLORS[number % len(COLORS)], DASHES[number // len(COLORS) % len(DASHES)]


def save_figure(figure: Figure, path: str | os.PathLike) -> list[Path]:
    """
    Writes the picture as `path` with the endings `.png` (200 dots an inch) and `.svg`, each beside and renamed.

    Returns:
        The two files.
    """
    written = []
    with in_style():
        for ending, options in ((".png", {"dpi": 200}), (".svg", {"metadata": {"Date": None}})):
            target = Path(f"{os.fspath(path)}{ending}")
            save = partial(figure.savefig, format=ending[1:], **options)
            written.append(replace_file(target, save))
    return written


def new_figure(width: float, height: float, layout: str | None = "constrained") -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures are drawn with matplotlib: pip install 'diffiqa-hf[plot]'") from error
    # Not by pyplot, which keeps every figure and asks for a screen.
    with in_style():
        return Figure(figsize=(width, height), layout=layout, facecolor="white")


def in_style():
    import matplotlib

    return matplotlib.rc_context(_STYLE)


__all__ = ["COLORS", "DASHES", "in_style", "new_figure", "save_figure", "style_of"]
