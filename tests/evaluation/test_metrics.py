# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The modules for `evaluate`, held to what evaluate's own tests ask of a metric."""

import doctest
import importlib
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest

from diffiqa_hf.evaluation import EDCProtocol, EDCWarning, edc_curve
from diffiqa_hf.metrics import METRICS, metrics_path


evaluate = pytest.importorskip("evaluate", reason="needs evaluate: pip install evaluate")


@pytest.fixture(scope="module", autouse=True)
def caches(tmp_path_factory):
    """The caches of the person who runs the tests are left alone."""
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", folder / "modules")
        patch.setattr(evaluate.config, "HF_METRICS_CACHE", folder / "metrics")
        yield


def load(name):
    return evaluate.load(metrics_path(name))


def data(count=400):
    rng = np.random.default_rng(0)
    mated = np.arange(count) % 2 == 0
    similarities = np.where(mated, rng.normal(0.4, 0.2, count), rng.normal(0, 0.1, count))
    return {
        "similarities": similarities,
        "mated": mated,
        "qualities_a": similarities + rng.random(count),
        "qualities_b": rng.random(count) * 2,
    }


def test_pauc():
    arrays = data()
    results = load("pauc").compute(**arrays, fmr=0.05, limits=[0.1, 0.3])
    qualities = (arrays["qualities_a"], arrays["qualities_b"])
    protocol = EDCProtocol(fmr=0.05, limits=(0.1, 0.3))
    expected = edc_curve(arrays["similarities"], arrays["mated"], qualities, protocol)
    assert results["pauc@0.1"] == expected.pauc[0.1] and results["pauc@0.3"] == expected.pauc[0.3]
    assert results["floor@0.3"] == expected.floor[0.3] and results["share@0.3"] == expected.share[0.3]
    assert results["threshold"] == expected.threshold and results["false_matches"] == expected.false_matches == 10
    assert results["mated"] == 200


def test_edc():
    arrays = data()
    results = load("edc").compute(**arrays, protocol="diffiqa", fmr=0.05)
    qualities = (arrays["qualities_a"], arrays["qualities_b"])
    expected = edc_curve(
        arrays["similarities"], arrays["mated"], qualities, EDCProtocol.from_preset("diffiqa", fmr=0.05)
    )
    for name in ("fractions", "rates", "error_counts", "pair_counts", "thresholds", "best_rates"):
        np.testing.assert_array_equal(results[name], getattr(expected, name))


@pytest.mark.parametrize("name", METRICS)
def test_results_are_json(name, tmp_path):
    results = load(name).compute(**data(), fmr=0.05)
    path = evaluate.save(tmp_path / "results.json", **results)
    saved = json.loads(path.read_text())
    assert {key: saved[key] for key in results} == results
    for value in results.values():
        assert type(value) in (int, float) or {type(x) for x in value} <= {int, float}


@pytest.mark.parametrize("name", METRICS)
def test_a_missing_quality_is_refused_with_a_remedy_that_works(name):
    arrays = data()
    arrays["qualities_a"][0] = np.nan
    with pytest.raises(ValueError, match="nan_quality='lowest'"):
        load(name).compute(**arrays, fmr=0.05)
    with pytest.warns(EDCWarning, match="no quality"):
        results = load(name).compute(**arrays, fmr=0.05, nan_quality="lowest")
    arrays["qualities_a"][0] = -1e9
    expected = load(name).compute(**arrays, fmr=0.05)
    assert results.keys() == expected.keys()
    for key, value in expected.items():
        assert results[key] == pytest.approx(value, abs=1e-12), key


def test_batches_add_up():
    arrays = data()
    metric = load("pauc")
    for start in range(0, 400, 150):
        metric.add_batch(**{name: values[start : start + 150] for name, values in arrays.items()})
    assert metric.compute(fmr=0.05) == load("pauc").compute(**arrays, fmr=0.05)


@pytest.mark.parametrize("name", METRICS)
def test_form_of_a_hub_metric(name):
    folder = Path(metrics_path(name))
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        f"{name}.py", "README.md", "requirements.txt", "app.py"
    }  # fmt: skip
    metric = load(name)
    module = importlib.import_module(type(metric).__module__)
    kinds = [parameter.kind for parameter in inspect.signature(type(metric)._compute).parameters.values()]
    assert inspect.Parameter.VAR_KEYWORD not in kinds
    results = doctest.testmod(module, raise_on_error=False)
    assert results.failed == 0 and results.attempted > 1


@pytest.mark.parametrize("name", METRICS)
def test_card(name, capsys):
    card = Path(metrics_path(name), "README.md").read_text()
    assert re.match(r"---\ntitle: .+\n", card) and "app_file: app.py" in card
    headings = re.findall(r"^#+ (.+)$", card, flags=re.MULTILINE)
    for heading in ("Metric description", "How to use", "Inputs", "Output values", "Limitations and bias", "Citation"):
        assert heading in headings
    # The examples of the card give what it says they give.
    code = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert len(code) == 2
    scope = {}
    exec("\n".join(code), scope)
    printed = [line.split() for line in capsys.readouterr().out.strip().splitlines()]
    stated = [line.removeprefix("# ").split() for line in "\n".join(code).splitlines() if line.startswith("# ")]
    numbers = [[float(word.strip("[]")) for word in line if word.strip("[]")] for line in (*printed, *stated)]
    assert len(printed) == len(stated) > 1
    for ours, theirs in zip(numbers[: len(printed)], numbers[len(printed) :], strict=True):
        assert ours == pytest.approx(theirs)


def test_unknown_metric():
    with pytest.raises(ValueError, match="there are edc, pauc"):
        metrics_path("accuracy")
