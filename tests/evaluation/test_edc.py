# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import itertools
import json
import math
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from diffiqa_hf.evaluation import (
    PROTOCOLS,
    EDCProtocol,
    EDCWarning,
    edc_curve,
    edc_curves,
    fmr_threshold,
)


FIXED = EDCProtocol(fmr=None, threshold=0.5, limits=(0.5,), pair_quality="given")


def curve(similarities, mated, qualities, protocol, **kwargs):
    """For data in which warnings are expected and beside the point."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EDCWarning)
        return edc_curve(similarities, mated, qualities, protocol, **kwargs)


# ------------------------------------------------------------------------------------------- worked by hand

# Ten mated pairs in ascending order of quality; number 0 and 3 are false non-matches at 0.5.
SIMILARITIES = [0.1, 0.9, 0.9, 0.2, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]
MATED = [1] * 10
QUALITIES = np.arange(10.0)


def test_curve_by_hand():
    result = edc_curve(SIMILARITIES, MATED, QUALITIES, FIXED)
    np.testing.assert_allclose(result.fractions, np.arange(10) / 10)
    np.testing.assert_allclose(result.rates, [2 / 10, 1 / 9, 1 / 8, 1 / 7, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(result.error_counts, [2, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(result.pair_counts, range(10, 0, -1))
    assert (result.threshold, result.fnmr, result.false_non_matches, result.mated) == (0.5, 0.2, 2, 10)
    assert math.isnan(result.fmr) and result.nonmated == 0 and result.false_matches == 0
    # 0.1 (1/5 + 1/9 + 1/8 + 1/7) up to 0.5, over 0.2 * 0.5
    assert result.pauc[0.5] == pytest.approx(1 / 5 + 1 / 9 + 1 / 8 + 1 / 7)
    # The best: 2/10, 1/9, 0, ...
    assert result.floor[0.5] == pytest.approx(1 / 5 + 1 / 9)
    np.testing.assert_allclose(result.best_rates[:3], [2 / 10, 1 / 9, 0])
    assert result.share[0.5] == pytest.approx((1 - result.pauc[0.5]) / (1 - 1 / 5 - 1 / 9))
    np.testing.assert_allclose(result.at([0, 0.05, 0.1, 0.39, 1]), [0.2, 0.2, 1 / 9, 1 / 7, 0])


def test_linear_area_by_hand():
    result = edc_curve(SIMILARITIES, MATED, QUALITIES, replace(FIXED, interpolation="linear", limits=(0.25,)))
    # Trapezoids to 0.2, and half of one to 0.25, where the line from 1/8 to 1/7 is at its middle.
    middle = (1 / 8 + 1 / 7) / 2
    area = 0.1 * (1 / 5 + 1 / 9) / 2 + 0.1 * (1 / 9 + 1 / 8) / 2 + 0.05 * (1 / 8 + middle) / 2
    assert result.pauc[0.25] == pytest.approx(area / (0.2 * 0.25))
    assert result.at(0.25) == pytest.approx(middle)


def test_normalisations():
    raw = edc_curve(SIMILARITIES, MATED, QUALITIES, replace(FIXED, divide_by_start=False, divide_by_limit=False))
    by_start = edc_curve(SIMILARITIES, MATED, QUALITIES, replace(FIXED, divide_by_limit=False))
    by_limit = edc_curve(SIMILARITIES, MATED, QUALITIES, replace(FIXED, divide_by_start=False))
    both = edc_curve(SIMILARITIES, MATED, QUALITIES, FIXED)
    area = both.pauc[0.5] * 0.2 * 0.5
    assert raw.pauc[0.5] == pytest.approx(area)
    assert by_start.pauc[0.5] == pytest.approx(area / 0.2)
    assert by_limit.pauc[0.5] == pytest.approx(area / 0.5)
    assert raw.floor[0.5] == pytest.approx(both.floor[0.5] * 0.2 * 0.5)
    assert raw.share == by_start.share == by_limit.share == both.share


def test_step_grid_discards_whole_numbers_of_pairs():
    # 10 pairs at 0, .25, .5, .75: 0, 2, 5 and 7 leave.
    result = edc_curve(SIMILARITIES, MATED, QUALITIES, replace(FIXED, step=0.25))
    np.testing.assert_allclose(result.fractions, [0, 0.25, 0.5, 0.75])
    np.testing.assert_array_equal(result.pair_counts, [10, 8, 5, 3])
    np.testing.assert_allclose(result.rates, [0.2, 1 / 8, 0, 0])
    assert result.pauc[0.5] == pytest.approx((0.2 + 1 / 8) / 2 / 0.2)
    assert result.floor[0.5] == pytest.approx((0.2 + 0) / 2 / 0.2)


def test_ties_together_and_in_random_order():
    qualities = [1, 1, 1, 1, 5, 6, 7, 8, 9, 10]  # both errors are among the four lowest
    together = edc_curve(SIMILARITIES, MATED, qualities, FIXED)
    np.testing.assert_allclose(together.fractions, [0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    np.testing.assert_allclose(together.rates, [0.2, 0, 0, 0, 0, 0, 0])
    random = edc_curve(SIMILARITIES, MATED, qualities, replace(FIXED, ties="random"))
    np.testing.assert_allclose(random.error_counts, [2, 1.5, 1, 0.5, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(random.rates[:4], [2 / 10, 1.5 / 9, 1 / 8, 0.5 / 7])
    # On a grid, a tie that does not fit into the fraction stays as a whole.
    grid = edc_curve(SIMILARITIES, MATED, qualities, replace(FIXED, step=0.1))
    np.testing.assert_array_equal(grid.pair_counts, [10, 10, 10, 10, 6, 5, 4, 3, 2, 1])


def test_all_pairs_in_one_pool():
    # In order of quality: error, non-mated, match, non-mated, match.
    result = edc_curve([0.1, 0.2, 0.9, 0.3, 0.9], [1, 0, 1, 0, 1], np.arange(5), replace(FIXED, discard="all"))
    np.testing.assert_allclose(result.fractions, [0, 0.2, 0.6])
    np.testing.assert_allclose(result.rates, [1 / 3, 0, 0])
    assert result.fmr == 0 and result.nonmated == 2
    lines = replace(FIXED, discard="all", interpolation="linear")
    result = edc_curve([0.2, 0.1, 0.9, 0.3, 0.9], [0, 1, 1, 0, 1], np.arange(5), lines)
    np.testing.assert_allclose(result.at([0, 0.2, 0.3, 0.4]), [1 / 3, 1 / 3, 1 / 6, 0])


def test_discarded_images_take_their_pairs_along():
    # Images 0 to 4, the lower the worse; image 5 is in no pair and counts for nothing.
    pairs = np.array([[0, 4], [1, 2], [2, 3], [3, 4]])
    protocol = replace(FIXED, discard="images", pair_quality="min")
    result = edc_curve([0.1, 0.9, 0.2, 0.9], [1] * 4, [0, 1, 2, 3, 4, -9], protocol, pairs=pairs)
    np.testing.assert_allclose(result.fractions, [0, 1 / 5, 2 / 5, 3 / 5])
    np.testing.assert_allclose(result.rates, [2 / 4, 1 / 3, 1 / 2, 0])
    # In random order of five equal images, m gone: a pair stays with probability C(3, m) / C(5, m).
    result = edc_curve([0.1, 0.9, 0.2, 0.9], [1] * 4, [7] * 5, replace(protocol, ties="random"), pairs=pairs)
    np.testing.assert_allclose(result.pair_counts, [4 * math.comb(3, m) / math.comb(5, m) for m in range(4)])
    np.testing.assert_allclose(result.rates, [0.5] * 4)


def test_pair_qualities():
    first, second = [4, 1, 3], [1, 4, 3]  # min 1 1 3, mean 2.5 2.5 3, product 4 4 9
    for rule in ("min", "mean", "product"):
        result = edc_curve([0.1, 0.1, 0.9], [1] * 3, (first, second), replace(FIXED, pair_quality=rule))
        np.testing.assert_allclose(result.fractions, [0, 2 / 3])
    first, second = [0, 4, 3], [9, 3, 3]  # min 0 3 3, mean 4.5 3.5 3, product 0 12 9
    leaves_first = {"min": 0, "mean": 2, "product": 0}
    for rule, lowest in leaves_first.items():
        similarities = np.where(np.arange(3) == lowest, 0.1, 0.9)
        result = edc_curve(similarities, [1] * 3, (first, second), replace(FIXED, pair_quality=rule))
        assert result.rates[0] == pytest.approx(1 / 3) and result.rates[1] == 0


def test_fmr_curve():
    # Non-mated pairs in order of quality, the first and the third are false matches at 0.5.
    protocol = replace(FIXED, error="fmr", discard="nonmated")
    result = edc_curve([0.6, 0.1, 0.5, 0.2, 0.9], [0, 0, 0, 0, 1], np.arange(5), protocol)
    np.testing.assert_allclose(result.rates, [2 / 4, 1 / 3, 1 / 2, 0])
    np.testing.assert_allclose(result.pair_counts, [4, 3, 2, 1])
    assert result.fmr == 0.5 and result.false_matches == 2 and result.fnmr == 0


# ------------------------------------------------------------------------------------------- thresholds and presets

# Descending non-mated scores .8, .7, ..., .1 (n = 8) and mated ones at .85, .75, ..., .15.
NONMATED = np.arange(8, 0, -1) / 10
PRESET_SIMILARITIES = np.concatenate([NONMATED, NONMATED + 0.05])
PRESET_MATED = np.arange(16) >= 8
# Of FMR .25 on 8: "at_most" lets 2 pass, so mated ones from .65 up: 5 errors. "index" goes by floor(.25 * 7) = 1, just
# above .7: 6 errors. "nearest" finds the FMR .25 first at the mated .65, and wants more: 6 errors. "quantile": .625.
THRESHOLD_ERRORS = {"at_most": 5, "index": 6, "nearest": 6, "quantile": 5}


@pytest.mark.parametrize("rule", THRESHOLD_ERRORS)
def test_threshold_rules(rule):
    protocol = EDCProtocol(fmr=0.25, fmr_rule=rule, pair_quality="given")
    result = edc_curve(PRESET_SIMILARITIES, PRESET_MATED, np.arange(16), protocol)
    assert result.false_non_matches == THRESHOLD_ERRORS[rule]
    below, above = {"at_most": (0.6, 0.65), "index": (0.7, 0.75), "nearest": (0.65, 0.7), "quantile": (0.6, 0.65)}[
        rule
    ]
    assert below < result.threshold <= above
    assert result.fmr == {"at_most": 2 / 8, "index": 1 / 8, "nearest": 2 / 8, "quantile": 2 / 8}[rule]
    if rule != "nearest":
        assert fmr_threshold(NONMATED, 0.25, rule) == result.threshold


def test_threshold_with_equal_scores_keeps_the_fmr():
    nonmated = [0.9, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1, 0.1]
    threshold = fmr_threshold(nonmated, 0.25)  # two of eight may pass, and .5 would let in four
    assert 0.5 < threshold < 0.6
    assert fmr_threshold(np.float32(nonmated), 0.25) == np.nextafter(np.float32(0.5), np.float32(1))


def test_presets_differ_as_they_are_defined():
    # Non-mated pairs leave before the mated ones of the same place; high scores have high quality, but the best three
    # mated have the lowest.
    qualities = np.concatenate([NONMATED - 0.01, [0.01, 0.02, 0.03, 0.45, 0.35, 0.25, 0.15, 0.05]])
    changes = {
        "default": {"fmr": 0.25, "limits": (0.5,)},
        "diffiqa": {"fmr": 0.25, "limits": (0.5,), "step": 0.25},
        "schlett": {"starting_fnmr": 0.5, "limits": (0.5,)},
        "cr-fiqa": {"fmr": 0.25, "limits": (0.5,), "step": 0.25},
    }
    results = {}
    for name, changed in changes.items():
        protocol = EDCProtocol.from_preset(name, pair_quality="given", **changed)
        results[name] = curve(PRESET_SIMILARITIES, PRESET_MATED, qualities, protocol)

    # Mated in order of quality: .85, .75, .65 (three matches), .15, .25, .35, .45, .55 (errors at "at_most").
    default = results["default"]
    np.testing.assert_allclose(default.rates, [5 / 8, 5 / 7, 5 / 6, 1, 1, 1, 1, 1])
    assert default.pauc[0.5] == pytest.approx((5 / 8 + 5 / 7 + 5 / 6 + 1) * 0.125 / 0.5 / (5 / 8))
    # .5 quantile of the mated: between .45 and .55, so 4 errors.
    schlett = results["schlett"]
    assert schlett.threshold == pytest.approx(0.5)
    np.testing.assert_allclose(schlett.rates[:4], [4 / 8, 4 / 7, 4 / 6, 4 / 5])
    assert schlett.pauc[0.5] == pytest.approx((4 / 8 + 4 / 7 + 4 / 6 + 4 / 5) * 0.125)
    # The pool of 16 loses 4, 8, 12: mated .85 .75 .65 .15; then non-mated .1, mated .25, non-mated .2, mated .35; then
    # non-mated .3, mated .45, non-mated .4, mated .55. Left: (5, 8), (2, 6), (0, 4) of mated and non-mated.
    # Thresholds "index": floor(.25 * (8 - 1)) = 1, above .7; 8 left: above .7; floor(.25 * 5) = 1: above .7.
    diffiqa = results["diffiqa"]
    np.testing.assert_allclose(diffiqa.pair_counts, [8, 4, 2])
    np.testing.assert_allclose(diffiqa.rates, [6 / 8, 1, 1])
    assert diffiqa.pauc[0.5] == pytest.approx((6 / 8 + 1) / 2 / (6 / 8))
    # "nearest" of 8: the mated .65; without it the non-mated .7. Trapezoids, undivided.
    cr_fiqa = results["cr-fiqa"]
    np.testing.assert_allclose(cr_fiqa.rates, [6 / 8, 1, 1])
    assert cr_fiqa.pauc[0.5] == pytest.approx(0.25 * ((6 / 8 + 1) / 2 + 1))


def test_authors_pauc_is_the_mean_of_the_first_steps():
    # official-code.md 4.1: mean of FNMR(.05 k) / FNMR(0) for k = 0 .. d / .05 - 1; 4 terms at .2, 6 at .3.
    rng = np.random.default_rng(0)
    mated = np.arange(6000) < 3000
    similarities = np.where(mated, rng.normal(0.5, 0.2, 6000), rng.normal(0, 0.1, 6000))
    qualities = rng.normal(size=6000) + similarities
    result = edc_curve(similarities, mated, qualities, EDCProtocol.from_preset("diffiqa", pair_quality="given"))
    assert result.pauc[0.2] == pytest.approx(np.mean(result.rates[:4]) / result.rates[0])
    assert result.pauc[0.3] == pytest.approx(np.mean(result.rates[:6]) / result.rates[0])
    assert result.fmr == 2 / 3000 and len(result.fractions) == 20


@pytest.mark.shared
def test_schlett_preset_on_real_scores(shared_dir):
    """What dasec's own functions gave (official-code.md 4.3): pAUC at .2 and .3, by start and limit; and raw."""
    expected = {
        0.05: [
            (0.695968, 0.635558),
            (0.931871, 0.900509),
            (0.784326, 0.712445),
            (0.911386, 0.856167),
            (0.706776, 0.640672),
        ],
        0.01: [
            (0.622754, 0.563518),
            (0.982361, 0.981651),
            (0.742799, 0.657172),
            (0.951967, 0.899166),
            (0.640016, 0.578674),
        ],
    }
    raw = [
        (0.00695968, 0.00953338),
        (0.00931871, 0.01350764),
        (0.00784326, 0.01068668),
        (0.00911386, 0.0128425),
        (0.00706776, 0.00961007),
    ]
    data = json.loads((shared_dir / "data" / "edc" / "example_data.json").read_text())
    scores = data["similarity_scores"]["scores_by_pair_ids"]
    names = [pair.split("-") for pair in scores]
    algorithms = data["quality_scores_by_sample_id_per_algorithm"]
    qualities = {
        algorithm: tuple(np.array([values[pair[side]] for pair in names]) for side in (0, 1))
        for algorithm, values in algorithms.items()
    }
    similarities = np.array(list(scores.values()))
    everything = np.ones(len(similarities), bool)
    for start, threshold in ((0.05, 0.026744), (0.01, -0.057363)):
        protocol = EDCProtocol.from_preset("schlett", starting_fnmr=start)
        results = edc_curves(similarities, everything, qualities, protocol)
        divided = edc_curves(
            similarities, everything, qualities, replace(protocol, divide_by_start=True, divide_by_limit=True)
        )
        for number in range(1, 6):
            name = f"QA algorithm {number}"
            assert results[name].threshold == pytest.approx(threshold, abs=1e-6)
            assert results[name].fnmr == pytest.approx(start)
            assert tuple(divided[name].pauc.values()) == pytest.approx(expected[start][number - 1], abs=1e-6)
            if start == 0.05:
                assert tuple(results[name].pauc.values()) == pytest.approx(raw[number - 1], abs=1e-8)


