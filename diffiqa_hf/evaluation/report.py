# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The report of a study: the paper's tables and figures, ours beside them, as files and as one page."""

from __future__ import annotations

import base64
import functools
import html
import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..file_utils import write_text
from .bootstrap import MIN_FAILING_PEOPLE, Interval, simultaneous_intervals
from .edc import EDCResult
from .study import TOO_FEW, Evaluation, mean_replicates, mean_share_interval, plain
from .study import verdict as verdict_of
from .tables import Cell, Table, csv_text, number, ranked, to_csv, to_html, to_latex, to_markdown


if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Runtime:
    """
    How long a method takes for one face.

    Args:
        method, device (`str`): Names; the device with what one has to know of it.
        milliseconds (`np.ndarray` of shape `(N,)`): Of each of N images, one at a time, reading the file included.
        stages (`dict[str, np.ndarray]`): The parts of the same, each `(N,)`, where they were measured.
        note (`str`): What was timed, where it isn't the method as it was computed.
    """

    method: str
    device: str
    milliseconds: np.ndarray
    stages: Mapping[str, np.ndarray] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Ablation:
    """A table like the paper's Table 4: these methods (the last one is the complete one) with one FR model."""

    title: str
    fr_model: str
    methods: tuple[str, ...]


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


@functools.cache
def paper_figures() -> dict[str, Any]:
    """
    The figures of the paper's tables, as `paper_figures.json` has them: `pauc` (Tables 2 and 5), `averages` (6 and 7),
    `ablation` (4), `runtime` (3) and `stages` (8); `suspect` says which of them can't be right, and why.
    """
    return json.loads(resources.files(__package__).joinpath("paper_figures.json").read_text(encoding="utf-8"))


# ---------------------------------------------------------------------------------------------------------------------
# Tables of what was measured


def pauc_table(evaluations: Sequence[Evaluation], methods: Sequence[str], limit: float, share: bool = False) -> Table:
    """
    pAUC of each method on each benchmark with one FR model, and of several their plain mean, in the layout of Tables 2
    and 5.

    Args:
        evaluations: Of one FR model, a column each.
        methods: The rows. One that an evaluation lacks gets a dash, and no mean.
        limit: Discard fraction.
        share: In place of the pAUC, the share of the reachable gain: the one of the two that may be averaged.
    """
    columns = []
    for evaluation in evaluations:
        results = [evaluation.results.get(name) for name in methods]
        columns.append([r and (r.share if share else r.pauc)[limit] for r in results])
    digits = 3 if share else _digits(evaluations[0])
    cells = [ranked(column, not share, digits=digits) for column in columns]
    header = ["FIQA method", *(evaluation.benchmark for evaluation in evaluations)]
    if len(evaluations) > 1:
        means = [None if None in row else float(np.mean(row)) for row in zip(*columns, strict=True)]
        cells.append(ranked(means, not share, places=3, digits=digits))
        header.append("mean")
    for at, evaluation in enumerate(evaluations):
        for row, name in enumerate(methods):
            cells[at][row] = replace(cells[at][row], hint=_hint(evaluation, name, limit))
    rows = tuple((Cell(name), *row) for name, row in zip(methods, zip(*cells, strict=True), strict=True))
    what, fr_model = ("Share of the reachable gain" if share else "pAUC"), evaluations[0].fr_model
    better = f"higher is better; {_share_in_words(evaluations[0])}" if share else "lower is better"
    name = f"{'share' if share else 'pauc'}_{limit:g}_{fr_model}"
    caption = f"{fr_model}: {what} at a discard rate of {limit:g}, {_operating_point(evaluations[0])} ({better})."
    return Table(_slug(name), caption, tuple(header), rows)


def _share_in_words(evaluation: Evaluation) -> str:
    fixed = evaluation.protocol.threshold_update == "fixed"
    return f"no score can pass 1, {'0 is' if fixed else 'about 0 is, the threshold being recomputed,'} random"


def _digits(evaluation: Evaluation) -> int:
    # An area that isn't divided by the starting error is small.
    return 3 if evaluation.protocol.divide_by_start else 5


