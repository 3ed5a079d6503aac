# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The pictures of an evaluation: the paper's Figures 4 (EDC curves), 5 (score distributions) and 6 (faces).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .comparison import Evaluation
from .edc import EDCResult
from .figures import BEST, GREY, in_style, new_figure, style_of


if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image


NOTHING = "nothing discarded"
MAX_POINTS = 600  # of a drawn curve: more than a panel has pixels


def thin_curve(result: EDCResult, max_fraction: float = 1.0, best: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """
    The points of a curve up to `max_fraction` for drawing, `MAX_POINTS` or little more of them.

    Args:
        result: The curve.
        max_fraction: Its end; the rate there is the last point, unless the curve ends before.
        best: The best possible curve in place of that of the qualities.

    Returns:
        Fractions and rates. Of more points than can be drawn, those at evenly spaced fractions.
    """
    x, y = (result.best_fractions, result.best_rates) if best else (result.fractions, result.rates)
    end = min(max_fraction, float(x[-1]))
    inside = int(np.searchsorted(x, end, side="right"))
    linear = result.protocol.interpolation == "linear"
    last = float(np.interp(end, x, y)) if linear else float(y[inside - 1])
    x, y = x[:inside], y[:inside]
    if len(x) > MAX_POINTS:
        keep = np.unique(np.searchsorted(x, np.linspace(0, end, MAX_POINTS), side="right") - 1)
        x, y = x[keep], y[keep]
    return np.append(x, end), np.append(y, last)


def plot_edc(evaluations: Sequence[Evaluation], *, max_fraction: float = 0.5, highlight: Sequence[str] = ()) -> Figure:
    """
    Error-versus-discard curves as in Figure 4: a row for each FR model, a column for each benchmark.

    Beside the curves each panel has the rate without discarding (dotted), the curve that no quality can pass
    (dashed, up to the largest limit) and lines at the limits of the pAUC.

    Args:
        evaluations: One panel each; several have one protocol.
        max_fraction: Discard fraction at which the axis ends.
        highlight: Methods that are drawn thicker.

    Raises:
        ImportError: matplotlib isn't installed.
    """
    rows = list(dict.fromkeys(evaluation.fr_model for evaluation in evaluations))
    columns = list(dict.fromkeys(evaluation.benchmark for evaluation in evaluations))
    methods = list(dict.fromkeys(name for evaluation in evaluations for name in evaluation.methods))
    styles = {name: style_of(number) for number, name in enumerate(methods)}
    single = len(rows) == len(columns) == 1
    width, height = (6.4, 4.2) if single else (3.1 * len(columns) + 0.5, 2.5 * len(rows) + 0.3)
    entries = [*methods, NOTHING, BEST]
    entry_width = 0.075 * max(map(len, entries)) + 0.65  # inches, in the legend
    legend_columns = max(1, min(len(entries), int(max(width, 6.0) / entry_width)))
    legend_rows = math.ceil(len(entries) / legend_columns)
    figure = new_figure(max(width, 6.0), height + 0.22 * legend_rows + 0.25)
    with in_style():
        axes = figure.subplots(len(rows), len(columns), squeeze=False)
        drawn = set()
        handles: dict[str, Any] = {}
        for evaluation in evaluations:
            place = rows.index(evaluation.fr_model), columns.index(evaluation.benchmark)
            drawn.add(place)
            handles |= _edc_panel(axes[place], evaluation, styles, max_fraction, highlight)
        for place in np.ndindex(axes.shape):
            ax = axes[place]
            if place not in drawn:
                ax.set_axis_off()
                continue
            if place[0] == 0 and columns[place[1]]:
                ax.set_title(columns[place[1]], fontsize=10)
            if place[0] == len(rows) - 1 or (place[0] + 1, place[1]) not in drawn:
                what = {"images": "images", "mated": "mated pairs", "nonmated": "non-mated pairs", "all": "pairs"}
                ax.set_xlabel(f"fraction of {what[evaluations[0].protocol.discard]} discarded")
            if place[1] == 0:
                rate = evaluations[0].protocol.error.upper()
                ax.set_ylabel(f"{rows[place[0]]}\n{rate}" if rows[place[0]] else rate)
        figure.legend(
            [handles[name] for name in entries],
            entries,
            loc="outside lower center",
            ncols=legend_columns,
            frameon=False,
            fontsize=8.5,
            handlelength=2.2,
        )
    return figure


def _edc_panel(ax, evaluation: Evaluation, styles: Mapping, max_fraction: float, highlight: Sequence[str]) -> dict:
    handles = {}
    first = next(iter(evaluation.results.values()))
    step = None if evaluation.protocol.interpolation == "linear" else "steps-post"
    handles[NOTHING] = ax.axhline(first.rates[0], color=GREY, linewidth=0.9, linestyle=":", zorder=1)
    x, y = thin_curve(first, max_fraction, best=True)
    dashed = {"color": GREY, "linewidth": 0.9, "linestyle": "--", "zorder": 1, "drawstyle": step or "default"}
    handles[BEST] = ax.plot(x, y, **dashed)[0]
    for limit in evaluation.protocol.limits:
        if limit <= max_fraction:
            ax.axvline(limit, color="#a6a6b0", linewidth=0.9, zorder=0)
    top = first.rates[0]
    for name, result in evaluation.results.items():
        color, dash = styles[name]
        x, y = thin_curve(result, max_fraction - 1e-9)  # a step at the very edge would look like part of the frame
        top = max(top, y.max())
        width = 2.0 if name in highlight else 1.3
        handles[name] = ax.plot(
            x, y, color=color, linestyle=dash, linewidth=width, drawstyle=step or "default", zorder=2
        )[0]
    ax.set_xlim(0, max_fraction)
    ax.set_ylim(0, top * 1.06 or 1.0)
    return handles


def plot_scores(scores: Mapping[str, Mapping[str, ArrayLike]], *, columns: int = 3) -> Figure:
    """
    Distributions of the scores as in Figure 5: a panel for each method, a curve for each benchmark.

    The curves are Gaussian kernel densities by Scott's rule, on the method's own scale of scores; their height, which
    depends on that scale, isn't labelled. Scores that are NaN (images that failed) are left out. A benchmark whose
    scores are all the same is a vertical line.

    Args:
        scores: By method, then by benchmark: (I,) scores of images.

    Raises:
        ImportError: matplotlib isn't installed.
    """
    from scipy.stats import gaussian_kde

    benchmarks = list(dict.fromkeys(name for entry in scores.values() for name in entry))
    rows = math.ceil(len(scores) / columns)
    columns = math.ceil(len(scores) / rows)
    figure = new_figure(max(3.2 * columns, 4.8), 2.3 * rows + 0.5)
    handles = {}
    with in_style():
        figure.get_layout_engine().set(h_pad=0.12)  # a title is nearer to its own panel than to the labels above
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[len(scores) :]:
            ax.set_axis_off()
        for ax, (method, entry) in zip(axes, scores.items(), strict=False):
            values = {name: np.asarray(array, dtype=float) for name, array in entry.items()}
            values = {name: array[np.isfinite(array)] for name, array in values.items()}
            values = {name: array for name, array in values.items() if len(array)}
            ax.set_title(method, fontsize=10)
            ax.set_yticks([])
            ax.spines["left"].set_visible(False)
            if not values:
                continue
            low, high = min(array.min() for array in values.values()), max(array.max() for array in values.values())
            grid = np.linspace(low - 0.2 * (high - low), high + 0.2 * (high - low), 400)
            for name, array in values.items():
                color = style_of(benchmarks.index(name))[0]
                if array.min() == array.max():
                    handles[name] = ax.axvline(array[0], color=color, linewidth=1.4)
                    continue
                density = gaussian_kde(array)(grid)
                handles[name] = ax.plot(grid, density, color=color, linewidth=1.4)[0]
                ax.fill_between(grid, density, color=color, alpha=0.12, linewidth=0)
            ax.set_ylim(bottom=0)
            ax.set_xlabel("score (higher is better)")
        order = [name for name in benchmarks if name in handles]
        figure.legend([handles[n] for n in order], order, loc="outside lower center", ncols=6, frameon=False)
    return figure


def plot_faces(
    faces: Sequence[Image.Image], scores: Mapping[str, ArrayLike], *, columns: int = 10, max_faces: int = 20
) -> Figure:
    """
    Faces in the order of the first method, worst first, each with the scores below it, as in Figure 6.

    Scales of two methods can't be compared, and their orders can; so beside each score stands its rank.

    Args:
        faces: F pictures.
        scores: By method, (F,) scores; one that is NaN (the face failed) is shown as such, and comes last.
        max_faces: Of more faces those at evenly spaced ranks of the first method are shown.

    Raises:
        ImportError: matplotlib isn't installed.
    """
    values = {name: np.asarray(array, dtype=float) for name, array in scores.items()}
    order = np.argsort(next(iter(values.values())), kind="stable")  # NaN comes last
    ranks = {name: np.argsort(np.argsort(array, kind="stable")) + 1 for name, array in values.items()}
    if len(order) > max_faces:
        order = order[np.round(np.linspace(0, len(order) - 1, max_faces)).astype(int)]
    columns = min(columns, len(order))
    rows = math.ceil(len(order) / columns)
    names = 0.075 * max(len(name) for name in values) + 0.15  # inches for the names at the left
    row_height = 1.1 + 0.165 * len(values)
    figure = new_figure(names + 1.02 * columns, row_height * rows + 0.3, layout=None)
    width, height = figure.get_size_inches()
    with in_style():
        figure.text(
            0.1 / width,
            1 - 0.14 / height,
            f"Ranks are among {len(faces)} faces, 1 the worst.",
            fontsize=8,
            va="center",
        )
        for place, number in enumerate(order):
            row, column = divmod(place, columns)
            left, top = names + 1.02 * column, height - 0.28 - row_height * row
            ax = figure.add_axes((left / width, (top - 0.98) / height, 0.98 / width, 0.98 / height))
            ax.imshow(faces[number])
            ax.set_axis_off()
            for line, (name, array) in enumerate(values.items()):
                y = (top - 1.07 - 0.165 * line) / height
                if column == 0:
                    figure.text((names - 0.08) / width, y, name, fontsize=8, ha="right", va="center", color=GREY)
                score = array[number]
                text = "failed" if math.isnan(score) else f"{f'{score:#.3g}'.rstrip('.')}  #{ranks[name][number]}"
                figure.text((left + 0.49) / width, y, text, fontsize=8, ha="center", va="center")
    return figure


__all__ = ["plot_edc", "plot_faces", "plot_scores", "thin_curve"]