# ------------------------------------------------------------------------------------------- against the definition


def slow_threshold(mated, nonmated, protocol):
    """By trying each threshold there is."""
    if protocol.threshold is not None:
        return protocol.threshold
    if protocol.starting_fnmr is not None:
        return np.quantile(mated, protocol.starting_fnmr)
    ordered = sorted(nonmated, reverse=True)
    scores = sorted({*mated, *nonmated})
    if protocol.fmr_rule == "at_most":
        just_above = [-math.inf] + [np.nextafter(score, math.inf) for score in scores]
        return min(t for t in just_above if sum(s >= t for s in nonmated) <= protocol.fmr * len(nonmated) + 1e-9)
    if protocol.fmr_rule == "index":
        return np.nextafter(ordered[int(protocol.fmr * (len(ordered) - 1) + 1e-9)], math.inf)
    if protocol.fmr_rule == "nearest":
        distances = [abs(sum(s >= t for s in nonmated) / len(nonmated) - protocol.fmr) for t in scores]
        return np.nextafter(scores[int(np.argmin(distances))], math.inf)
    return np.quantile(nonmated, 1 - protocol.fmr)


def slow_curve(similarities, mated, image_qualities, pairs, protocol):
    """Without ties in random order: at each fraction, look who is left. Points where no pair is left are left out."""
    similarities, mated = np.asarray(similarities), np.asarray(mated, bool)
    quality = np.minimum(image_qualities[pairs[:, 0]], image_qualities[pairs[:, 1]])
    if protocol.discard == "images":
        units = image_qualities[np.unique(pairs)]
    else:
        units = quality[{"mated": mated, "nonmated": ~mated, "all": mated | True}[protocol.discard]]
    if protocol.step is None:
        counts = [0] + [int((units <= value).sum()) for value in sorted(set(units))]
        grid = [(count / len(units), count) for count in counts if count < len(units)]
    else:
        fractions = [k * protocol.step for k in range(math.ceil(1 / protocol.step - 1e-9))]
        grid = [(fraction, math.floor(fraction * len(units) + 1e-9)) for fraction in fractions]
    threshold = slow_threshold(similarities[mated], similarities[~mated], protocol)
    points = []
    for fraction, count in grid:
        gone = [value for value in set(units) if (units <= value).sum() <= count]
        left = quality > max(gone, default=-math.inf)
        genuine, impostor = similarities[left & mated], similarities[left & ~mated]
        if protocol.threshold_update == "recomputed" and len(impostor):
            threshold = slow_threshold(genuine, impostor, protocol)
        elif protocol.threshold_update == "recomputed":
            break
        wrong, of = ((genuine < threshold), genuine) if protocol.error == "fnmr" else (impostor >= threshold, impostor)
        if len(of) == 0:
            break
        points.append((fraction, wrong.sum() / len(of)))
    return np.array(points).T


