# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The tables, the paper's figures beside them, and the files of a report."""

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf.evaluation import EDCProtocol
from diffiqa_hf.evaluation.bootstrap import MIN_FAILING_PEOPLE, simultaneous_intervals
from diffiqa_hf.evaluation.comparison import evaluate_methods, plain
from diffiqa_hf.evaluation.study.report import (
    QUOTED,
    Study,
    curves_csv,
    legend,
    results_csv,
    study_tables,
    write_report,
)
from diffiqa_hf.evaluation.study.result_tables import (
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
    stage_table,
)
from diffiqa_hf.evaluation.tables import Cell, Table, latex, number, ranked, to_csv, to_html, to_latex, to_markdown


METHODS = ("good", "as good", "random")


def evaluation(seed=0, benchmark="LFW", fr_model="ArcFace", replicates=60, people=40, **protocol):
    """Similarities that fall with the noise of an image, and scores that know it more or less well."""
    rng = np.random.default_rng(seed)
    identities = np.repeat(np.arange(people), 3)
    noise = rng.gamma(1.0, 1.0, len(identities))
    first, second = np.triu_indices(len(identities), 1)
    pairs = np.stack([first, second], 1)
    mated = identities[first] == identities[second]
    similarities = 4.0 * mated - noise[first] - noise[second] + 0.5 * rng.normal(size=len(pairs))
    qualities = {
        "good": -noise + 0.1 * rng.normal(size=len(noise)),
        "as good": -noise + 0.1 * rng.normal(size=len(noise)),
        "random": rng.normal(size=len(noise)),
    }
    return evaluate_methods(
        similarities,
        mated,
        qualities,
        EDCProtocol(**{"fmr": 0.001, **protocol}),
        pairs=pairs,
        identities=identities,
        replicates=replicates,
        benchmark=benchmark,
        fr_model=fr_model,
    )


@pytest.fixture(scope="module")
def evaluations():
    return [
        evaluation(seed, benchmark, fr_model)
        for seed, (fr_model, benchmark) in enumerate((f, b) for f in ("ArcFace", "CosFace") for b in ("LFW", "XQLFW"))
    ]


# -- an evaluation ----------------------------------------------------------------------------------------------------


def test_an_evaluation_as_json(evaluations):
    found = json.loads(json.dumps(evaluations[0].to_dict(), allow_nan=False))
    result = evaluations[0].results["good"]
    assert found["methods"]["good"]["pauc"] == {"0.2": result.pauc[0.2], "0.3": result.pauc[0.3]}
    interval = evaluations[0].interval("good", 0.2)
    assert found["methods"]["good"]["interval"]["0.2"] == [interval.low, interval.high]
    assert found["identities"] == 40 and found["replicates"] == 60
    fnmr = evaluations[0].fnmr_interval
    assert fnmr.low < fnmr.estimate == result.fnmr < fnmr.high
    assert all(entry["fnmr_interval"] == [fnmr.low, fnmr.high] for entry in found["methods"].values())
    told = {(d["first"], d["second"]): d["told_apart"] for d in found["differences"] if d["limit"] == 0.2}
    assert told == {("good", "as good"): False, ("good", "random"): True, ("as good", "random"): True}


def test_warnings_become_notes():
    with_notes = evaluation(fmr=None, threshold=-1000.0, replicates=0)
    assert any("starting" in note or "no error" in note.lower() for note in with_notes.notes)
    assert np.isnan(with_notes.results["good"].pauc[0.2])
    assert with_notes.to_dict()["methods"]["good"]["pauc"]["0.2"] is None
    assert with_notes.interval("good", 0.2) is None and with_notes.differences(0.2) == []
    assert with_notes.fnmr_interval is None


def test_an_fnmr_that_no_draw_changes_has_no_interval():
    perfect = evaluation(fmr=None, threshold=-1000.0)
    assert perfect.bootstrap.fnmr_interval().high == 0 and perfect.fnmr_interval is None
    assert perfect.to_dict()["methods"]["good"]["fnmr_interval"] is None
    assert "FNMR 0.0000 (0 errors" in detail_table(perfect, METHODS, 0.2).caption
    assert {row["fnmr_low"] for row in csv.DictReader(io.StringIO(results_csv([perfect])))} == {""}


def test_plain_is_strict_json():
    values = {"a": np.float32(1.5), "b": [np.nan, np.inf, np.int64(3)], "c": (np.array([1.0, np.nan]), True, "x")}
    assert plain(values) == {"a": 1.5, "b": [None, None, 3], "c": [[1.0, None], True, "x"]}