def _operating_point(evaluation: Evaluation) -> str:
    protocol = evaluation.protocol
    if protocol.fmr is not None:
        return f"FMR {protocol.fmr:g}"
    if protocol.threshold is not None:
        return f"threshold {protocol.threshold:g}"
    return f"starting FNMR {protocol.starting_fnmr:g}"


def _hint(evaluation: Evaluation, method: str, limit: float) -> str:
    result = evaluation.results.get(method)
    if result is None:
        return "not computed"
    interval = evaluation.interval(method, limit)
    digits = _digits(evaluation)
    span = "" if interval is None else f" [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
    people = evaluation.bootstrap
    return (
        f"pAUC {result.pauc[limit]:.{digits}f}{span}, floor {result.floor[limit]:.{digits}f}, "
        f"share {result.share[limit]:.3f}; "
        f"{result.false_non_matches:,} errors in {result.mated:,} mated pairs"
        f"{'' if people is None else f', of {people.failing:,} people'}"
    )


def detail_table(evaluation: Evaluation, methods: Sequence[str], limit: float) -> Table:
    """
    One benchmark with one FR model: interval, floor and share of each method, best first, and whether it is worse than
    the one that came out lowest, by intervals of all differences at once; the caption has the FNMR with nothing
    discarded and its interval, and of how many people the errors are.
    """
    present = [name for name in methods if name in evaluation.results]
    paucs = {name: evaluation.results[name].pauc[limit] for name in present}
    present.sort(key=lambda name: (math.isnan(paucs[name]), paucs[name]))
    lowest = next((name for name in present if not math.isnan(paucs[name])), None)
    rows = []
    digits = _digits(evaluation)
    for name in present:
        result, interval = evaluation.results[name], evaluation.interval(name, limit)
        span = Cell("–")
        if interval is not None:
            span = Cell(f"[{interval.low:.{digits}f}, {interval.high:.{digits}f}]", interval.low)
        verdict, hint = "–", ""
        if name == lowest:
            verdict = "the lowest"
        elif lowest is not None and (difference := evaluation.difference(name, lowest, limit)) is not None:
            verdict, hint = evaluation.verdict(difference), _difference_in_words(difference, digits)
        pauc, floor = number(paucs[name], digits), number(result.floor[limit], digits)
        rows.append((Cell(name), pauc, span, floor, number(result.share[limit]), Cell(verdict, hint=hint)))
    first, fnmr = next(iter(evaluation.results.values())), evaluation.fnmr_interval
    span = "" if fnmr is None else f"[{fnmr.low:.4f}, {fnmr.high:.4f}] "
    drawn = evaluation.bootstrap
    of_people = "" if drawn is None else f"; the errors are of {drawn.failing:,} people"
    caption = (
        f"{evaluation.fr_model}, {evaluation.benchmark}, discard rate {limit:g}: FNMR {first.fnmr:.4f} {span}"
        f"({first.false_non_matches:,} errors in {first.mated:,} mated pairs) at FMR {first.fmr:.3g} "
        f"({first.false_matches:,} in {first.nonmated:,} non-mated pairs){of_people}."
    )
    notes = [*evaluation.notes, *references_in_words(first, limit)]
    if drawn is not None:
        notes.append(
            f"Intervals of 95 % from {len(drawn.replicates):,} draws of people ({drawn.identities:,} are here); "
            "'worse' and 'not told apart' go by intervals that hold with 95 % for the differences of each two methods "
            "and at all discard rates at once, so that it does not matter that the data chose the lowest."
        )
        if drawn.few_errors:
            notes.append(
                f"The errors are of fewer than {MIN_FAILING_PEOPLE} people, too few to tell methods apart: who fails "
                "would be other people in another sample."
            )
    header = ("FIQA method", "pAUC", "95 % interval", "floor", "share", "against the lowest")
    name = f"detail_{limit:g}_{evaluation.fr_model}_{evaluation.benchmark}"
    return Table(_slug(name), caption, header, tuple(rows), tuple(notes))


def _difference_in_words(interval: Interval, digits: int) -> str:
    return f"difference {interval.estimate:+.{digits}f} [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"