def slow_pauc(fractions, rates, limit):
    """Left-constant steps."""
    ends = [*fractions[1:], math.inf]
    area = sum(
        rate * (min(end, limit) - start)
        for start, end, rate in zip(fractions, ends, rates, strict=True)
        if start < limit
    )
    return area / limit / rates[0]


@st.composite
def comparisons(draw, few=False):
    """Images of few different qualities, and pairs with few different scores, so that ties are common."""
    images = draw(st.integers(4, 5 if few else 9))
    possible = list(itertools.combinations(range(images), 2))
    pairs = draw(st.lists(st.sampled_from(possible), min_size=4, max_size=6 if few else 30, unique=True))
    count = len(pairs)
    mated = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    assume(2 <= sum(mated) <= count - 2)
    scores = st.integers(0, draw(st.sampled_from([4, 1000]))).map(lambda k: k / 8)
    similarities = draw(st.lists(scores, min_size=count, max_size=count))
    values = st.integers(-3, draw(st.sampled_from([3, 1000]))).map(float)
    qualities = draw(st.lists(values, min_size=images, max_size=images))
    return np.array(similarities), np.array(mated), np.array(qualities), np.array(pairs)


def protocols():
    variants = []
    for operating in (
        {"fmr": 0.5},
        {"fmr": 0.5, "fmr_rule": "index"},
        {"fmr": 0.5, "fmr_rule": "nearest"},
        {"fmr": 0.5, "fmr_rule": "quantile"},
        {"fmr": None, "threshold": 0.3},
        {"fmr": None, "starting_fnmr": 0.4},
    ):
        for error, discard, update, step in itertools.product(
            ("fnmr", "fmr"), ("mated", "nonmated", "all", "images"), ("fixed", "recomputed"), (None, 0.1, 0.3)
        ):
            try:
                variants.append(
                    EDCProtocol(
                        error=error,
                        discard=discard,
                        threshold_update=update,
                        step=step,
                        limits=(0.4, 0.75),
                        **operating,
                    )
                )
            except ValueError:
                continue  # a combination that says nothing, refused by EDCProtocol
    return variants


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(comparisons(), st.sampled_from(protocols()))
def test_agrees_with_the_definition(data, protocol):
    similarities, mated, qualities, pairs = data
    fractions, rates = slow_curve(similarities, mated, qualities, pairs, protocol)
    result = curve(similarities, mated, qualities, protocol, pairs=pairs)
    # Fractions at which only pairs of the other kind leave may be missing from ours: nothing changes there.
    np.testing.assert_allclose(result.at(fractions), rates, rtol=1e-12)
    assert set(np.round(result.fractions, 12)) <= set(np.round(fractions, 12))
    if rates[0] > 0:
        assert result.pauc[0.4] == pytest.approx(slow_pauc(fractions, rates, 0.4))
        assert result.pauc[0.75] == pytest.approx(slow_pauc(fractions, rates, 0.75))
    # The two ways to give the qualities are one.
    two = tuple(qualities[pairs[:, side]] for side in (0, 1))
    if protocol.discard != "images":
        np.testing.assert_allclose(curve(similarities, mated, two, protocol).rates, result.rates)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_ties_are_the_mean_over_all_orders(data):
    count = data.draw(st.integers(3, 5))
    similarities = np.array(data.draw(st.lists(st.sampled_from([0.2, 0.8]), min_size=count, max_size=count)))
    levels = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    protocol = replace(FIXED, ties="random")
    mated = np.ones(count, bool)
    rates = [
        # The order breaks the ties within a level and never moves a pair across levels.
        curve(similarities, mated, np.array(levels) + np.array(order) / 10, FIXED).rates
        for order in itertools.permutations(range(count))
    ]
    np.testing.assert_allclose(curve(similarities, mated, levels, protocol).rates, np.mean(rates, axis=0))