# -- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [False, True])
def test_pauc_table_in_the_layout_of_table_2(evaluations, share):
    table = pauc_table(evaluations[:2], METHODS, 0.3, share)
    assert table.header == ("FIQA method", "LFW", "XQLFW", "mean")
    kind = "share" if share else "pauc"
    values = np.array([[getattr(e.results[m], kind)[0.3] for e in evaluations[:2]] for m in METHODS])
    np.testing.assert_allclose([[cell.value for cell in row[1:3]] for row in table.rows], values)
    np.testing.assert_allclose([row[3].value for row in table.rows], values.mean(1))
    best = (values.argmax if share else values.argmin)(0)
    for column in (0, 1):
        marked = [at for at, row in enumerate(table.rows) if "best" in row[column + 1].marks]
        assert best[column] in marked
    assert sorted(row[3].marks for row in table.rows) == [("best",), ("second",), ("third",)]
    assert "floor" in table.rows[0][1].hint and "errors in 120 mated pairs" in table.rows[0][1].hint


def test_one_benchmark_has_no_mean(evaluations):
    table, several = (pauc_table(evaluations[:count], METHODS, 0.3) for count in (1, 2))
    assert table.header == ("FIQA method", "LFW")
    assert [*table.rows] == [row[:2] for row in several.rows]


def test_a_method_that_is_not_there_has_no_mean(evaluations):
    lacking = replace(evaluations[0], results={"good": evaluations[0].results["good"]})
    table = pauc_table([lacking, evaluations[1]], METHODS, 0.2)
    assert [cell.text for cell in table.rows[2]][1::2] == ["–", "–"]
    assert table.rows[2][2].value is not None and table.rows[0][3].value is not None


def test_places_are_those_of_what_is_printed():
    cells = ranked([0.5004, 0.5001, 0.6, None, float("nan")], True, places=3)
    assert [cell.marks for cell in cells] == [("best",), ("best",), ("second",), (), ()]
    assert [cell.text for cell in cells] == ["0.500", "0.500", "0.600", "–", "–"]
    assert ranked([0.1, 0.2], False)[1].marks == ("best",)


def test_averages(evaluations):
    table = average_table(evaluations, METHODS, 0.2)
    means = [np.mean([e.results[m].pauc[0.2] for e in evaluations]) for m in METHODS]
    shares = [np.mean([e.results[m].share[0.2] for e in evaluations]) for m in METHODS]
    np.testing.assert_allclose([cell.value for cell in table.rows[0][1:]], means)
    np.testing.assert_allclose([cell.value for cell in table.rows[1][1:]], shares)
    assert table.header == ("", *METHODS) and "4 pairs of FR model and benchmark" in table.caption


def test_details_say_who_can_be_told_apart(evaluations):
    table = detail_table(evaluations[0], METHODS, 0.2)
    names = [row[0].text for row in table.rows]
    assert names[2] == "random" and [row[-1].text for row in table.rows] == ["the lowest", "not told apart", "worse"]
    interval = evaluations[0].interval(names[0], 0.2)
    assert table.rows[0][2].text == f"[{interval.low:.3f}, {interval.high:.3f}]"
    result, fnmr = evaluations[0].results["good"], evaluations[0].fnmr_interval
    assert (
        f": FNMR {result.fnmr:.4f} [{fnmr.low:.4f}, {fnmr.high:.4f}] ({result.false_non_matches} errors in 120 mated "
        "pairs) at FMR "
    ) in table.caption
    bare = detail_table(evaluation(replicates=0), METHODS, 0.2)
    assert [row[2].text for row in bare.rows] == ["–"] * 3 and bare.rows[1][-1].text == "–"


def test_areas_that_are_not_divided_have_more_digits():
    raw = evaluation(divide_by_start=False, divide_by_limit=False)
    assert re.fullmatch(r"0\.\d{5}", pauc_table([raw], METHODS, 0.2).rows[0][1].text)
    assert re.fullmatch(r"0\.\d{5}", detail_table(raw, METHODS, 0.2).rows[0][1].text)


