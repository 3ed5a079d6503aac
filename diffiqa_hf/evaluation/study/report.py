# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The report of a study: the paper's tables and figures, ours beside them, as files and as one page."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...file_utils import write_text
from ..comparison import Evaluation, plain
from ..tables import Table, csv_text, to_csv, to_html, to_latex, to_markdown
from .result_tables import (
    Ablation,
    Runtime,
    ablation_table,
    average_table,
    cost_table,
    detail_table,
    paper_figures,
    pauc_table,
    quoted_tables,
    runtime_table,
    slug,
    stage_table,
)


if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Study:
    """
    What a report is made of.

    Args:
        title (`str`): Its heading.
        evaluations (`dict[str, list[Evaluation]]`): By the name of the protocol; the first one is the main one.
        methods (`tuple[str, ...]`): Those of the main tables; variants are in ablations alone.
        scores (`dict[str, dict[str, np.ndarray]]`): By method and benchmark, (I,) scores of images.
        runtimes (`list[Runtime]`), ablations (`list[Ablation]`): See there.
        faces (*optional*): Pictures and, by method, their scores, as for [`plot_faces`].
        settings (`dict`): What was computed, for whoever wants to repeat it; JSON.
        notes (`list[str]`): What a reader has to know.
        quoted (`bool`): Whether the paper's own figures are shown.
    """

    title: str
    evaluations: Mapping[str, Sequence[Evaluation]]
    methods: tuple[str, ...]
    scores: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    runtimes: Sequence[Runtime] = ()
    ablations: Sequence[Ablation] = ()
    faces: tuple[Sequence[Image.Image], Mapping[str, Any]] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    quoted: bool = True


def results_csv(evaluations: Sequence[Evaluation], protocols: Sequence[str] | None = None) -> str:
    """
    Every number, a line for each method, benchmark, FR model and limit; with the name of the protocol if given. `low`
    and `high` bound the pAUC, `fnmr_low` and `fnmr_high` the FNMR with nothing discarded, whose errors
    are of `failing_people`; `random` is the pAUC of discarding at random.
    """
    header = ["protocol"] if protocols is not None else []
    header += ["fr_model", "benchmark", "method", "limit", "pauc", "low", "high", "floor", "random", "share"]
    header += ["threshold", "fnmr", "fnmr_low", "fnmr_high", "errors", "failing_people", "mated", "fmr"]
    header += ["false_matches", "nonmated"]
    rows = [header]
    for at, evaluation in enumerate(evaluations):
        first = [protocols[at]] if protocols is not None else []
        fnmr = evaluation.fnmr_interval
        fnmr_span = [None, None] if fnmr is None else [fnmr.low, fnmr.high]
        for method, result in evaluation.results.items():
            for limit in evaluation.protocol.limits:
                interval = evaluation.interval(method, limit)
                span = [None, None] if interval is None else [interval.low, interval.high]
                row = [evaluation.fr_model, evaluation.benchmark, method, limit, result.pauc[limit], *span]
                row += [result.floor[limit], result.random[limit], result.share[limit], result.threshold]
                failing = None if evaluation.bootstrap is None else evaluation.bootstrap.failing
                row += [result.fnmr, *fnmr_span, result.false_non_matches, failing, result.mated, result.fmr]
                row += [result.false_matches, result.nonmated]
                rows.append([*first, *plain(row)])
    return csv_text(rows)


def curves_csv(evaluations: Sequence[Evaluation]) -> str:
    """The curves for drawing them elsewhere, thinned where they have more points than a picture shows."""
    from ..plots import thin_curve

    rows: list[list] = [["fr_model", "benchmark", "method", "fraction", "rate"]]
    for evaluation in evaluations:
        curves = {name: thin_curve(result) for name, result in evaluation.results.items()}
        curves["best possible"] = thin_curve(next(iter(evaluation.results.values())), best=True)
        for name, (x, y) in curves.items():
            points = dict.fromkeys(zip(x.tolist(), y.tolist(), strict=True))  # the last one may be there twice
            rows += [[evaluation.fr_model, evaluation.benchmark, name, *map(repr, point)] for point in points]
    return csv_text(rows)