def references_in_words(result: EDCResult, limit: float) -> list[str]:
    """What discarding at random has where that isn't plain, and what an order of images could have."""
    lines, digits = [], 3 if result.protocol.divide_by_start else 5
    if result.protocol.threshold_update == "recomputed":
        lines.append(
            f"Discarding in random order has a pAUC of {result.random[limit]:.{digits}f} and a share of "
            f"{result.random_share[limit]:+.3f} here (mean over orders), as the threshold changes with who is left."
        )
    if result.reachable is not None:
        low, high = result.reachable[limit]
        if f"{high:.{digits}f}" != f"{result.floor[limit]:.{digits}f}":
            lines.append(
                "The floor is that of any order of pairs. Scores order images, which recur in several pairs: the "
                f"best order of images has a pAUC of at least {low:.{digits}f} and at most {high:.{digits}f}."
            )
    return lines


def average_table(evaluations: Sequence[Evaluation], methods: Sequence[str], limit: float) -> Table:
    """Mean pAUC and mean share over benchmarks and FR models, a method a column as in Tables 6 and 7."""
    rows = []
    for label, kind in (("mean pAUC", "pauc"), ("mean share", "share")):
        means = []
        for name in methods:
            values = [getattr(e.results[name], kind)[limit] if name in e.results else math.nan for e in evaluations]
            means.append(float(np.mean(values)))
        rows.append((Cell(label), *ranked(means, kind == "pauc", places=3, digits=4)))
    spans = [mean_share_interval(evaluations, name, limit) for name in methods]
    if any(span is not None for span in spans):
        cells = [Cell("–") if s is None else Cell(f"[{s.low:.3f}, {s.high:.3f}]", s.low) for s in spans]
        rows.append((Cell("95 % interval of the mean share"), *cells))
    count = len(evaluations)
    caption = (
        f"Average over {count} pairs of FR model and benchmark, discard rate {limit:g}, "
        f"{_operating_point(evaluations[0])}."
    )
    return Table(f"average_{_slug(f'{limit:g}')}", caption, ("", *methods), tuple(rows))


def ablation_table(
    ablation: Ablation, evaluations: Sequence[Evaluation], limit: float, runtimes: Sequence[Runtime] = ()
) -> Table:
    """
    Variants of a method in the layout of Table 4, with the mean share, whether the mean pAUC can be told apart from
    that of the complete one by intervals that hold for all variants at once, and, where measured, the time that they
    take.
    """
    own = [evaluation for evaluation in evaluations if evaluation.fr_model == ablation.fr_model]
    table = pauc_table(own, ablation.methods, limit)
    shares = pauc_table(own, ablation.methods, limit, share=True)
    own_runtimes = {runtime.method: runtime for runtime in runtimes if runtime.method in ablation.methods}
    complete = ablation.methods[-1]
    with_verdict = all(evaluation.bootstrap is not None for evaluation in own)
    verdicts = _against(own, ablation.methods, complete, limit) if with_verdict else {}
    rows = []
    for row, share in zip(table.rows, shares.rows, strict=True):
        name = row[0].text
        verdict = (verdicts.get(name, Cell("–")),) if with_verdict else ()
        runtime = own_runtimes.get(name)
        time = (number(None if runtime is None else float(np.mean(runtime.milliseconds)), 1),) if own_runtimes else ()
        rows.append((*row, share[-1], *verdict, *time))
    header = ["Variant", *table.header[1:], "mean share"]
    header += [f"against {complete}"] if with_verdict else []
    header += ["ms a face"] if own_runtimes else []
    notes = []
    if own_runtimes:
        devices = "; ".join(dict.fromkeys(runtime.device for runtime in own_runtimes.values()))
        notes.append(f"Times are means of one face at a time, reading it included, on {devices}.")
        notes += _timing_notes(own_runtimes.values())
    caption = f"{ablation.title}. {table.caption}"
    return Table(_slug(f"ablation_{ablation.title}_{limit:g}"), caption, tuple(header), tuple(rows), tuple(notes))