# ------------------------------------------------------------------------------------------- properties


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(comparisons(), st.sampled_from(protocols()), st.sampled_from(["together", "random"]), st.integers(0, 99))
def test_only_the_order_of_qualities_counts(data, protocol, ties, seed):
    similarities, mated, qualities, pairs = data
    protocol = replace(protocol, ties=ties)
    result = curve(similarities, mated, qualities, protocol, pairs=pairs)
    for transform in (lambda q: np.exp(q / 100), lambda q: q**3, lambda q: 2 * q - 7):
        other = curve(similarities, mated, transform(qualities), protocol, pairs=pairs)
        np.testing.assert_allclose(other.rates, result.rates)
        np.testing.assert_allclose(list(other.pauc.values()), list(result.pauc.values()))
    # Nor does the order in which pairs are given, or which image of a pair comes first.
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pairs))
    swapped = np.where(rng.random((len(pairs), 1)) < 0.5, pairs, pairs[:, ::-1])
    other = curve(similarities[order], mated[order], qualities, protocol, pairs=swapped[order])
    np.testing.assert_allclose(other.rates, result.rates)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(comparisons(), st.sampled_from(protocols()))
def test_nothing_is_below_the_floor(data, protocol):
    similarities, mated, qualities, pairs = data
    result = curve(similarities, mated, qualities, protocol, pairs=pairs)
    for limit, pauc in result.pauc.items():
        if result.rates[0] > 0:
            assert pauc >= result.floor[limit] - 1e-12
            assert not result.share[limit] > 1 + 1e-12


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(1, 60), st.booleans(), st.integers(0, 1000))
def test_the_oracle_reaches_the_floor(pairs, errors, pool, seed):
    assume(errors < pairs)
    rng = np.random.default_rng(seed)
    similarities = np.concatenate(
        [rng.uniform(0, 0.49, errors), rng.uniform(0.51, 1, pairs - errors), rng.random(pairs)]
    )
    mated = np.arange(2 * pairs) < pairs
    oracle = np.where(mated, similarities, 2 + similarities)  # errors first, then matches, then who is never wrong
    for changes in ({}, {"step": 0.05}, {"interpolation": "linear"}):
        protocol = EDCProtocol(
            fmr=None, threshold=0.5, pair_quality="given", discard="all" if pool else "mated", **changes
        )
        result = curve(similarities, mated, oracle, protocol)
        if protocol.interpolation == "step" or not pool:
            for limit in protocol.limits:
                assert result.pauc[limit] == pytest.approx(result.floor[limit])
                if result.floor[limit] < 1 - 1e-9:
                    assert result.share[limit] == pytest.approx(1)
                    worst = curve(similarities, mated, -oracle, protocol)
                    assert worst.share[limit] < 0 or pool