def study_tables(study: Study) -> dict[str, list[Table]]:
    """All tables by the section of the report in which they stand."""
    sections: dict[str, list[Table]] = {}
    main = next(iter(study.evaluations.values()))
    for protocol, evaluations in study.evaluations.items():
        if not evaluations:
            continue
        fr_models = list(dict.fromkeys(evaluation.fr_model for evaluation in evaluations))
        tables = sections.setdefault(f"pAUC, protocol {protocol}", [])
        for limit in evaluations[0].protocol.limits:
            for share in (False, True):
                for fr_model in fr_models:
                    own = [evaluation for evaluation in evaluations if evaluation.fr_model == fr_model]
                    table = pauc_table(own, study.methods, limit, share)
                    tables.append(replace(table, name=f"{slug(protocol)}_{table.name}"))
            if len(evaluations) > 1:
                table = average_table(evaluations, study.methods, limit)
                tables.append(replace(table, name=f"{slug(protocol)}_{table.name}"))
    if not main:
        return sections
    limits = main[0].protocol.limits
    for ablation in study.ablations:
        if any(evaluation.fr_model == ablation.fr_model for evaluation in main):
            tables = [ablation_table(ablation, main, limit, study.runtimes) for limit in limits]
            sections.setdefault("Ablations", []).extend(tables)
    runtimes = [runtime for runtime in study.runtimes if runtime.method in study.methods]
    if runtimes:
        staged = [stage_table(runtime) for runtime in runtimes if runtime.stages]
        cost = cost_table(main, study.methods, runtimes, limits[-1])
        sections["Run time"] = [cost, runtime_table(runtimes), *staged]
    sections["Intervals, floors and shares"] = [
        detail_table(evaluation, study.methods, limit) for evaluation in main for limit in limits
    ]
    if study.quoted:
        sections[QUOTED] = quoted_tables(sorted(limits, reverse=True))
    return sections


QUOTED = "Quoted from the paper"
MANY = 9  # methods, with more of which a picture of a panel for each is folded up
LEGEND = (
    "pAUC: area under the error-versus-discard curve up to the discard rate, divided by starting error and rate: "
    "1 is as good as discarding at random. No score can come below the floor, which lies above 0 and differs "
    "from set to set; the share (1 - pAUC) / (1 - floor) is how much of the gain to the floor was reached, and the "
    "one number that may be averaged over sets. In a table the best of a column is bold; the second and third mean "
    "are marked ² and ³."
)


def legend(evaluations: Mapping[str, Sequence[Evaluation]]) -> list[str]:
    """What the numbers of each protocol are: paragraphs."""
    lines = [LEGEND]
    for name, entries in evaluations.items():
        if not entries:
            continue
        protocol, said = entries[0].protocol, []
        if protocol.interpolation == "linear":
            said.append("the area is that under straight lines between the points")
        if not (protocol.divide_by_start and protocol.divide_by_limit):
            by = [
                what
                for what, divides in (
                    ("the starting error", protocol.divide_by_start),
                    ("the rate", protocol.divide_by_limit),
                )
                if divides
            ]
            start = "" if protocol.divide_by_start else "starting error"
            product = " times ".join(filter(None, (start, "" if protocol.divide_by_limit else "discard rate")))
            said.append(
                f"areas are divided by {' and '.join(by) or 'nothing'}, so that discarding at random has about "
                f"{product} in place of 1; shares are of the divided areas all the same"
            )
        if protocol.threshold_update == "recomputed":
            values = [
                f"{limit:g}: {min(rs):.3f} to {max(rs):.3f}"
                for limit in protocol.limits
                if (rs := [_random_pauc(entry, limit) for entry in entries])
            ]
            said.append(
                "the threshold is set anew for those who are left, which changes the error of discarding at random "
                "as well: divided by starting error and rate it has, as the mean over random orders, not 1 but, by "
                f"discard rate, {'; '.join(values)}"
            )
        if said:
            lines.append(f"Protocol {name}: {'; '.join(said)}.")
    return lines