def test_ablation_and_run_times(evaluations):
    runtimes = [
        Runtime("good", "a CPU", np.array([1.0, 2.0, 3.0]), {"reading": np.array([0.5, 0.5, 0.5])}),
        Runtime("random", "a CPU", np.array([4.0]), note="timed with use_flip off"),
    ]
    ablation = Ablation("Without", "CosFace", ("random", "as good", "good"))
    table = ablation_table(ablation, evaluations, 0.2, runtimes)
    assert table.header == ("Variant", "LFW", "XQLFW", "mean", "mean share", "against good", "ms a face")
    assert [row[0].text for row in table.rows] == ["random", "as good", "good"]
    assert table.rows[0][1].value == evaluations[2].results["random"].pauc[0.2]
    shares = [evaluations[at].results["random"].share[0.2] for at in (2, 3)]
    assert table.rows[0][4].value == pytest.approx(np.mean(shares))
    assert [row[5].text for row in table.rows] == ["worse", "not told apart", "–"]
    assert [row[6].text for row in table.rows] == ["4.0", "–", "2.0"]
    assert table.notes == (
        "Times are means of one face at a time, reading it included, on a CPU.",
        "random: timed with use_flip off.",
    )
    without = ablation_table(ablation, [replace(entry, bootstrap=None) for entry in evaluations], 0.2)
    assert without.header == ("Variant", "LFW", "XQLFW", "mean", "mean share") and without.notes == ()
    times = runtime_table(runtimes)
    assert [cell.text for cell in times.rows[0]] == ["ms", "2.00 ± 1.00", "4.00"]
    assert times.notes == ("Measured on a CPU.", "random: timed with use_flip off.")
    assert stage_table(runtimes[0]).header == ("", "reading", "total")
    assert [cell.text for cell in stage_table(runtimes[0]).rows[0]] == ["ms", "0.50 ± 0.00", "2.00 ± 1.00"]


def test_the_mean_differences_of_an_ablation_hold_at_once(evaluations):
    table = ablation_table(Ablation("Without", "CosFace", ("random", "as good", "good")), evaluations, 0.3)
    own = evaluations[2:]
    means = {
        name: np.mean([entry.bootstrap.replicates[:, METHODS.index(name), 1] for entry in own], axis=0)
        for name in METHODS
    }
    drawn = np.stack([means[name] - means["good"] for name in ("random", "as good")], 1)
    people = min(entry.bootstrap.effective_failing for entry in own)
    for row, name in enumerate(("random", "as good")):
        estimate = np.mean([entry.results[name].pauc[0.3] - entry.results["good"].pauc[0.3] for entry in own])
        both = [
            np.mean([entry.results[n].pauc[0.3] - entry.results["good"].pauc[0.3] for entry in own])
            for n in ("random", "as good")
        ]
        interval = simultaneous_intervals(both, drawn, people=people)[row]
        assert table.rows[row][5].hint == f"difference {estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def test_an_undefined_pauc_is_no_lowest():
    """Without an error every pAUC is undefined; of one method alone, the others are compared with the lowest."""
    perfect = evaluation(fmr=None, threshold=-1000.0)
    assert [row[-1].text for row in detail_table(perfect, METHODS, 0.2).rows] == ["–"] * 3
    some = evaluation()
    undefined = replace(some.results["good"], pauc={0.2: float("nan"), 0.3: float("nan")})
    table = detail_table(replace(some, results={**some.results, "good": undefined}), METHODS, 0.2)
    assert [row[0].text for row in table.rows] == ["as good", "random", "good"]
    assert [row[-1].text for row in table.rows][:2] == ["the lowest", "worse"]


def test_no_verdict_on_the_errors_of_a_few_people():
    few = evaluation(people=40, fmr=None, threshold=-1.0)
    counted = few.bootstrap.failing
    assert 0 < counted < MIN_FAILING_PEOPLE
    table = detail_table(few, METHODS, 0.2)
    assert {row[-1].text for row in table.rows} == {"the lowest", "too few errors"}
    assert f"; the errors are of {counted} people." in table.caption
    assert any("fewer than 10 people" in note for note in table.notes)
    assert not any(entry["told_apart"] for entry in few.to_dict()["differences"])
    assert few.to_dict()["failing_people"] == counted
    rows = list(csv.DictReader(io.StringIO(results_csv([few]))))
    assert {row["failing_people"] for row in rows} == {str(counted)}
    ablation = ablation_table(Ablation("Without", "ArcFace", ("random", "good")), [few], 0.2)
    assert ablation.rows[0][-1].text == "too few errors"


