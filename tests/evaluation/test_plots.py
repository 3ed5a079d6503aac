# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the pictures show, read back from the figures."""

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf.evaluation import EDCProtocol
from diffiqa_hf.evaluation.plots import (
    MAX_POINTS,
    plot_edc,
    plot_faces,
    plot_scores,
    save_figure,
    style_of,
    thin_curve,
)
from diffiqa_hf.evaluation.study import evaluate_methods


pytest.importorskip("matplotlib")


def evaluation(seed=0, images=60, benchmark="LFW", fr_model="ArcFace", **protocol):
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(images, 1)
    pairs = np.stack([first, second], 1)
    mated = rng.random(len(pairs)) < 0.5
    similarities = rng.normal(size=len(pairs)) + mated
    qualities = {"one": rng.normal(size=images), "two": rng.normal(size=images)}
    protocol = EDCProtocol(**{"fmr": 0.05, **protocol})
    return evaluate_methods(
        similarities, mated, qualities, protocol, pairs=pairs, benchmark=benchmark, fr_model=fr_model
    )


def test_a_thin_curve_is_the_curve():
    result = evaluation(images=80).results["one"]
    x, y = thin_curve(result, 0.4)
    assert x[0] == 0 and x[-1] == 0.4 and (np.diff(x) >= 0).all() and len(x) <= MAX_POINTS + 1
    np.testing.assert_allclose(y, result.at(x))
    best_x, best_y = thin_curve(result, best=True)
    assert best_y[0] == result.rates[0] and best_x[-1] == result.best_fractions[-1]


def test_a_curve_of_many_points_keeps_its_shape():
    rng = np.random.default_rng(0)
    count = 20_000
    similarities, mated = rng.normal(size=count), np.arange(count) < 15_000
    qualities = (rng.normal(size=count), rng.normal(size=count))
    from diffiqa_hf.evaluation import edc_curve

    result = edc_curve(similarities, mated, qualities, EDCProtocol(fmr=0.01))
    assert len(result.fractions) > 10 * MAX_POINTS
    x, y = thin_curve(result)
    assert len(x) <= MAX_POINTS + 1
    np.testing.assert_array_equal(y, result.at(x))


def test_edc_panels():
    two = [evaluation(at, benchmark=name) for at, name in enumerate(("LFW", "XQLFW"))]
    third = evaluation(2, fr_model="CosFace")
    figure = plot_edc([*two, third], max_fraction=0.4)
    panels = [ax for ax in figure.axes if ax.axison]
    assert len(figure.axes) == 4 and len(panels) == 3
    assert [ax.get_title() for ax in figure.axes[:2]] == ["LFW", "XQLFW"]
    assert figure.axes[2].get_ylabel() == "CosFace\nFNMR"
    for ax, entry in zip(panels, [*two, third], strict=True):
        lines = {line.get_color(): line for line in ax.lines if line.get_linestyle() == "-"}
        for at, result in enumerate(entry.results.values()):
            x, y = lines[style_of(at)[0]].get_data()
            np.testing.assert_allclose(y, result.at(np.asarray(x, float)))
        assert ax.get_xlim() == (0, 0.4) and ax.get_ylim()[0] == 0
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["one", "two", "nothing discarded", "best possible"]


def test_linear_curves_are_drawn_as_lines():
    step, linear = evaluation(), evaluation(step=0.05, interpolation="linear")
    styles = [
        {line.get_drawstyle() for line in plot_edc([entry]).axes[0].lines if line.get_linestyle() == "-"}
        for entry in (step, linear)
    ]
    assert styles[0] >= {"steps-post"} and "steps-post" not in styles[1]


def test_score_distributions_have_the_area_of_a_density():
    rng = np.random.default_rng(0)
    scores = {
        "a": {"LFW": rng.normal(size=300), "XQLFW": np.append(rng.normal(2, 0.5, 300), np.nan)},
        "b": {"LFW": np.full(4, 0.5), "XQLFW": np.full(2, np.nan)},
    }
    figure = plot_scores(scores)
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("a", "b")
    for line in first.lines:
        x, y = line.get_data()
        assert np.trapezoid(y, x) == pytest.approx(1, abs=0.01)
    assert [list(line.get_xdata()) for line in second.lines] == [[0.5, 0.5]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["LFW", "XQLFW"]


def test_faces_are_in_the_order_of_the_first_method():
    faces = [Image.new("RGB", (8, 8), (at * 20, 0, 0)) for at in range(5)]
    figure = plot_faces(faces, {"a": [0.3, 0.1, np.nan, 0.5, 0.2], "b": [1, 2, 3, 4, 5]})
    reds = [int(ax.images[0].get_array()[0, 0, 0]) // 20 for ax in figure.axes]
    assert reds == [1, 4, 0, 3, 2]
    texts = [text.get_text() for text in figure.texts]
    assert "0.100  #1" in texts and "failed" in texts and "5.00  #5" in texts
    shown = plot_faces(faces, {"a": np.arange(5.0)}, max_faces=3)
    assert [int(ax.images[0].get_array()[0, 0, 0]) // 20 for ax in shown.axes] == [0, 2, 4]


def test_saved_pictures_are_the_same_each_time(tmp_path):
    written = [save_figure(plot_edc([evaluation()]), tmp_path / name) for name in ("a.b", "c")]
    assert [path.name for path in written[0]] == ["a.b.png", "a.b.svg"]
    assert Image.open(written[0][0]).width > 1000
    for one, other in zip(*written, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.b.png", "a.b.svg", "c.png", "c.svg"]


def test_forty_methods_are_told_apart():
    assert len({style_of(at) for at in range(40)}) == 40