def _against(evaluations: Sequence[Evaluation], methods: Sequence[str], other: str, limit: float) -> dict[str, Cell]:
    """
    Whether the mean pAUC of each method is another than that of `other`, by intervals that hold for all of them at
    once; where the mouse is, the difference and its interval.
    """
    shown = [name for name in methods if name != other]
    shown = [name for name in shown if all({name, other} <= set(e.results) for e in evaluations)]
    if not shown:
        return {}
    estimates = [
        np.mean([e.results[name].pauc[limit] - e.results[other].pauc[limit] for e in evaluations]) for name in shown
    ]
    replicates = np.stack(
        [mean_replicates(evaluations, name, limit) - mean_replicates(evaluations, other, limit) for name in shown], 1
    )
    # The mean rests on each set, and so on the one whose errors are of the fewest people.
    people = min(evaluation.bootstrap.effective_failing for evaluation in evaluations)
    few = any(evaluation.bootstrap.few_errors for evaluation in evaluations)
    digits, cells = _digits(evaluations[0]), {}
    for name, interval in zip(shown, simultaneous_intervals(estimates, replicates, people=people), strict=True):
        if not math.isnan(interval.low):
            text = TOO_FEW if few else verdict_of(interval)
            cells[name] = Cell(text, hint=_difference_in_words(interval, digits))
    return cells


def cost_table(
    evaluations: Sequence[Evaluation], methods: Sequence[str], runtimes: Sequence[Runtime], limit: float
) -> Table:
    """What each method takes and what it reaches, in order of time: the numbers of [`plot_time`]'s second picture."""
    times = {runtime.method: float(np.mean(runtime.milliseconds)) for runtime in runtimes}
    timed = sorted((name for name in methods if name in times), key=times.__getitem__)
    columns = [[number(times[name], 2) for name in timed]]
    for kind in ("pauc", "share"):
        values = [
            [getattr(e.results[n], kind)[limit] if n in e.results else math.nan for e in evaluations] for n in timed
        ]
        columns.append(ranked([float(np.mean(row)) for row in values], kind == "pauc", places=3))
    rows = tuple((Cell(name), *cells) for name, *cells in zip(timed, *columns, strict=True))
    caption = (
        f"Time for one face, and mean pAUC and share over {len(evaluations)} pairs of FR model and benchmark at a "
        f"discard rate of {limit:g}."
    )
    return Table("cost", caption, ("FIQA method", "ms a face", "mean pAUC", "mean share"), rows)


def runtime_table(runtimes: Sequence[Runtime]) -> Table:
    """Mean and standard deviation of the time for one face, as Table 3."""
    header = ("", *(runtime.method for runtime in runtimes))
    cells = tuple(_mean_and_deviation(runtime.milliseconds) for runtime in runtimes)
    devices = "; ".join(dict.fromkeys(runtime.device for runtime in runtimes))
    count = min(len(runtime.milliseconds) for runtime in runtimes)
    caption = f"Run time in ms for one face at a time, reading it included ({count} faces, mean ± standard deviation)."
    notes = (f"Measured on {devices}.", *_timing_notes(runtimes))
    return Table("runtime", caption, header, ((Cell("ms"), *cells),), notes)


def _timing_notes(runtimes: Iterable[Runtime]) -> list[str]:
    """Whose times are those of what."""
    names: dict[str, list[str]] = {}
    for runtime in runtimes:
        if runtime.note:
            names.setdefault(runtime.note, []).append(runtime.method)
    return [f"{', '.join(methods)}: {note}." for note, methods in names.items()]


def stage_table(runtime: Runtime) -> Table:
    """The run time of one method by stage, as Table 8."""
    cells = [_mean_and_deviation(values) for values in runtime.stages.values()]
    caption = f"{runtime.method}: run time in ms by stage (mean ± standard deviation)."
    row = (Cell("ms"), *cells, _mean_and_deviation(runtime.milliseconds))
    return Table(_slug(f"stages_{runtime.method}"), caption, ("", *runtime.stages, "total"), (row,))


def _mean_and_deviation(values: np.ndarray) -> Cell:
    mean = float(np.mean(values))
    deviation = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return Cell(f"{mean:.2f}{deviation}", mean)


# ---------------------------------------------------------------------------------------------------------------------
# The paper's own


