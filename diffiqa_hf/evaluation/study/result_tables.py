# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The tables of a study: the paper's with our figures, what can be told apart, and the paper's own."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any

import numpy as np

from ..bootstrap import MIN_FAILING_PEOPLE, Interval, simultaneous_intervals
from ..comparison import TOO_FEW, Evaluation, mean_replicates, mean_share_interval
from ..comparison import verdict as verdict_of
from ..edc import EDCResult
from ..tables import Cell, Table, number, ranked


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
        columns.append([None if r is None else (r.share if share else r.pauc)[limit] for r in results])
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
    better = f"higher is better; {_share_in_words(evaluations[0])}" if share else _area_in_words(evaluations[0])
    name = f"{'share' if share else 'pauc'}_{limit:g}_{fr_model}"
    caption = f"{fr_model}: {what} at a discard rate of {limit:g}, {_operating_point(evaluations[0])} ({better})."
    return Table(slug(name), caption, tuple(header), rows)


def _area_in_words(evaluation: Evaluation) -> str:
    protocol = evaluation.protocol
    by = [
        what
        for what, divides in (("starting error", protocol.divide_by_start), ("rate", protocol.divide_by_limit))
        if divides
    ]
    words = "lower is better"
    if protocol.interpolation == "linear":
        words += "; the area under straight lines"
    return words if len(by) == 2 else f"{words}; divided by {by[0] if by else 'nothing'}"


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
        interval_cell = Cell("–")
        if interval is not None:
            interval_cell = Cell(f"[{interval.low:.{digits}f}, {interval.high:.{digits}f}]", interval.low)
        verdict, hint = "–", ""
        if name == lowest:
            verdict = "the lowest"
        elif lowest is not None and (difference := evaluation.difference(name, lowest, limit)) is not None:
            verdict, hint = evaluation.verdict(difference), _difference_in_words(difference, digits)
        pauc, floor = number(paucs[name], digits), number(result.floor[limit], digits)
        rows.append((Cell(name), pauc, interval_cell, floor, number(result.share[limit]), Cell(verdict, hint=hint)))
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
    return Table(slug(name), caption, header, tuple(rows), tuple(notes))


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
    return Table(f"average_{slug(f'{limit:g}')}", caption, ("", *methods), tuple(rows))


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
    return Table(slug(f"ablation_{ablation.title}_{limit:g}"), caption, tuple(header), tuple(rows), tuple(notes))


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
    drawn = [evaluation.bootstrap for evaluation in evaluations if evaluation.bootstrap is not None]
    people = min(bootstrap.effective_failing for bootstrap in drawn)
    few = any(bootstrap.few_errors for bootstrap in drawn)
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
    return Table(slug(f"stages_{runtime.method}"), caption, ("", *runtime.stages, "total"), (row,))


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
                    slug(f"quoted_table_{entry['table']}_{fr_model}"),
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
    variants = tuple((Cell(name), *(number(v) for v in values)) for name, values in ablation["rows"].items())
    caption = f"Quoted, Table 4: the ablations with {ablation['fr_model']}, pAUC at {ablation['limit']:g}."
    header = ("Model variant", *ablation["benchmarks"], "mean")
    tables.append(Table("quoted_table_4", caption, header, variants, quoted=True))
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


def slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()


__all__ = [
    "Ablation",
    "Runtime",
    "ablation_table",
    "average_table",
    "cost_table",
    "detail_table",
    "paper_figures",
    "pauc_table",
    "quoted_tables",
    "references_in_words",
    "runtime_table",
    "slug",
    "stage_table",
]
