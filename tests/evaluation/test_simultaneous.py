# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What is called better or worse: how often it is of methods that are equally good; and means over sets that share
people.

The simulation is of what a pAUC is at a fixed threshold with many pairs: each person in error has one failing pair,
whose quality has the rank u among all pairs by each method, and the pAUC is the mean over the people in error of
-ln(1 - min(u, limit)) / limit (the rate at fraction f is that of those left, over 1 - f). Ranks of informative methods
are powers of uniform ones, equally distributed for all methods.
"""

import itertools
import math

import numpy as np
import pytest

from diffiqa_hf.evaluation import EDCProtocol, bootstrap_pauc, edc_curves, evaluate_methods
from diffiqa_hf.evaluation.bootstrap import (
    MIN_FAILING_PEOPLE,
    BootstrapResult,
    simultaneous_intervals,
    student_quantile,
)


METHODS, LIMIT = 12, 0.3


def simulated(people: int, power: float, rng, methods: int = METHODS, replicates: int = 300) -> BootstrapResult:
    """A study of equally good methods in which `people` are in error."""
    ranks = rng.random((methods, people)) ** power
    parts = -np.log1p(-np.minimum(ranks, LIMIT)) / LIMIT
    times = rng.poisson(1.0, (replicates, people)).astype(float)
    with np.errstate(invalid="ignore"):
        drawn = times @ parts.T / times.sum(1, keepdims=True)  # NaN of draws without an error
    return BootstrapResult(
        tuple(map(str, range(methods))),
        (LIMIT,),
        parts.mean(1)[:, None],
        drawn[:, :, None],
        1000,
        people / 1000,
        np.full(replicates, people / 1000),
        people,
        float(people),
    )


def told_apart(result: BootstrapResult) -> bool:
    return not result.few_errors and any(entry.excludes_zero for entry in result.differences().values())


def worse_than_the_lowest_one_by_one(result: BootstrapResult) -> bool:
    lowest = result.methods[int(result.estimates[:, 0].argmin())]
    others = [name for name in result.methods if name != lowest]
    return any(result.difference(name, lowest, LIMIT).low > 0 for name in others)


def family_wise(people: int, power: float, studies: int, seed: int = 0) -> tuple[float, float]:
    """How often some of twelve equally good methods are told apart; and by intervals for one difference each."""
    rng = np.random.default_rng(seed)
    found = [simulated(people, power, rng) for _ in range(studies)]
    return float(np.mean(list(map(told_apart, found)))), float(
        np.mean([*map(worse_than_the_lowest_one_by_one, found)])
    )


@pytest.mark.parametrize("people", [MIN_FAILING_PEOPLE, 40])
def test_twelve_equally_good_methods(people):
    studies = 300
    rate, one_by_one = family_wise(people, 2.0, studies)
    # 5 %, within three standard errors of so many studies.
    assert rate <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)
    assert one_by_one > 0.5  # what the same studies were called by an interval for each difference


@pytest.mark.slow
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_one_to_forty_errors(power, capsys):
    """The table of the report: share of 1,000 studies in which some of twelve, or of two, equal methods differ."""
    studies, lines = 1000, ["people in error, told apart of 12, as before, of 2, as before"]
    bound = 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)
    for people in (1, 2, 3, 5, 8, 10, 15, 20, 30, 40):
        rng = np.random.default_rng(people)
        twelve = [simulated(people, power, rng) for _ in range(studies)]
        two = [simulated(people, power, rng, methods=2) for _ in range(studies)]
        new = np.mean([*map(told_apart, twelve)]), np.mean([*map(told_apart, two)])
        old = (
            np.mean([*map(worse_than_the_lowest_one_by_one, twelve)]),
            np.mean([result.difference("0", "1", LIMIT).excludes_zero for result in two]),
        )
        lines.append(f"{people:3d}  {new[0]:.3f}  {old[0]:.3f}  {new[1]:.3f}  {old[1]:.3f}")
        assert max(new) <= bound
    with capsys.disabled():
        print("\n".join(["", *lines]))


@pytest.mark.slow
def test_below_the_least_number_of_people_the_rate_is_not_kept():
    """Why there is such a number: of three people and fewer, without it."""
    rng = np.random.default_rng(0)
    found = [simulated(3, 2.0, rng) for _ in range(300)]
    rate = np.mean([any(entry.excludes_zero for entry in result.differences().values()) for result in found])
    assert rate > 0.2


def test_methods_that_differ_are_told_apart():
    rng = np.random.default_rng(0)
    result = simulated(60, 1.0, rng, methods=4)
    better = -np.log1p(-np.minimum(rng.random(60) ** 6, LIMIT)) / LIMIT
    times = rng.poisson(1.0, (300, 60))
    result.estimates[2], result.replicates[:, 2, 0] = better.mean(), times @ better / times.sum(1)
    said = {key: entry for key, entry in result.differences().items() if entry.excludes_zero}
    assert {key[:2] for key in said} == {("0", "2"), ("1", "2"), ("2", "3")}


def test_intervals_by_their_definition():
    """Two numbers of 4,000 normal replicates: the quantile is that of the larger of two normal deviations."""
    rng = np.random.default_rng(0)
    replicates = rng.normal([1.0, -2.0], [0.5, 3.0], (4000, 2))
    first, second = simultaneous_intervals([1.0, -2.0], replicates)
    # P(|z| < c)^2 = .95 has c = 2.236.
    assert (first.high - 1) / 0.5 == pytest.approx(2.236, abs=0.08)
    assert (second.high + 2) / 3 == pytest.approx(2.236, abs=0.08) and second.low + second.high == pytest.approx(-4)
    held = (np.abs(replicates - [1, -2]) <= [first.high - 1, second.high + 2]).all(axis=1)
    assert held.mean() == pytest.approx(0.95, abs=0.005)
    wider = simultaneous_intervals([1.0, -2.0], replicates, people=10)[0]
    factor = (first.high - 1) / replicates[:, 0].std(ddof=1)
    assert wider.high - 1 == pytest.approx(
        student_quantile(factor, 9) * replicates[:, 0].std(ddof=1) * math.sqrt(10 / 9)
    )
    same, other = simultaneous_intervals([0.0, 1.0], np.stack([np.zeros(9), np.arange(9.0)], 1))
    assert (same.low, same.high) == (0, 0) and not same.excludes_zero
    assert all(math.isnan(entry.low) for entry in simultaneous_intervals([math.nan], np.zeros((9, 1))))
    alone = simultaneous_intervals([0.5], np.arange(9.0)[:, None], people=1)[0]
    assert (alone.low, alone.high) == (-math.inf, math.inf)


@pytest.mark.parametrize("degrees", [9, 15, 40, 500])
@pytest.mark.parametrize("normal", [0.0, 1.0, 1.96, 3.0, 3.7])
def test_student_quantile(normal, degrees):
    stats = pytest.importorskip("scipy.stats")
    assert student_quantile(normal, degrees) == pytest.approx(stats.t.isf(stats.norm.sf(normal), degrees), rel=0.01)


def test_on_how_many_people_the_errors_are():
    """Counted by hand: of three people one fails twice; of false matches those that share nobody."""
    pairs = np.array([[0, 1], [0, 2], [3, 4], [5, 6], [0, 3], [3, 5], [4, 6], [1, 5]])
    people = ["a", "a", "a", "b", "b", "c", "c"]
    similarities = np.array([0.1, 0.2, 0.3, 0.9, 0.8, 0.1, 0.1, 0.2])
    mated = np.arange(8) < 4
    fixed = EDCProtocol(fmr=None, threshold=0.5)
    more = {"pairs": pairs, "replicates": 30}
    with pytest.warns(Warning):
        result = bootstrap_pauc(similarities, mated, {"q": np.arange(7)}, people, fixed, **more)
    assert result.failing == 2 and result.effective_failing == pytest.approx(9 / 5) and result.few_errors
    false_matches = EDCProtocol(fmr=None, threshold=0.15, error="fmr", discard="nonmated")
    with pytest.warns(Warning):
        result = bootstrap_pauc(similarities, mated, {"q": np.arange(7)}, people, false_matches, **more)
    assert result.failing == 1  # a and b, a and c: both with a


# -- several sets -----------------------------------------------------------------------------------------------------

POPULATION = [f"p{k:03d}" for k in range(60)]


def two_sets(rng, shared: int = 40):
    """
    Two sets of 50 people, `shared` of whom are in both, with three images each. Who fails in one does in the other,
    and whether a score sees it is a matter of the person as well.
    """
    hard, seen = rng.gamma(0.5, 1.0, 60), rng.random(60) < 0.6
    sets = []
    for start in (0, 50 - shared):
        people = np.repeat(np.arange(start, start + 50), 3)
        noise = hard[people] * rng.gamma(4, 0.25, 150)
        first, second = np.concatenate([np.arange(0, 150, 3)[:, None] + pair for pair in ([0, 1], [0, 2], [1, 2])]).T
        similarities = 1.5 - noise[first] - noise[second] + 0.2 * rng.normal(size=150)
        qualities = np.where(seen[people], -noise, 0.3 * rng.normal(size=150))
        names = np.array([POPULATION[k % 60] for k in people])
        sets.append((similarities, np.ones(150, bool), qualities, np.stack([first, second], 1), names))
    return sets


FIXED = EDCProtocol(fmr=None, threshold=0.5, limits=(0.3,))


def test_people_are_drawn_by_name_over_all_sets():
    """Each replicate copied out: a person that was drawn twice is there twice in both sets."""
    sets = two_sets(np.random.default_rng(0), shared=45)
    population = sorted({name for *_, names in sets for name in names})
    drawn = [
        bootstrap_pauc(s, m, {"q": q}, names, FIXED, pairs=p, replicates=3, seed=4, population=population)
        for s, m, q, p, names in sets
    ]
    rng = np.random.default_rng(4)
    for replicate in range(3):
        draw = rng.integers(len(population), size=len(population))
        times = dict.fromkeys(population, 0)
        for at in draw:
            times[population[at]] += 1
        for result, (similarities, mated, qualities, pairs, names) in zip(drawn, sets, strict=True):
            rows = np.repeat(np.arange(len(pairs)), [times[names[a]] for a, _ in pairs])
            two = tuple(qualities[pairs[rows, side]] for side in (0, 1))
            expected = edc_curves(similarities[rows], mated[rows], {"q": two}, FIXED)["q"].pauc[0.3]
            assert result.replicates[replicate, 0, 0] == pytest.approx(expected, rel=1e-9)
    assert [result.identities for result in drawn] == [50, 50]
    similarities, mated, qualities, pairs, names = sets[0]
    with pytest.raises(ValueError, match="population lacks 'p0"):
        bootstrap_pauc(similarities, mated, {"q": qualities}, names, FIXED, pairs=pairs, population=POPULATION[10:])


def test_people_of_no_name_leave_the_draws_of_the_others_alone():
    (similarities, mated, qualities, pairs, names), _ = two_sets(np.random.default_rng(1))
    more = np.concatenate([pairs, [[0, 150], [3, 151]]])
    arguments = (
        np.append(similarities, [0.1, 0.2]),
        np.append(mated, [False, False]),
        {"q": np.append(qualities, [0, 0])},
    )
    labels = [*names.tolist(), None, math.nan]
    known = bootstrap_pauc(
        similarities, mated, {"q": qualities}, names, FIXED, pairs=pairs, replicates=5, population=POPULATION
    )
    both = bootstrap_pauc(*arguments, labels, FIXED, pairs=more, replicates=5, population=POPULATION)
    np.testing.assert_array_equal(both.replicates, known.replicates)
    assert both.identities == known.identities + 2


def _mean_of_two(rng, replicates: int, together: bool):
    sets = two_sets(rng)
    population = POPULATION if together else None
    drawn = [
        bootstrap_pauc(s, m, {"q": q}, names, FIXED, pairs=p, replicates=replicates, seed=0 if together else seed,
                       population=population)
        for seed, (s, m, q, p, names) in enumerate(sets)
    ]  # fmt: skip
    return np.mean([d.estimates[0, 0] for d in drawn]), np.mean([d.replicates[:, 0, 0] for d in drawn], axis=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::diffiqa_hf.evaluation.EDCWarning")
def test_coverage_of_the_mean_over_sets_that_share_people(capsys):
    studies, rng = 200, np.random.default_rng(0)
    truth = np.mean([_mean_of_two(rng, 1, True)[0] for _ in range(1500)])
    lines = {}
    for together in (True, False):
        rng = np.random.default_rng(1)
        found = [_mean_of_two(rng, 200, together) for _ in range(studies)]
        spans = [np.nanquantile(replicates, [0.025, 0.975]) for _, replicates in found]
        held = np.mean([low <= truth <= high for low, high in spans])
        true_sd = np.std([estimate for estimate, _ in found])
        implied = np.mean([np.nanstd(replicates) for _, replicates in found])
        lines[together] = held, true_sd, implied
    with capsys.disabled():
        for together, (held, true_sd, implied) in lines.items():
            how = "together" if together else "apart"
            print(f"\ndrawn {how}: holds {held:.3f}, sd {true_sd:.4f}, by draws {implied:.4f}")
    assert lines[True][0] >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / studies) - 0.02  # percentile intervals of 60 people
    assert lines[True][2] == pytest.approx(lines[True][1], rel=0.12)
    assert lines[False][2] < 0.88 * lines[False][1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::diffiqa_hf.evaluation.EDCWarning")
def test_twelve_equally_good_methods_on_whole_studies(capsys):
    """Images, pairs and thresholds and all: of 150 people some fifty fail, by scores with as much noise each."""
    studies, said = 100, []
    for seed in range(studies):
        rng = np.random.default_rng(seed)
        people = np.repeat(np.arange(150), 2)
        noise = rng.gamma(1.0, 1.0, 300)
        pairs = np.arange(300).reshape(-1, 2)
        similarities = 3 - noise[pairs].sum(1) + 0.3 * rng.normal(size=150)
        qualities = {str(k): -noise + rng.normal(size=300) for k in range(12)}
        protocol = EDCProtocol(fmr=None, threshold=0.5)
        found = evaluate_methods(
            similarities, np.ones(150, bool), qualities, protocol, pairs=pairs, identities=people, replicates=200
        )
        differences = itertools.chain.from_iterable(found.differences(limit) for limit in protocol.limits)
        said.append(any(found.verdict(interval) in ("better", "worse") for *_, interval in differences))
    with capsys.disabled():
        print(f"\ntold apart in {np.mean(said):.3f} of {studies} whole studies")
    assert np.mean(said) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)