@pytest.mark.parametrize("start, limit, floor", [(0.57, 0.3, 0.86), (0.01, 0.3, 0.02), (0.01, 0.2, 0.025)])
def test_floor_of_the_formula(start, limit, floor):
    """max(0, e - r) / (1 - r): hard sets have a high floor, easy ones a low one."""
    count = 100_000
    similarities = np.where(np.arange(count) < start * count, 0.1, 0.9)
    result = edc_curve(similarities, np.ones(count), np.zeros(count), replace(FIXED, limits=(limit,), ties="random"))
    end = min(start, limit)
    exact = (end + (1 - start) * math.log(1 - end)) / (start * limit)
    assert result.floor[limit] == pytest.approx(exact, rel=2e-3)
    assert result.floor[limit] == pytest.approx(floor, abs=0.005)
    assert result.pauc[limit] == pytest.approx(1) and result.share[limit] == pytest.approx(0, abs=1e-9)


def test_floor_of_a_recomputed_threshold_over_all_orders():
    """At each fraction the floor is the least rate of all 720 orders in which six pairs can leave."""
    protocol = EDCProtocol(
        fmr=0.34, threshold_update="recomputed", discard="all", pair_quality="given", step=1 / 6, limits=(0.5,)
    )
    mated = np.array([1, 1, 1, 0, 0, 0], bool)
    cases = [("at_most", [0.5, 0.3, 0.9, 0.4, 0.6, 0.2]), ("index", [0.7, 0.5, 0.3, 0.6, 0.4, 0.2])]
    for fmr_rule, similarities in cases:
        results = [
            curve(similarities, mated, order, replace(protocol, fmr_rule=fmr_rule))
            for order in itertools.permutations(range(6))
        ]
        for point in range(3):
            least = min(result.rates[point] for result in results if len(result.rates) > point)
            assert results[0].best_rates[point] == pytest.approx(least)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=4, max_size=5), st.sampled_from(["mated", "all"]))