def _random_pauc(evaluation: Evaluation, limit: float) -> float:
    """pAUC of discarding at random, divided by starting error and rate."""
    protocol, first = evaluation.protocol, next(iter(evaluation.results.values()))
    start = 1.0 if protocol.divide_by_start else float(first.rates[0]) or math.nan
    return first.random[limit] / start / (1.0 if protocol.divide_by_limit else limit)


def write_report(study: Study, folder: str | os.PathLike, pictures: bool = True) -> list[Path]:
    """
    Writes the report: `report.html` (one page that needs nothing else), `report.md`, `tables.tex`, `tables/*.csv`,
    `results.csv`, `results.json`, and with `pictures` `edc`, `time`, `time_share`, `scores` and `faces` as `.png` and
    `.svg`. Each file is written beside and renamed, and older ones go.

    Returns:
        The files.

    Raises:
        ImportError: `pictures`, and matplotlib isn't installed.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files, drawn = _write_pictures(study, folder) if pictures else ([], {})
    sections = study_tables(study)
    tables = [table for entries in sections.values() for table in entries]
    flat = [(name, e) for name, evaluations in study.evaluations.items() for e in evaluations]
    names, evaluations = [name for name, _ in flat], [evaluation for _, evaluation in flat]
    results = {
        "title": study.title,
        "settings": study.settings,
        "notes": list(study.notes),
        "evaluations": [{"protocol_name": name, **evaluation.to_dict()} for name, evaluation in flat],
        "runtimes": [
            {
                "method": runtime.method,
                "device": runtime.device,
                "milliseconds": runtime.milliseconds.tolist(),
                "stages": {name: values.tolist() for name, values in runtime.stages.items()},
                **({"note": runtime.note} if runtime.note else {}),
            }
            for runtime in study.runtimes
        ],
    }
    texts = {
        "results.json": json.dumps(plain(results), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "results.csv": results_csv(evaluations, names),
        "tables.tex": "\n".join(to_latex(table) for table in tables),
        "report.md": _markdown(study, sections, drawn),
        "report.html": _page(study, sections, drawn),
        **{f"tables/{table.name}.csv": to_csv(table) for table in tables},
    }
    written = [write_text(folder / name, text) for name, text in texts.items()]
    for stale in (folder / "tables").glob("*.csv"):
        if stale not in written:
            stale.unlink()
    return [*written, *files]


def _write_pictures(study: Study, folder: Path) -> tuple[list[Path], dict[str, Any]]:
    from ..figures import save_figure
    from ..plots import plot_edc, plot_faces, plot_scores
    from ..time_plot import plot_time

    figures = {}
    for number_, (protocol, evaluations) in enumerate(study.evaluations.items()):
        shown = [_select(evaluation, study.methods) for evaluation in evaluations]
        shown = [evaluation for evaluation in shown if evaluation.results]
        if shown:
            name = "edc" if number_ == 0 else f"edc_{slug(protocol)}"
            figures[name] = (plot_edc(shown), f"EDC curves, protocol {protocol}")
    main = [_select(evaluation, study.methods) for evaluation in next(iter(study.evaluations.values()))]
    main = [evaluation for evaluation in main if evaluation.results]
    times = {runtime.method: runtime.milliseconds for runtime in study.runtimes if runtime.method in study.methods}
    if any(name in times for evaluation in main for name in evaluation.results):
        device = "; ".join(dict.fromkeys(r.device for r in study.runtimes if r.method in times))
        limit = main[0].protocol.limits[-1]
        caption = f"pAUC at a discard rate of {limit:g} against the time for one face; bars are intervals of 95 %."
        if len(main) > 1:
            share = (
                f"Mean share of the reachable gain over {len(main)} pairs of FR model and benchmark, at a discard "
                f"rate of {limit:g}, against the time for one face; bars are intervals of 95 % with the floors held."
            )
            figures["time_share"] = (plot_time(main, times, device=device, mean_share=True), share)
        figures["time"] = (plot_time(main, times, device=device), caption)
    if any(entry for entry in study.scores.values()):
        columns = 3 if len(study.scores) <= MANY else 4
        figures["scores"] = (plot_scores(study.scores, columns=columns), "Distributions of the scores")
    if study.faces is not None:
        figures["faces"] = (plot_faces(*study.faces), "Example faces with their scores, worst first")
    files = [file for name, (figure, _) in figures.items() for file in save_figure(figure, folder / name)]
    return files, figures


def _select(evaluation: Evaluation, methods: Sequence[str]) -> Evaluation:
    return replace(evaluation, results={n: evaluation.results[n] for n in methods if n in evaluation.results})


def _markdown(study: Study, sections: Mapping[str, Sequence[Table]], drawn: Mapping[str, Any]) -> str:
    parts = [f"# {study.title}", *study.notes, *legend(study.evaluations)]
    parts += [f"![{caption}]({name}.png)" for name, (_, caption) in drawn.items()]
    for title, tables in sections.items():
        parts.append(f"## {title}")
        if title == QUOTED:
            parts.append(_quotation())
        parts += [to_markdown(table).rstrip() for table in tables]
    return "\n\n".join(parts) + "\n"


def _quotation() -> str:
    paper = paper_figures()
    return (
        f"These figures are the authors' ({paper['source']}), not measured here. They come from other networks, pairs "
        "and a protocol that was not published, so that they are no target. Cells marked ? can't all be right. "
        f"{'; '.join(paper['notes'])}."
    )


def _page(study: Study, sections: Mapping[str, Sequence[Table]], drawn: Mapping[str, Any]) -> str:
    pictures = []
    for name, (figure, caption) in drawn.items():
        if name.startswith("edc"):
            continue  # the page draws the curves itself
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=150)
        source = base64.b64encode(file.getvalue()).decode()
        picture = f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{source}">'
        if len(study.methods) > MANY and not name.startswith("time"):
            # Of many methods they are long: the tables are not to be looked for below them.
            pictures.append(f"<details><summary><h2>{html.escape(caption)}</h2></summary>{picture}</details>")
        else:
            pictures.append(f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>")
    body = []
    for title, tables in sections.items():
        inside = "".join(map(to_html, tables))
        if title == QUOTED:
            inside = f'<p class="quotation">{html.escape(_quotation())}</p>{inside}'
        opened = " open" if title.startswith("pAUC") else ""
        body.append(f"<details{opened}><summary><h2>{html.escape(title)}</h2></summary>{inside}</details>")
    values = {
        "title": html.escape(study.title),
        "notes": "".join(f"<p>{html.escape(note)}</p>" for note in [*study.notes, *legend(study.evaluations)]),
        "pictures": "".join(pictures),
        "tables": "\n".join(body),
        # "</script>" in a name must not end the script.
        "data": json.dumps(_page_data(study), allow_nan=False).replace("<", "\\u003c"),
    }
    page = resources.files(__package__).joinpath("report_page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], page)


def _page_data(study: Study) -> dict[str, Any]:
    """What the script of the page draws."""
    from ..figures import style_of
    from ..plots import thin_curve

    panels = []
    for protocol, evaluations in study.evaluations.items():
        for evaluation in evaluations:
            evaluation = _select(evaluation, study.methods)
            if not evaluation.results:
                continue
            first = next(iter(evaluation.results.values()))
            curves = {name: thin_curve(result) for name, result in evaluation.results.items()}
            panels.append(
                {
                    "protocol": protocol,
                    "fr_model": evaluation.fr_model,
                    "benchmark": evaluation.benchmark,
                    "rate": evaluation.protocol.error.upper(),
                    "limits": evaluation.protocol.limits,
                    "linear": evaluation.protocol.interpolation == "linear",
                    "best": _rounded(thin_curve(first, best=True)),
                    "curves": {name: _rounded(curve) for name, curve in curves.items()},
                }
            )
    styles = {}
    for at, name in enumerate(study.methods):
        color, dash = style_of(at)
        styles[name] = {"color": color, "dash": "" if dash == "-" else " ".join(map(str, dash[1]))}
    return plain({"panels": panels, "styles": styles})


def _rounded(curve: tuple[np.ndarray, np.ndarray]) -> list[list[float]]:
    return [[float(f"{value:.5g}") for value in values.tolist()] for values in curve]


__all__ = ["Study", "curves_csv", "legend", "results_csv", "study_tables", "write_report"]
