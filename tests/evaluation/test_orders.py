# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Ties in random order at a recomputed threshold, against every order written out; and what discarding at random has.
"""

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from diffiqa_hf.evaluation import EDCProtocol, EDCWarning, bootstrap_pauc, edc_curve, edc_curves, orders


pytestmark = pytest.mark.filterwarnings("ignore::diffiqa_hf.evaluation.EDCWarning")
RECOMPUTED = EDCProtocol(
    fmr=0.25,
    threshold_update="recomputed",
    discard="all",
    ties="random",
    step=0.15,
    limits=(0.5,),
    pair_quality="given",
)
SIMILARITIES, MATED = [0.1, 0.5, 0.9, 0.8, 0.4, 0.3, 0.2], [1, 1, 1, 0, 0, 0, 0]


def threshold_of(nonmated, mated, protocol):
    """The rules of [`EDCProtocol`], read one by one."""
    ordered = sorted(nonmated, reverse=True)
    if protocol.fmr_rule == "nearest":
        scores = sorted({*mated, *nonmated})
        distances = [abs(sum(s >= t for s in nonmated) / len(nonmated) - protocol.fmr) for t in scores]
        return scores[int(np.argmin(distances))]
    rank = protocol.fmr * (len(ordered) - (protocol.fmr_rule == "index"))
    return ordered[max(0, int(rank + 1e-9))]


def test_by_enumeration():
    result = edc_curve(SIMILARITIES, MATED, np.ones(7), RECOMPUTED)
    for gone in (0, 1, 2, 3, 4):
        errors = []
        for left in itertools.combinations(range(7), 7 - gone):
            nonmated = [SIMILARITIES[i] for i in left if not MATED[i]]
            mated = [SIMILARITIES[i] for i in left if MATED[i]]
            rejected = threshold_of(nonmated, mated, RECOMPUTED) if nonmated else -1
            errors.append(sum(score <= rejected for score in mated))
        assert result.error_counts[gone] == pytest.approx(np.mean(errors))
        assert result.pair_counts[gone] == pytest.approx(3 * (7 - gone) / 7)
    assert result.error_counts[1:3] == pytest.approx([9 / 7, 8 / 7])


@st.composite
def tied(draw):
    images = draw(st.integers(4, 5))
    pairs = np.array(list(itertools.combinations(range(images), 2)))
    pairs = pairs[draw(st.permutations(range(len(pairs))))[: draw(st.integers(5, 7))]]
    mated = np.array(draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs))))
    assume(1 <= mated.sum() and (~mated).sum() >= 2)
    scores = st.integers(0, draw(st.sampled_from([4, 1000]))).map(lambda k: k / 8)
    similarities = np.array(draw(st.lists(scores, min_size=len(pairs), max_size=len(pairs))))
    levels = np.array(draw(st.lists(st.integers(0, 1), min_size=images, max_size=images)), float)
    return similarities, mated, levels, pairs


@settings(max_examples=40, deadline=None)
@given(tied(), st.sampled_from(["at_most", "index", "nearest"]), st.sampled_from(["all", "images"]))
def test_expectations_are_the_mean_over_every_order(data, rule, discard):
    similarities, mated, levels, pairs = data
    protocol = replace(
        RECOMPUTED, fmr=0.5, fmr_rule=rule, discard=discard, pair_quality="min", step=0.2, limits=(0.6,)
    )
    result = edc_curve(similarities, mated, levels, protocol, pairs=pairs)
    unit_levels = levels[np.unique(pairs)] if discard == "images" else levels[pairs].min(axis=1)
    units = len(unit_levels)
    for point, fraction in enumerate(result.fractions):
        gone = int(np.floor(fraction * units + 1e-9))
        ordered = np.argsort(unit_levels, kind="stable")
        edge = unit_levels[ordered[gone]]
        sure = set(np.flatnonzero(unit_levels < edge).tolist())
        errors, counts = [], []
        for extra in itertools.combinations(np.flatnonzero(unit_levels == edge).tolist(), gone - len(sure)):
            away = sure | set(extra)
            if discard == "images":
                names = np.unique(pairs)
                left = [p for p in range(len(pairs)) if not away & set(np.searchsorted(names, pairs[p]).tolist())]
            else:
                left = [p for p in range(len(pairs)) if p not in away]
            nonmated = [similarities[p] for p in left if not mated[p]]
            genuine = [similarities[p] for p in left if mated[p]]
            rejected = threshold_of(nonmated, genuine, protocol) if nonmated else -np.inf
            errors.append(sum(score <= rejected for score in genuine))
            counts.append(len(genuine))
        assert result.error_counts[point] == pytest.approx(np.mean(errors))
        assert result.pair_counts[point] == pytest.approx(np.mean(counts))


def cfp_like(seed=0, count=1500):
    rng = np.random.default_rng(seed)
    mated = np.arange(2 * count) < count
    similarities = np.where(mated, rng.normal(0.4, 0.2, 2 * count), rng.normal(0, 0.1, 2 * count))
    return similarities, mated, similarities * mated + rng.normal(0, 0.3, 2 * count), rng


@pytest.mark.parametrize("rule", ["at_most", "index", "nearest"])
def test_draws_are_as_good_as_orders(rule):
    """Two levels of quality, far too many orders to write out: against 60 random ones, to four of their errors."""
    similarities, mated, qualities, rng = cfp_like()
    levels = (qualities > np.median(qualities)).astype(float)
    protocol = EDCProtocol.from_preset("diffiqa", pair_quality="given", fmr_rule=rule)
    result = edc_curve(similarities, mated, levels, protocol)
    several = {str(k): levels + 0.5 * rng.random(len(levels)) for k in range(60)}
    paucs = [entry.pauc[0.3] for entry in edc_curves(similarities, mated, several, protocol).values()]
    assert result.pauc[0.3] == pytest.approx(np.mean(paucs), abs=4 * np.std(paucs) / np.sqrt(60) + 1e-3)
    # The same again, and whatever order the pairs are given in.
    order = rng.permutation(len(mated))
    again = edc_curve(similarities[order], mated[order], levels[order], protocol)
    np.testing.assert_allclose(again.rates, result.rates, rtol=1e-12)


def test_few_sets_are_all_taken(monkeypatch):
    similarities, mated, qualities, _ = cfp_like(count=20)
    protocol = replace(RECOMPUTED, step=0.05, limits=(0.3,))
    exact = edc_curve(similarities, mated, np.ones(40), replace(protocol, step=0.026)).error_counts[1]
    means = []
    for left in range(40):
        keep = np.arange(40) != left
        rejected = threshold_of(similarities[keep & ~mated], similarities[keep & mated], protocol)
        means.append((similarities[keep & mated] <= rejected).sum())
    assert exact == pytest.approx(np.mean(means))
    monkeypatch.setattr(orders, "EXACT", 39)  # now they are drawn
    drawn = edc_curve(similarities, mated, np.ones(40), replace(protocol, step=0.026)).error_counts[1]
    assert drawn == pytest.approx(exact, abs=4 * np.std(means) / np.sqrt(39) + 1e-12)


@pytest.mark.parametrize("name", ["diffiqa", "cr-fiqa"])
def test_random_is_the_mean_of_random_orders(name):
    similarities, mated, qualities, rng = cfp_like(seed=2)
    protocol = EDCProtocol.from_preset(name, pair_quality="given", limits=(0.3, 0.6))
    several = {str(k): rng.random(len(mated)) for k in range(80)}
    results = edc_curves(similarities, mated, several, protocol)
    for limit in protocol.limits:
        paucs = [entry.pauc[limit] for entry in results.values()]
        tolerance = 4 * np.std(paucs) / np.sqrt(80)
        random = results["0"].random[limit]
        assert random == pytest.approx(np.mean(paucs), abs=tolerance + 0.004 * random)
        shares = [entry.share[limit] for entry in results.values()]
        assert results["0"].random_share[limit] == pytest.approx(np.mean(shares), abs=4 * np.std(shares) / 8)
    # With so few non-mated pairs the threshold moves by more than its rank: random is not 1.
    assert name != "diffiqa" or abs(results["0"].random[0.6] - 1) > 0.005


def test_random_at_a_fixed_threshold_is_what_the_protocol_divides_by():
    similarities, mated, qualities, _ = cfp_like()
    start = EDCProtocol.from_preset("schlett").starting_fnmr
    raw = edc_curve(similarities, mated, qualities, EDCProtocol.from_preset("schlett", pair_quality="given"))
    assert raw.random == {limit: pytest.approx(start * limit, rel=0.01) for limit in (0.2, 0.3)}
    divided = edc_curve(similarities, mated, qualities, EDCProtocol(fmr=0.01, pair_quality="given"))
    assert divided.random == {0.2: 1, 0.3: 1} and divided.random_share == {0.2: 0, 0.3: 0}


def test_a_replicate_with_ties_is_the_copied_study():
    """Copies of a person tie with each other: the draws are those of the study written out."""
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(10), 4)
    pairs = np.stack(np.triu_indices(40, 1), 1)
    mated = people[pairs[:, 0]] == people[pairs[:, 1]]
    similarities = 0.4 * mated + rng.normal(0, 0.2, len(pairs))
    levels = rng.integers(0, 2, 40).astype(float)
    for rule, discard in (("at_most", "all"), ("nearest", "all"), ("index", "images")):
        protocol = replace(RECOMPUTED, fmr=0.05, fmr_rule=rule, discard=discard, pair_quality="min", limits=(0.4,))
        drawn = bootstrap_pauc(similarities, mated, {"q": levels}, people, protocol, pairs=pairs, replicates=2)
        assert np.isfinite(drawn.replicates).all()
        generator = np.random.default_rng(0)
        for replicate in drawn.replicates[:, 0, 0]:
            times = np.bincount(generator.integers(10, size=10), minlength=10)
            rows, ends = [], []
            for row, (one, other) in enumerate(pairs):
                for a, b in itertools.product(range(times[people[one]]), range(times[people[other]])):
                    if not mated[row] or a == b:
                        rows.append(row)
                        ends.append((40 * a + one, 40 * b + other))
            rows, (names, ends) = np.array(rows), np.unique(ends, return_inverse=True)
            whole = edc_curve(similarities[rows], mated[rows], levels[names % 40], protocol, pairs=ends.reshape(-1, 2))
            tolerance = (
                1e-9 if discard == "all" else 0.05
            )  # of images other sets are drawn, as they have other numbers
            assert replicate == pytest.approx(whole.pauc[0.4], rel=tolerance)


def test_fixed_thresholds_have_no_draws(monkeypatch):
    def refuse(*args):
        raise AssertionError

    monkeypatch.setattr(orders, "mean_over_orders", refuse)
    similarities, mated, _, _ = cfp_like()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EDCWarning)
        result = edc_curve(
            similarities, mated, np.ones(len(mated)), EDCProtocol(fmr=0.01, ties="random", pair_quality="given")
        )
    assert result.pauc[0.3] == pytest.approx(1)
