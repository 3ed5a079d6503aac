# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.stats import spearmanr

from diffiqa_hf.cli import main
from diffiqa_hf.evaluation.study.config import ConfigError
from diffiqa_hf.evaluation.trust import DAMAGES, STRENGTHS, TrustResult, run_panel
from diffiqa_hf.evaluation.trust.report import write_trust_report
from diffiqa_hf.evaluation.trust.study import FacesConfig, TrustConfig, read_faces
from diffiqa_hf.evaluation.validation import is_held_out


FACES = Path(__file__).parents[3] / "examples" / "faces"


def read(*names):
    return [np.array(Image.open(FACES / f"{name}.jpg").convert("RGB")) for name in names]


def result(clean, strongest, others=(), copies=None):
    """One kind of damage, whose scores fall evenly to `strongest`."""
    clean, strongest = np.array(clean, float), np.array(strongest, float)
    damaged = clean[:, None] + (strongest - clean)[:, None] * np.array(STRENGTHS) / 5
    copies = {"same": clean if copies is None else np.array(copies, float)}
    return TrustResult(clean, {"some": damaged}, copies, {str(at): value for at, value in enumerate(others)})


# The figures


def test_spearman_is_scipys():
    random = np.random.default_rng(0)
    scores = np.round(random.normal(size=(50, 6)), 1)  # with ties
    found = TrustResult(scores[:, 0], {"some": scores[:, 1:]}).spearman("some")
    np.testing.assert_allclose(found, [spearmanr(row, range(6)).statistic for row in scores], atol=1e-12)


def test_a_score_that_falls_passes_and_one_that_rises_does_not():
    good = result(np.linspace(0.5, 1, 100), np.linspace(0, 0.4, 100), others=[-1.0, 0.1])
    assert good.failures() == [] and good.checks == 4
    assert good.spearman("some").tolist() == [-1.0] * 100
    bad = result(np.linspace(0.5, 1, 100), np.linspace(0.6, 1.1, 100), others=[-1.0, 0.6], copies=range(100, 0, -1))
    assert [failure.of for failure in bad.failures()] == ["damage", "picture", "copy"]
    assert str(bad.failures()[0]) == "some: Spearman +1.00, strongest above the clean face in 100.0%"
    assert bad.failures()[1].found == "percentile 20"


def test_each_limit_counts_by_itself():
    clean = np.linspace(0.5, 1, 100)
    few_rise = result(clean, np.where(np.arange(100) < 2, 2.0, 0.0))
    assert few_rise.above("some") == 0.02
    assert [failure.name for failure in few_rise.failures()] == ["some"]
    assert few_rise.failures(above=0.02) == []
    jumps = TrustResult(clean, {"some": np.tile([0.3, 0.4, 0.2, 0.25, 0.1], (100, 1))})
    assert jumps.failures() and not jumps.failures(spearman=-0.8)
    sixth = result(clean, 0 * clean, others=[clean[5]])
    assert sixth.percentiles(clean[5]) == 6
    assert sixth.failures() and not sixth.failures(percentile=7)


def test_a_refused_picture_is_the_lowest_and_equal_scores_have_no_order():
    clean = np.array([0.5, 0.6, math.nan])
    damaged = np.array([[0.4, 0.3, math.nan, math.nan, math.nan], [0.6] * 5, [math.nan] * 5])
    refused = TrustResult(clean, {"some": damaged}, {}, {"grey": math.nan})
    assert refused.spearman("some")[0] == pytest.approx(spearmanr([6, 5, 4, 1, 1, 1], range(6)).statistic)
    assert refused.spearman("some")[1:].tolist() == [0.0, 0.0]
    assert refused.above("some") == 0 and refused.percentiles(math.nan) == 0
    assert [failure.of for failure in refused.failures()] == ["damage"]


# A whole panel


def sharpness(images):
    """How much neighbours differ, within the middle of the picture: falls with blur, rises with noise."""
    return np.array([np.abs(np.diff(image[20:92, 20:92].astype(float), axis=1)).mean() for image in images])


def test_a_panel_of_a_function():
    faces = read("astronaut", "sample6_left", "sample3_smile")
    seen = []

    def scorer(images):
        seen.append(len(images))
        return sharpness(images)

    found = run_panel(scorer, faces)
    each = 1 + 5 * len(DAMAGES) + 3
    assert seen[:3] == [each] * 3 and seen[3] == len(found.non_faces) >= 21
    assert np.median(found.spearman("defocus")) == -1 and found.above("defocus") == 0
    assert np.median(found.spearman("sensor noise")) == 1 and found.above("sensor noise") == 1
    assert (
        found.percentiles(found.non_faces["grey"]) == 0 and found.percentiles(found.non_faces["uniform noise"]) == 100
    )
    assert found.copy_spearman("mirrored") == pytest.approx(1)
    names = {failure.name for failure in found.failures()}
    assert "sensor noise" in names and "uniform noise" in names and not names & {"defocus", "motion", "mirrored"}


