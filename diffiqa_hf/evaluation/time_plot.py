# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""pAUC against the time for one image, with labels that don't lie on each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .comparison import Evaluation, mean_share_interval
from .figures import BEST, COLORS, INK, in_style, new_figure, style_of


if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_time(
    evaluations: Sequence[Evaluation],
    milliseconds: Mapping[str, ArrayLike],
    *,
    limit: float | None = None,
    mean_share: bool = False,
    device: str = "",
) -> Figure:
    """
    What a method reaches against the time that it takes for a face, on a logarithmic axis.

    Vertical bars are the intervals of 95 %, horizontal ones the 10th to the 90th percentile of the times, around their
    mean. Each panel has the value of discarding at random (dotted) and the best that any quality could have (dashed),
    so that it shows how much is left to gain; an interval may reach past the latter, which is that of all people. In
    one panel the names stand beside the points; in several, numbers do in order of time, and the legend says whose.

    Args:
        evaluations: One panel each, a row for each FR model and a column for each benchmark. Methods without a time
            are left out.
        milliseconds: By method, (N,) times for one face.
        limit: Discard fraction; by default the last one of the protocol.
        mean_share: In place of the pAUC, one panel with the mean over all evaluations of the share of the reachable
            gain. Its intervals are those of the pAUC in the same scale: the floor is held at that of all people.
        device: What the times were measured on.

    Raises:
        ImportError: matplotlib isn't installed.
        ValueError: No method has both a result and a time.
    """
    limit = evaluations[0].protocol.limits[-1] if limit is None else limit
    times = {name: np.asarray(values, dtype=float) for name, values in milliseconds.items()}
    present = list(dict.fromkeys(name for evaluation in evaluations for name in evaluation.methods))
    styles = {name: (style_of(at)[0], "osD^"[at // len(COLORS) % 4]) for at, name in enumerate(present)}
    names = sorted((name for name in present if name in times), key=lambda name: times[name].mean())
    if not names:
        raise ValueError("no method has both a result and a run time")
    if mean_share:
        panels = {(0, 0): [(name, *_mean_share(evaluations, name, limit)) for name in names]}
        rows, columns, references = [""], [""], {(0, 0): (0.0, 1.0)}
    else:
        rows = list(dict.fromkeys(evaluation.fr_model for evaluation in evaluations))
        columns = list(dict.fromkeys(evaluation.benchmark for evaluation in evaluations))
        panels, references = {}, {}
        for evaluation in evaluations:
            place = rows.index(evaluation.fr_model), columns.index(evaluation.benchmark)
            shown = [name for name in names if name in evaluation.results]
            panels[place] = [(name, *_pauc_and_interval(evaluation, name, limit)) for name in shown]
            first = next(iter(evaluation.results.values()))
            references[place] = first.random[limit], first.floor[limit]
    single = len(rows) == len(columns) == 1
    width, height = (7.6, 5.0) if single else (max(3.7 * len(columns) + 0.4, 6.0), 2.9 * len(rows) + 0.3)
    entries = ["as discarding at random", BEST]
    if not single:
        entries += [f"{at} {name} ({_in_words(times[name].mean())})" for at, name in enumerate(names, 1)]
    legend_columns = max(1, min(len(entries), int(width / (0.073 * max(map(len, entries)) + 0.45))))
    figure = new_figure(width, height + 0.22 * math.ceil(len(entries) / legend_columns) + 0.45)
    what = f"mean share of the reachable gain at {limit:g}" if mean_share else f"pAUC at {limit:g}"
    with in_style():
        axes = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True)
        handles = {}
        labelled: list[tuple[Any, list[tuple[str, str, float, float, float]]]] = []
        line = {"color": INK, "linewidth": 0.9, "zorder": 1.6}  # above the grid, which has a line at 1 as well
        for place in np.ndindex(axes.shape):
            ax = axes[place]
            if place not in panels:
                ax.set_axis_off()
                continue
            random, best = references[place]
            handles[entries[0]] = ax.axhline(random, linestyle=":", **line)
            handles[BEST] = ax.axhline(best, linestyle="--", **line)
            found = [entry for entry in panels[place] if math.isfinite(entry[1])]
            for name, value, low, high in found:
                color, marker = styles[name]
                mean, (fast, slow) = times[name].mean(), np.percentile(times[name], (10, 90))
                ax.plot([mean, mean], [low, high], color=color, linewidth=1.2, alpha=0.55, zorder=2)
                ax.plot([fast, slow], [value, value], color=color, linewidth=1.2, alpha=0.55, zorder=2)
                entry = f"{names.index(name) + 1} {name} ({_in_words(mean)})"
                handles[entry] = ax.plot(mean, value, marker, color=color, markersize=5, linewidth=0, zorder=3)[0]
            _set_time_axes(ax, [times[name] for name in names], [random, best, *np.ravel([e[1:] for e in found])])
            marks = {name: name if single else str(names.index(name) + 1) for name, *_ in found}
            labelled.append((ax, [(marks[name], name, value, low, high) for name, value, low, high in found]))
            if place[0] == 0 and columns[place[1]]:
                ax.set_title(columns[place[1]], fontsize=10)
            if (place[0] + 1, place[1]) not in panels:
                ax.tick_params(labelbottom=True)
                ax.set_xlabel("time for one face")
            if place[1] == 0:
                ax.set_ylabel(f"{rows[place[0]]}\n{what}" if rows[place[0]] else what)
        shown = [entry for entry in entries if entry in handles]
        figure.legend(
            [handles[entry] for entry in shown],
            shown,
            loc="outside lower center",
            ncols=legend_columns,
            frameon=False,
            fontsize=8.5,
            title=f"Times on {device}" if device else None,
            title_fontsize=8.5,
        )
        figure.draw_without_rendering()  # from here on the axes are where they stay
        for ax, points in labelled:
            _label_points(
                ax,
                [label for label, *_ in points],
                [(times[name].mean(), value) for _, name, value, _, _ in points],
                [(low, high) for *_, low, high in points],
                [styles[name][0] for _, name, *_ in points],
            )
    return figure


def _pauc_and_interval(evaluation: Evaluation, method: str, limit: float) -> tuple[float, float, float]:
    value, interval = evaluation.results[method].pauc[limit], evaluation.interval(method, limit)
    return (value, value, value) if interval is None else (value, interval.low, interval.high)


def _mean_share(evaluations: Sequence[Evaluation], method: str, limit: float) -> tuple[float, float, float]:
    """The mean and its interval; NaN where the method lacks a share on one of the sets."""
    if any(method not in evaluation.results for evaluation in evaluations):
        return math.nan, math.nan, math.nan
    mean = float(np.mean([evaluation.results[method].share[limit] for evaluation in evaluations]))
    interval = mean_share_interval(evaluations, method, limit)
    return (mean, mean, mean) if interval is None else (mean, interval.low, interval.high)


def _in_words(milliseconds: float) -> str:
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.3g} s"
    return f"{milliseconds:.3g} ms" if milliseconds < 100 else f"{milliseconds:.0f} ms"


def _set_time_axes(ax, times: Sequence[np.ndarray], values: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    ax.set_xscale("log")
    low, high = min(float(t.min()) for t in times), max(float(t.max()) for t in times)
    margin = max((high / low) ** 0.08, 1.3)
    ax.set_xlim(low / margin, high * margin)
    # In panels beside each other the labels would touch sooner.
    many = high / low > 300 / ax.get_subplotspec().get_gridspec().ncols ** 2
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if many else (1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _in_words(value)))
    values = [value for value in values if math.isfinite(value)]
    margin = 0.06 * (max(values) - min(values)) or 0.05
    ax.set_ylim(min(values) - margin, max(values) + margin)


def _label_points(ax, labels: Sequence[str], points, bars, colors: Sequence[str]) -> None:
    """
    Labels beside points, where they cover neither each other nor points and bars; those that end up far away get a
    line. Of places around each point the one that collides least is taken, in some rounds, since each has to do with
    all others.
    """
    figure = ax.get_figure()
    texts = [
        ax.annotate(
            label,
            point,
            (0, 0),
            textcoords="offset points",
            fontsize=8,
            ha="center",
            va="center",
            zorder=4,
            color=color,
        )
        for label, point, color in zip(labels, points, colors, strict=True)
    ]
    for text in texts:
        text.set_in_layout(False)  # or the axes would move after the labels were placed
    unit = figure.dpi / 72  # pixels a point
    centres = ax.transData.transform(np.asarray(points, float).reshape(-1, 2))
    ends = [ax.transData.transform([(x, low), (x, high)]) for (x, _), (low, high) in zip(points, bars, strict=True)]
    sizes = [(box.width + 2 * unit, box.height) for box in (text.get_window_extent() for text in texts)]
    frame = ax.get_window_extent()
    fixed = [(x - 3.5 * unit, y - 3.5 * unit, x + 3.5 * unit, y + 3.5 * unit) for x, y in centres]
    thin = [(x - unit, low, x + unit, high) for (x, low), (_, high) in ends]
    gaps, angles = (grid.ravel() for grid in np.meshgrid((6, 10, 16, 24, 34, 46, 60, 80), np.arange(16) * math.pi / 8))
    rays = np.stack([np.cos(angles), np.sin(angles)], 1)
    candidates = []
    for centre, size in zip(centres, sizes, strict=True):
        middles = centre + rays * (gaps[:, None] * unit + np.asarray(size) / 2)
        boxes = np.concatenate([middles - np.asarray(size) / 2, middles + np.asarray(size) / 2], 1)
        # A line from the point to the nearest edge of the label, as a row of dots.
        edges = np.clip(centre, boxes[:, :2], boxes[:, 2:])
        dots = centre + np.linspace(0.15, 0.95, 9)[:, None] * (edges - centre)[:, None]
        lines = np.concatenate([dots - unit / 2, dots + unit / 2], 2)
        lines[gaps <= 10] = math.nan
        outside = (boxes[:, :2] < (frame.x0, frame.y0)) | (boxes[:, 2:] > (frame.x1, frame.y1))
        cost = 0.35 * gaps + 5 * (gaps > 10) + 1e4 * outside.any(1)
        cost += (6 * _overlap(boxes, fixed) + 0.6 * _overlap(boxes, thin)) / unit**2
        cost += 2 * _overlap(lines, fixed).sum(1) / unit**2
        candidates.append((cost, boxes, lines, middles - centre, edges))
    chosen = [int(np.argmin(cost)) for cost, *_ in candidates]
    for _ in range(4):
        for at, (cost, boxes, lines, *_) in enumerate(candidates):
            others = [(entry, chosen[other]) for other, entry in enumerate(candidates) if other != at]
            taken = np.array([entry[1][place] for entry, place in others]).reshape(-1, 4)
            drawn = np.array([entry[2][place] for entry, place in others]).reshape(-1, 4)
            hits = 10 * _overlap(boxes, taken) + 4 * _overlap(boxes, drawn) + 8 * _overlap(lines, taken).sum(1)
            chosen[at] = int(np.argmin(cost + hits / unit**2))
    placed = [
        (offsets[place], edges[place], gaps[place] > 10)
        for (*_, offsets, edges), place in zip(candidates, chosen, strict=True)
    ]
    for text, point, color, (offset, edge, far) in zip(texts, points, colors, placed, strict=True):
        text.set_position(offset / unit)
        if far:
            # From the edge of the label, not from its middle.
            x, y = ax.transData.inverted().transform(edge)
            line = ax.plot([point[0], x], [point[1], y], color=color, linewidth=0.6, zorder=1.5)[0]
            line.set_in_layout(False)


def _overlap(boxes: np.ndarray, others: ArrayLike) -> np.ndarray:
    """(...,) area that each of (..., 4) boxes shares with (K, 4) others: x0, y0, x1, y1; NaN are nowhere."""
    boxes, others = boxes[..., None, :], np.asarray(others, dtype=float).reshape(-1, 4)
    sides = np.minimum(boxes[..., 2:], others[:, 2:]) - np.maximum(boxes[..., :2], others[:, :2])
    return np.nansum(np.clip(sides, 0, None).prod(-1), -1)


__all__ = ["plot_time"]