def quoted_tables(limits: Sequence[float] = (0.3, 0.2)) -> list[Table]:
    """The paper's tables, marked as quoted, those at these limits; with the cells marked that can't all be right."""
    paper = paper_figures()
    tables = []
    for limit in limits:
        entry = paper["pauc"].get(f"{limit:g}")
        if entry is None:
            continue
        for fr_model, block in entry["rows"].items():
            columns = [*paper["benchmarks"], "mean"]
            if all(values[-1] is None for values in block.values()):
                columns.pop()
            rows = []
            for method, values in block.items():
                cells = [
                    number(value, 3, *_suspicion(fr_model, method, benchmark))
                    for value, benchmark in zip(values, columns, strict=False)
                ]
                rows.append((Cell(method), *cells))
            reasons = [
                f"? {rule['reason']} ({', '.join(rule['benchmarks'])})."
                for rule in paper["suspect"]
                if fr_model in rule["fr_models"]
            ]
            caption = (
                f"Quoted, Table {entry['table']}, {fr_model}: pAUC at a discard rate of {limit:g}, FMR 0.001 "
                "(lower is better)."
            )
            tables.append(
                Table(
                    _slug(f"quoted_table_{entry['table']}_{fr_model}"),
                    caption,
                    ("FIQA method", *columns),
                    tuple(rows),
                    tuple(reasons),
                    quoted=True,
                )
            )
    for limit in limits:
        if entry := paper["averages"].get(f"{limit:g}"):
            row = (Cell("mean pAUC"), *(number(value, 4) for value in entry["row"]))
            caption = f"Quoted, Table {entry['table']}: average over 7 benchmarks and 4 FR models at {limit:g}."
            name = f"quoted_table_{entry['table']}"
            tables.append(Table(name, caption, ("", *paper["methods"]), (row,), quoted=True))
    ablation, runtime, stages = paper["ablation"], paper["runtime"], paper["stages"]
    rows = tuple((Cell(name), *(number(v) for v in values)) for name, values in ablation["rows"].items())
    caption = f"Quoted, Table 4: the ablations with {ablation['fr_model']}, pAUC at {ablation['limit']:g}."
    header = ("Model variant", *ablation["benchmarks"], "mean")
    tables.append(Table("quoted_table_4", caption, header, rows, quoted=True))
    times = tuple(Cell(f"{mean:g} ± {deviation:g}", mean) for mean, deviation in runtime["rows"].values())
    caption = f"Quoted, Table 3: run time in ms ({runtime['device']})."
    tables.append(Table("quoted_table_3", caption, ("", *runtime["rows"]), ((Cell("ms"), *times),), quoted=True))
    times = tuple(Cell(f"{mean:g} ± {deviation:g}", mean) for mean, deviation in stages["row"])
    caption = "Quoted, Table 8: run time of DifFIQA in ms by stage."
    tables.append(Table("quoted_table_8", caption, ("", *stages["columns"]), ((Cell("ms"), *times),), quoted=True))
    return tables


def _suspicion(fr_model: str, method: str, benchmark: str) -> tuple[tuple[str, ...], str]:
    for rule in paper_figures()["suspect"]:
        if fr_model in rule["fr_models"] and method in rule["methods"] and benchmark in rule["benchmarks"]:
            return ("suspect",), rule["reason"]
    return (), ""


# ---------------------------------------------------------------------------------------------------------------------
# Files


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
    from .plots import thin_curve

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
                    tables.append(replace(table, name=f"{_slug(protocol)}_{table.name}"))
            if len(evaluations) > 1:
                table = average_table(evaluations, study.methods, limit)
                tables.append(replace(table, name=f"{_slug(protocol)}_{table.name}"))
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
    from .plots import plot_edc, plot_faces, plot_scores, plot_time, save_figure

    figures = {}
    for number_, (protocol, evaluations) in enumerate(study.evaluations.items()):
        shown = [_select(evaluation, study.methods) for evaluation in evaluations]
        shown = [evaluation for evaluation in shown if evaluation.results]
        if shown:
            name = "edc" if number_ == 0 else f"edc_{_slug(protocol)}"
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
    from .plots import style_of, thin_curve

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


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()


__all__ = ["Ablation", "Runtime", "Study", "ablation_table", "average_table", "cost_table", "curves_csv"]
__all__ += [
    "detail_table",
    "paper_figures",
    "pauc_table",
    "quoted_tables",
    "results_csv",
    "runtime_table",
    "stage_table",
]
__all__ += ["legend", "references_in_words", "study_tables", "write_report"]