def test_random_quality_has_expectation_one(wrong, discard):
    """Over all orders of distinct qualities, exactly; and so has a quality that is the same for all."""
    assume(any(wrong))
    similarities, mated = np.where(wrong, 0.1, 0.9), np.ones(len(wrong), bool)
    protocol = replace(FIXED, discard=discard, limits=(0.3, 0.6))
    paucs = [
        list(curve(similarities, mated, order, protocol).pauc.values())
        for order in itertools.permutations(range(len(wrong)))
    ]
    np.testing.assert_allclose(np.mean(paucs, axis=0), 1)
    same = curve(similarities, mated, np.ones(len(wrong)), replace(protocol, ties="random"))
    np.testing.assert_allclose(list(same.pauc.values()), 1)


def test_random_quality_under_the_presets_is_about_one():
    rng = np.random.default_rng(0)
    mated = np.arange(6000) < 3000
    similarities = np.where(mated, rng.normal(0.4, 0.2, 6000), rng.normal(0, 0.1, 6000))
    for name in ("default", "diffiqa"):
        protocol = EDCProtocol.from_preset(name, pair_quality="given")
        methods = {str(k): rng.random(6000) for k in range(100)}
        paucs = [result.pauc[0.3] for result in edc_curves(similarities, mated, methods, protocol).values()]
        # "index" keeps 2 false matches of 3,000 and of 2,100 pairs, so that the FMR rises and the FNMR falls.
        bias = {"default": 0, "diffiqa": 0.01}[name]
        assert np.mean(paucs) == pytest.approx(1, abs=4 * np.std(paucs) / 10 + bias)
        assert np.std(paucs) < 0.05