def test_what_random_and_images_can_reach_is_said():
    fixed, moving = (
        evaluation(replicates=0),
        evaluation(replicates=0, threshold_update="recomputed", discard="all", step=0.05),
    )
    notes = detail_table(fixed, METHODS, 0.2).notes
    low, high = fixed.results["good"].reachable[0.2]
    assert any(f"at least {low:.3f} and at most {high:.3f}" in note for note in notes)
    random = moving.results["good"].random[0.2]
    assert any(f"has a pAUC of {random:.3f}" in note for note in detail_table(moving, METHODS, 0.2).notes)
    assert "no score can pass 1, 0 is random" in pauc_table([fixed], METHODS, 0.2, share=True).caption
    assert "the threshold being recomputed" in pauc_table([moving], METHODS, 0.2, share=True).caption
    said = legend({"default": [fixed], "moving": [moving]})
    assert len(said) == 2 and f"0.2: {random:.3f} to {random:.3f}" in said[1]
    raw = evaluation(replicates=0, divide_by_start=False, divide_by_limit=False, fmr=None, starting_fnmr=0.1)
    assert "divided by nothing" in legend({"raw": [raw]})[1]


def test_costs(evaluations):
    runtimes = [Runtime("good", "a CPU", np.array([3.0, 5.0])), Runtime("random", "a CPU", np.array([1.0]))]
    table = cost_table(evaluations, ("good", "as good", "random"), runtimes, 0.3)
    assert [row[0].text for row in table.rows] == ["random", "good"]  # in order of time
    assert [row[1].value for row in table.rows] == [1.0, 4.0]
    for row in table.rows:
        for cell, kind in zip(row[2:], ("pauc", "share"), strict=True):
            values = [getattr(entry.results[row[0].text], kind)[0.3] for entry in evaluations]
            assert cell.value == pytest.approx(np.mean(values))
    assert "best" in table.rows[1][2].marks and "over 4 pairs" in table.caption


# -- the paper's ------------------------------------------------------------------------------------------------------


def paper_rows():
    paper = paper_figures()
    for limit, entry in paper["pauc"].items():
        for fr_model, block in entry["rows"].items():
            for method, values in block.items():
                yield limit, fr_model, method, values


def test_quoted_means_are_those_of_the_quoted_cells():
    checked = 0
    for _, _, method, values in paper_rows():
        cells = values[:6] if method == "SER-FIQ" else values[:7]
        assert len(values) == 8
        if None not in cells and values[7] is not None:
            assert np.mean(cells) == pytest.approx(values[7], abs=1.6e-3)
            checked += 1
    assert checked > 35


@pytest.mark.parametrize("limit", ["0.2", "0.3"])
def test_quoted_averages_are_those_of_the_quoted_tables(limit):
    paper = paper_figures()
    entry = dict(zip(paper["methods"], paper["averages"][limit]["row"], strict=True))
    checked = 0
    for method, average in entry.items():
        rows = [values for of, _, name, values in paper_rows() if of == limit and name == method]
        cells = [cell for values in rows for at, cell in enumerate(values[:7]) if (method, at) != ("SER-FIQ", 6)]
        if None not in cells:
            assert np.mean(cells) == pytest.approx(average, abs=7e-4 if method == "SER-FIQ" else 1.5e-4), method
            checked += 1
    assert checked >= 6


@pytest.mark.parametrize("limit", ["0.2", "0.3"])
def test_suspect_cells_are_equal_to_others(limit):
    paper = paper_figures()
    rows = paper["pauc"][limit]["rows"]
    arcface, ijbc, student = paper["suspect"]
    for rule, one, other in ((arcface, "ArcFace", "CosFace"), (ijbc, "CosFace", "CurricularFace")):
        for method in rule["methods"]:
            for at in map(paper["benchmarks"].index, rule["benchmarks"]):
                values = rows[one][method][at], rows[other][method][at]
                assert None in values or values[0] == values[1]
    for at, benchmark in enumerate(paper["benchmarks"]):
        same = rows["CosFace"]["DifFIQA"][at] == rows["CosFace"]["DifFIQA(R)"][at]
        assert same == (benchmark in student["benchmarks"])
    # Those that no rule names differ: Adience's, and with CosFace and CurricularFace FaceQAN's on IJB-C.
    assert all(rows["ArcFace"][method][0] != rows["CosFace"][method][0] for method in paper["methods"])
    assert rows["CosFace"]["FaceQAN"][4] != rows["CurricularFace"]["FaceQAN"][4]