def test_what_a_method_returns_is_understood():
    faces = read("astronaut", "sample6_left")
    options = {"kinds": ["darkness"], "pictures": {}}
    plain = run_panel(sharpness, faces, **options)
    output = run_panel(lambda images: SimpleNamespace(scores=sharpness(images)), faces, **options)
    np.testing.assert_array_equal(plain.damaged["darkness"], output.damaged["darkness"])
    assert plain.non_faces == {}
    with pytest.raises(ValueError, match=r"shape \(1,\) for 9 images"):
        run_panel(lambda images: [0.5], faces, **options)
    with pytest.raises(ValueError, match="needs faces"):
        run_panel(sharpness, [])


# The command


@pytest.fixture
def config(tmp_path):
    values = {
        "title": "Here",
        "output": str(tmp_path / "report"),
        "faces": {"folder": str(FACES), "number": 2, "seed": 1},
        "methods": [
            {"name": "R", "method": "diffiqa-r"},
            {"name": "norm", "method": "embedding-norm", "faces": 1},
        ],
    }
    path = tmp_path / "panel.json"
    path.write_text(json.dumps(values))
    return path


def test_the_command_writes_a_report_and_goes_on_where_it_was(config, tmp_path, capsys, monkeypatch):
    assert main(["trust", str(config), "--no-plot"]) == 0
    assert "R: " in capsys.readouterr().out
    folder = tmp_path / "report"
    record = json.loads((folder / "results.json").read_text())
    assert record["faces"] == 2 and set(record["methods"]) == {"R", "norm"}
    assert record["methods"]["norm"]["faces"] == 1
    report = (folder / "report.md").read_text()
    for word in ("# Here", "| defocus |", "| grey |", "| mirrored |", "2 faces"):
        assert word in report
    # All is kept: the second time nothing is scored.
    from diffiqa_hf.methods.method import FaceQualityMethod

    def fail(*args, **kwargs):
        raise AssertionError("scored again")

    monkeypatch.setattr(FaceQualityMethod, "__call__", fail)
    assert main(["trust", str(config), "--no-plot", "--output", str(tmp_path / "other")]) == 0
    assert (tmp_path / "other" / "report.md").read_text() == report


def test_wrong_configurations_are_one_line(config, tmp_path, capsys):
    values = json.loads(config.read_text())
    cases = {
        "nothing.json": None,
        "faces: give exactly one of parquet and folder": {**values, "faces": {}},
        "there is no method 'good'": {**values, "methods": [{"name": "x", "method": "good"}]},
        "there is no 'colour'": {**values, "colour": 1},
        "nowhere: no images": {**values, "faces": {"folder": "nowhere"}},
        "scores does not go": {**values, "methods": [{"name": "x", "scores": "x.csv"}]},
        "x: ": {**values, "methods": [{"name": "x", "method": "diffiqa-r", "weights": str(tmp_path / "no weights")}]},
    }
    for words, changed in cases.items():
        path = tmp_path / ("nothing.json" if changed is None else "changed.json")
        if changed is not None:
            path.write_text(json.dumps(changed))
        assert main(["trust", str(path), "--no-plot"]) == 2, words
        error = capsys.readouterr().err
        assert words in error and len(error.strip().splitlines()) == 1


def test_one_face_of_each_person_first(tmp_path):
    names = [f"Person {number}" for number in range(30) for _ in range(3)]
    content = (FACES / "astronaut.jpg").read_bytes()
    images = [{"bytes": content, "path": None}] * len(names)
    pq.write_table(pa.table({"image": images, "identity": names}), tmp_path / "faces.parquet")
    source = {"parquet": str(tmp_path / "faces.parquet"), "seed": 3}
    faces, people = read_faces(FacesConfig(**source, number=20))
    assert (len(faces), people) == (20, 20)
    assert [len(faces) for faces, _ in [read_faces(FacesConfig(**source, number=70))]] == [70]
    out = {name for name in names if is_held_out(name, 3)}
    faces, people = read_faces(FacesConfig(**source, number=500, holdout_modulo=3))
    assert (len(faces), people) == (3 * len(out), len(out))
    with pytest.raises(ConfigError, match="no column 'person'"):
        read_faces(FacesConfig(**source, identity_column="person"))
    with pytest.raises(ConfigError, match="there are 0"):
        read_faces(FacesConfig(**source, holdout_modulo=10**9))


def test_a_yaml_file_and_its_picture(config, tmp_path):
    path = tmp_path / "panel.yaml"
    path.write_text(f"faces: {{folder: {FACES}}}\nmethods:\n  - {{name: R, method: diffiqa-r}}\n")
    assert TrustConfig.from_file(path).methods[0].name == "R"
    random = np.random.default_rng(0)
    results = {
        name: TrustResult(random.normal(size=9), {kind: random.normal(size=(9, 5)) for kind in DAMAGES})
        for name in ("one", "two")
    }
    write_trust_report(results, {"faces": 9, "people": 9, "pictures": 0}, tmp_path / "drawn")
    assert Image.open(tmp_path / "drawn" / "trust.png").size[0] > 1000
    assert "![" in (tmp_path / "drawn" / "report.md").read_text()