def test_float32_and_many_methods_at_once():
    rng = np.random.default_rng(1)
    mated = np.arange(4000) < 1000
    similarities = np.where(mated, rng.normal(0.6, 0.2, 4000), rng.normal(0, 0.1, 4000)).astype(np.float32)
    pairs = np.stack([np.arange(4000), np.arange(4000) + 4000], 1)
    qualities = {"a": rng.random(8000), "b": rng.integers(0, 9, 8000)}
    for name in PROTOCOLS:
        protocol = EDCProtocol.from_preset(
            name, limits=(0.6,)
        )  # below 1,000 of 3,000 non-mated pairs there is a warning
        several = edc_curves(similarities, mated, qualities, protocol, pairs=pairs)
        for method, values in qualities.items():
            one = edc_curve(similarities.astype(np.float64), mated, values, protocol, pairs=pairs)
            np.testing.assert_allclose(several[method].rates, one.rates)
            assert several[method].threshold == pytest.approx(one.threshold)


# ------------------------------------------------------------------------------------------- no silent number


def test_no_error_at_the_threshold():
    with pytest.warns(EDCWarning, match="no error"):
        result = edc_curve([0.9, 0.8], [1, 1], [1, 2], FIXED)
    assert math.isnan(result.pauc[0.5]) and math.isnan(result.floor[0.5]) and math.isnan(result.share[0.5])
    np.testing.assert_array_equal(result.rates, [0, 0])


@pytest.mark.parametrize("protocol", ["default", "diffiqa", "cr-fiqa"])
@pytest.mark.parametrize("nonmated", [0, 999])
def test_too_few_nonmated_pairs(protocol, nonmated):
    mated = np.arange(nonmated + 10) < 10
    with pytest.raises(ValueError, match=f"at least 1,000 non-mated pairs, and there are {nonmated}"):
        edc_curve(np.linspace(0, 1, len(mated)), mated, (np.ones(len(mated)),) * 2, protocol)


def test_too_few_nonmated_pairs_once_some_have_left():
    rng = np.random.default_rng(0)
    mated = np.arange(1900) < 700
    similarities = rng.random(1900)
    with pytest.warns(EDCWarning, match="From fraction 0.200 on"):
        edc_curve(similarities, mated, (rng.random(1900),) * 2, "diffiqa")


def test_pairs_run_out_before_the_limit():
    protocol = replace(FIXED, discard="all", limits=(0.9,))
    with pytest.warns(EDCWarning, match="run out at fraction 0.500"):
        edc_curve([0.1, 0.9, 0.2, 0.2], [1, 1, 0, 0], [1, 2, 3, 4], protocol)


def test_everything_wrong_has_no_share():
    with pytest.warns(EDCWarning, match="not even a perfect quality"):
        result = edc_curve([0.1, 0.2, 0.3], [1] * 3, [1, 2, 3], FIXED)
    assert result.pauc[0.5] == result.floor[0.5] == 1 and math.isnan(result.share[0.5])


def test_missing_qualities():
    nan = math.nan
    for qualities, kwargs in (
        ((([1, nan, 3], [4, 5, 6])), {}),
        ([1, nan, 3, 4, 5, 6], {"pairs": [[0, 3], [1, 4], [2, 5]]}),
    ):
        protocol = replace(FIXED, pair_quality="min")
        with pytest.raises(ValueError, match="1 of . (pairs|images) have no quality"):
            edc_curve([0.9, 0.1, 0.9], [1] * 3, qualities, protocol, **kwargs)
        with pytest.warns(EDCWarning, match="1 of . (pairs|images) have no quality"):
            result = edc_curve([0.9, 0.1, 0.9], [1] * 3, qualities, replace(protocol, nan_quality="lowest"), **kwargs)
        np.testing.assert_allclose(result.rates, [1 / 3, 0, 0])
    # An image in no pair may lack it.
    pairs = [[1, 2], [3, 4], [1, 3]]
    result = edc_curve([0.9, 0.1, 0.9], [1] * 3, [nan, 1, 2, 3, 4, nan], protocol, pairs=pairs)
    np.testing.assert_allclose(result.rates, [1 / 3, 1])


