# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the pictures show, read back from the figures."""

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf.evaluation import EDCProtocol
from diffiqa_hf.evaluation.comparison import evaluate_methods
from diffiqa_hf.evaluation.figures import save_figure, style_of
from diffiqa_hf.evaluation.plots import MAX_POINTS, plot_edc, plot_faces, plot_scores, thin_curve
from diffiqa_hf.evaluation.time_plot import plot_time


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
    assert names == ["one", "two", "nothing discarded", "no score can pass it"]


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


def timed(methods=20, sets=1, replicates=30):
    """Evaluations of many methods, and times of all but the last one."""
    rng = np.random.default_rng(0)
    identities = np.repeat(np.arange(40), 3)
    pairs = np.stack(np.triu_indices(len(identities), 1), 1)
    mated = identities[pairs[:, 0]] == identities[pairs[:, 1]]
    noise = rng.gamma(1.0, 1.0, len(identities))
    found = []
    for number in range(sets):
        similarities = 4.0 * mated - noise[pairs].sum(1) + 0.5 * rng.normal(size=len(pairs))
        qualities = {f"method {at}": -noise + (0.2 + at / 10) * rng.normal(size=len(noise)) for at in range(methods)}
        protocol = EDCProtocol(fmr=0.01)
        found.append(
            evaluate_methods(
                similarities, mated, qualities, protocol, pairs=pairs, identities=identities, replicates=replicates,
                benchmark=f"set {number}", fr_model="FR",
            )
        )  # fmt: skip
    times = {f"method {at}": 10 ** rng.uniform(0, 3) * rng.uniform(0.9, 1.1, 5) for at in range(methods - 1)}
    return found, times


def points_of(ax):
    return sorted(
        (float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in ax.lines if len(line.get_xdata()) == 1
    )


def test_quality_against_time():
    (entry,), times = timed()
    figure = plot_time([entry], times, device="a CPU")
    (ax,) = figure.axes
    assert ax.get_xscale() == "log" and ax.get_ylabel() == "FR\npAUC at 0.3"
    expected = sorted((values.mean(), entry.results[name].pauc[0.3]) for name, values in times.items())
    np.testing.assert_allclose(points_of(ax), expected)
    low, high = ax.get_ylim()
    levels = {line.get_linestyle(): line.get_ydata()[0] for line in ax.lines if line.get_linestyle() in (":", "--")}
    assert levels == {":": 1.0, "--": entry.results["method 0"].floor[0.3]} and low < levels["--"] < 1 < high
    interval = entry.interval("method 3", 0.3)
    mean = times["method 3"].mean()
    bars = [line.get_ydata() for line in ax.lines if list(line.get_xdata()) == [mean, mean]]
    np.testing.assert_allclose(bars, [[interval.low, interval.high]])
    # Whoever has no time isn't there.
    assert {text.get_text() for text in ax.texts} == set(times)
    assert figure.legends[0].get_title().get_text() == "Times on a CPU"
    with pytest.raises(ValueError, match="no method has both"):
        plot_time([entry], {"another": [1.0]})


def test_random_is_where_the_protocol_has_it():
    raw = evaluation(divide_by_start=False, divide_by_limit=False)
    ax = plot_time([raw], {"one": [1.0], "two": [2.0]}).axes[0]
    levels = [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    assert levels == [pytest.approx(0.3 * raw.results["one"].rates[0])]


def test_a_set_without_an_error_has_an_empty_panel():
    some, none = evaluation(), evaluation(benchmark="easy", fmr=None, threshold=-1000.0)
    figure = plot_time([some, none], {"one": [1.0], "two": [2.0]})
    assert [len(points_of(ax)) for ax in figure.axes] == [2, 0]
    assert points_of(plot_time([some, none], {"one": [1.0]}, mean_share=True).axes[0]) == []


def test_the_mean_share_against_time():
    entries, times = timed(methods=4, sets=2)
    ax = plot_time(entries, times, mean_share=True).axes[0]
    shares = {name: np.mean([entry.results[name].share[0.3] for entry in entries]) for name in times}
    np.testing.assert_allclose(points_of(ax), sorted((times[name].mean(), shares[name]) for name in times))
    levels = {line.get_linestyle(): line.get_ydata()[0] for line in ax.lines if line.get_linestyle() in (":", "--")}
    assert levels == {":": 0, "--": 1}
    mean = times["method 1"].mean()
    low, high = next(line.get_ydata() for line in ax.lines if list(line.get_xdata()) == [mean, mean])
    drawn = [(1 - e.bootstrap.replicates[:, 1, 1]) / (1 - e.results["method 1"].floor[0.3]) for e in entries]
    np.testing.assert_allclose((low, high), np.quantile(np.mean(drawn, 0), (0.025, 0.975)))


@pytest.mark.parametrize("sets", [1, 2])
def test_labels_are_beside_their_points_and_do_not_overlap(sets):
    entries, times = timed(sets=sets)
    figure = plot_time(entries, times)
    figure.draw_without_rendering()
    for ax in figure.axes:
        boxes = [text.get_window_extent() for text in ax.texts]
        frame = ax.get_window_extent()
        assert len(boxes) == 19
        for at, box in enumerate(boxes):
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            assert not any(box.overlaps(other) for other in boxes[:at])
            point = ax.transData.transform(ax.texts[at].xy)
            assert not box.contains(*point)
    if sets == 2:
        ordered = sorted(times, key=lambda name: times[name].mean())
        entries = [text.get_text() for text in figure.legends[0].get_texts()][2:]
        assert [entry.rsplit(" (", 1)[0] for entry in entries] == [f"{at} {n}" for at, n in enumerate(ordered, 1)]


def test_saved_pictures_are_the_same_each_time(tmp_path):
    written = [save_figure(plot_edc([evaluation()]), tmp_path / name) for name in ("a.b", "c")]
    assert [path.name for path in written[0]] == ["a.b.png", "a.b.svg"]
    assert Image.open(written[0][0]).width > 1000
    for one, other in zip(*written, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.b.png", "a.b.svg", "c.png", "c.svg"]


def test_forty_methods_are_told_apart():
    assert len({style_of(at) for at in range(40)}) == 40