def test_quoted_tables_are_marked():
    tables = quoted_tables([0.3, 0.2])
    assert all(table.quoted and table.caption.startswith("Quoted") for table in tables)
    names = [table.name for table in tables]
    assert [f"quoted_table_{number}" in names for number in (3, 4, 6, 7, 8)] == [True] * 5
    arcface = next(table for table in tables if table.name == "quoted_table_2_arcface")
    lfw = arcface.header.index("LFW")
    assert "mean" not in arcface.header
    marks = {row[0].text: row[lfw].marks for row in arcface.rows}
    assert marks["DifFIQA"] == ("suspect",) and marks["DifFIQA(R)"] == ()
    assert any("CosFace" in note for note in arcface.notes)
    assert quoted_tables([0.1])[0].name == "quoted_table_4"  # nothing is quoted for a limit that the paper lacks


# -- formats ----------------------------------------------------------------------------------------------------------

TABLE = Table(
    "a_table",
    "A 100% <table>",
    ("method", "LFW_1 & more", "x|y"),
    (
        (Cell("a|b"), number(0.5, marks=("best",)), number(None)),
        (Cell("<b>"), number(0.25, marks=("second", "suspect"), hint='so "so"'), number(float("nan"))),
    ),
    ("A note & so on.",),
)


def test_markdown():
    lines = to_markdown(TABLE).splitlines()
    assert lines[2:6] == [
        "| method | LFW_1 & more | x\\|y |",
        "| --- | ---: | ---: |",
        "| a\\|b | **0.500** | – |",
        "| <b> | 0.250²? | – |",
    ]
    assert lines[0] == "**A 100% <table>**" and lines[-1] == "A note & so on."


def test_csv_has_the_numbers_in_full():
    rows = list(csv.reader(io.StringIO(to_csv(replace(TABLE, rows=((Cell("a"), number(1 / 3), Cell("x")),))))))
    assert rows == [list(TABLE.header), ["a", repr(1 / 3), "x"]]
    rows = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert rows[0] == ["method", "LFW_1 & more", "LFW_1 & more marks", "x|y"]
    assert rows[2] == ["<b>", "0.25", "second suspect", ""]


def test_latex():
    text = to_latex(TABLE)
    assert r"\caption{A 100\% <table>}" in text and r"LFW\_1 \& more" in text
    assert r"a|b & \textbf{0.500} & -- \\" in text and r"\underline{0.250}$^{\dagger}$" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert latex("a\\b~^") == r"a\textbackslash{}b\textasciitilde{}\textasciicircum{}"


def test_html_is_escaped_and_sortable():
    text = to_html(TABLE)
    assert "<b>" not in text and "&lt;b&gt;" in text and "A 100% &lt;table&gt;" in text
    assert '<td data-v="0.25" class="second suspect" title="so &quot;so&quot;">0.250</td>' in text
    assert text.count("<button>") == 3 and 'class="table"' in text
    assert 'class="table quoted"' in to_html(replace(TABLE, quoted=True))


def test_results_as_csv(evaluations):
    rows = list(csv.DictReader(io.StringIO(results_csv(evaluations, ["default"] * 4))))
    assert len(rows) == 4 * 3 * 2
    row = next(
        r
        for r in rows
        if (r["fr_model"], r["benchmark"], r["method"], r["limit"]) == ("CosFace", "LFW", "good", "0.3")
    )
    result = evaluations[2].results["good"]
    assert float(row["pauc"]) == result.pauc[0.3] and int(row["errors"]) == result.false_non_matches
    assert float(row["low"]) == evaluations[2].interval("good", 0.3).low
    fnmr = evaluations[2].fnmr_interval
    assert [float(row[name]) for name in ("fnmr", "fnmr_low", "fnmr_high")] == [fnmr.estimate, fnmr.low, fnmr.high]
    assert "protocol" not in results_csv(evaluations).splitlines()[0]


def test_curves_as_csv(evaluations):
    rows = list(csv.DictReader(io.StringIO(curves_csv(evaluations[:1]))))
    assert {row["method"] for row in rows} == {*METHODS, "best possible"}
    result = evaluations[0].results["random"]
    points = [(float(row["fraction"]), float(row["rate"])) for row in rows if row["method"] == "random"]
    np.testing.assert_allclose([rate for _, rate in points], result.at([fraction for fraction, _ in points]))