@pytest.mark.parametrize(
    "similarities, mated, qualities, kwargs, message",
    [
        ([0.1, math.nan], [1, 1], [1, 2], {}, "1 similarities are NaN"),
        ([[0.1, 0.2]], [1, 1], [1, 2], {}, "one dimension"),
        ([0.1, 0.2], [1], [1, 2], {}, "mated has shape"),
        ([0.1, 0.2], [1, 2], [1, 2], {}, "True and False"),
        ([0.1, 0.2], [0, 0], [1, 2], {}, "no mated pair"),
        ([], [], [], {}, "no mated pair"),
        ([0.1, 0.2], [1, 1], [1, 2, 3], {}, "one for each of the 2 pairs"),
        ([0.1, 0.2], [1, 1], [1, 2], {"pair_quality": "min"}, "two arrays of shape|two arrays, of the first"),
        ([0.1, 0.2], [1, 1], ([1], [1]), {"pair_quality": "min"}, "two arrays of shape"),
        ([0.1, 0.2], [1, 1], np.ones(2), {"pair_quality": "min"}, "or give pairs"),
        ([0.1, 0.2], [1, 1], ([-1, 1], [1, 1]), {"pair_quality": "product"}, "at least 0"),
        ([0.1, 0.2], [1, 1], [1, 2, 3], {"pair_quality": "min", "pairs": [[0, 1], [2, 2]]}, "with itself"),
        ([0.1, 0.2], [1, 1], [1, 2, 3], {"pair_quality": "min", "pairs": [[0, 1], [2, 3]]}, "position 3"),
        ([0.1, 0.2], [1, 1], [1, 2, 3], {"pair_quality": "min", "pairs": [[0, 1], [2, -1]]}, "negative"),
        ([0.1, 0.2], [1, 1], [1, 2, 3], {"pair_quality": "min", "pairs": [0, 1]}, "pairs must be"),
        ([0.1, 0.2], [1, 1], ([1, 2], [1, 2]), {"pair_quality": "min", "discard": "images"}, "needs pairs"),
    ],
)
def test_refused_data(similarities, mated, qualities, kwargs, message):
    pairs = kwargs.pop("pairs", None)
    with pytest.raises(ValueError, match=message):
        edc_curve(similarities, mated, qualities, replace(FIXED, **kwargs), pairs=pairs)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"threshold": 0.5}, "exactly one"),
        ({"fmr": None}, "exactly one"),
        ({"fmr": 0.0}, "fmr must lie"),
        ({"fmr": None, "starting_fnmr": 1.0}, "starting_fnmr must lie"),
        ({"fmr": None, "threshold": math.nan}, "finite"),
        ({"step": 0.0}, "step must lie"),
        ({"limits": ()}, "limits"),
        ({"limits": (0.2, 1.5)}, "limits"),
        ({"step": 0.2}, "first step"),
        ({"ties": "first"}, "ties must be one of together, random"),
        ({"discard": "nonmated"}, "never changes the FNMR"),
        ({"error": "fmr"}, "never changes the FMR"),
        ({"discard": "images", "pair_quality": "mean"}, "min of its images"),
        ({"threshold_update": "recomputed"}, "recomputed threshold needs"),
        ({"threshold_update": "recomputed", "discard": "all", "fmr_rule": "quantile"}, "fixed threshold only"),
    ],
)
def test_refused_protocols(fields, message):
    with pytest.raises(ValueError, match=message):
        EDCProtocol(**fields)


def test_preset_names():
    assert set(PROTOCOLS) == {"default", "diffiqa", "schlett", "cr-fiqa"}
    with pytest.raises(ValueError, match="there are default, diffiqa, schlett, cr-fiqa"):
        EDCProtocol.from_preset("ours")
    with pytest.raises(ValueError, match="no protocol 'ours'"):
        edc_curve([0.1], [1], [1], "ours")
    with pytest.raises(ValueError, match="needs mated pairs|use edc_curve"):
        fmr_threshold(NONMATED, 0.25, "nearest")


def test_summary_is_json():
    text = json.dumps(edc_curve(SIMILARITIES, MATED, QUALITIES, FIXED).summary(), allow_nan=True)
    assert json.loads(text)["pauc"] == {"0.5": pytest.approx(0.5789682539682539)}


def test_numpy_alone():
    others = ("torch", "scipy", "transformers", "pandas", "datasets", "matplotlib")
    code = f"import sys, diffiqa_hf.evaluation; print([name for name in {others} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