# -- a report ---------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a browser would fetch, the rows of tables, and whether all that was opened is closed."""

    VOID = {"meta", "img", "br", "line", "path", "input", "option", "label"}

    def __init__(self, text: str):
        super().__init__()
        self.addresses, self.open, self.rows, self.script = [], [], 0, ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.rows += tag == "tr"
        self.addresses += [value for name, value in attrs if name in ("src", "href", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.script += data


@pytest.fixture(scope="module")
def study(evaluations):
    rng = np.random.default_rng(0)
    return Study(
        title="A <study> & more",
        evaluations={"default": evaluations, "second": evaluations[:2]},
        methods=("good", "random"),
        scores={"good": {"LFW": rng.normal(size=50), "XQLFW": rng.normal(size=50)}},
        runtimes=[Runtime("good", "a CPU", np.array([1.0, 2.0]))],
        ablations=[Ablation("Parts", "ArcFace", ("as good", "good"))],
        faces=([Image.new("RGB", (16, 16), (at, 0, 0)) for at in (0, 200)], {"good": [0.2, 0.1]}),
        settings={"what": "it was"},
        notes=["A note."],
    )


def test_sections(study):
    sections = study_tables(study)
    assert list(sections) == [
        "pAUC, protocol default",
        "pAUC, protocol second",
        "Ablations",
        "Run time",
        "Intervals, floors and shares",
        QUOTED,
    ]
    # Two limits: pAUC and share for each FR model, and the averages.
    assert [len(tables) for tables in sections.values()][:5] == [10, 6, 2, 2, 8]
    names = [table.name for tables in sections.values() for table in tables]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)
    # A variant is in its ablation alone.
    in_main = [row[0].text for table in sections["pAUC, protocol default"][:4] for row in table.rows]
    assert set(in_main) == {"good", "random"}
    assert QUOTED not in study_tables(replace(study, quoted=False))


def test_the_files_of_a_report(study, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "of_an_earlier_run.csv").write_text("a\n")
    written = write_report(study, tmp_path)
    there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert there == {path.relative_to(tmp_path).as_posix() for path in written}
    pictures = {
        f"{name}.{kind}"
        for name in ("edc", "edc_second", "time", "time_share", "scores", "faces")
        for kind in ("png", "svg")
    }
    assert there >= {"report.html", "report.md", "tables.tex", "results.json", "results.csv", *pictures}
    assert "tables/default_pauc_0_2_arcface.csv" in there and "tables/of_an_earlier_run.csv" not in there
    results = json.loads((tmp_path / "results.json").read_text())
    assert [entry["protocol_name"] for entry in results["evaluations"]] == ["default"] * 4 + ["second"] * 2
    markdown = (tmp_path / "report.md").read_text()
    assert "](time_share.png)" in markdown and "](time.png)" in markdown
    assert markdown.startswith("# A <study> & more") and "](edc_second.png)" in markdown
    assert "## Quoted from the paper" in markdown and "not measured here" in markdown
    assert (tmp_path / "tables.tex").read_text().count(r"\toprule") == sum(map(len, study_tables(study).values()))


def test_the_page_needs_nothing_else(study, tmp_path):
    pytest.importorskip("matplotlib")
    write_report(study, tmp_path)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.open == [] and page.rows > 60
    assert page.addresses and all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert set(re.findall(r"https?://[^\"'\s)]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, no address
    assert "A &lt;study&gt; &amp; more" in text and "{{" not in text
    assert not re.search(r"\b(fetch|XMLHttpRequest|import)\s*\(|@import|url\(", text)


def test_the_page_has_the_curves(study, tmp_path):
    named = [
        replace(e, results={"</script>": e.results["good"]}, bootstrap=None) for e in study.evaluations["default"]
    ]
    odd = replace(study, evaluations={"default": named}, methods=("</script>",), ablations=(), faces=None)
    write_report(odd, tmp_path, pictures=False)
    text = (tmp_path / "report.html").read_text()
    assert text.count("</script>") == 1
    data = json.loads(re.search(r"const data = (.*);\n", Page(text).script)[1])
    assert [(panel["fr_model"], panel["benchmark"]) for panel in data["panels"]] == [
        ("ArcFace", "LFW"),
        ("ArcFace", "XQLFW"),
        ("CosFace", "LFW"),
        ("CosFace", "XQLFW"),
    ]
    x, y = data["panels"][0]["curves"]["</script>"]
    np.testing.assert_allclose(y, named[0].results["</script>"].at(np.array(x) + 1e-5), atol=1e-2)
    assert data["styles"]["</script>"]["color"].startswith("#")
    assert not list(tmp_path.glob("*.png"))
