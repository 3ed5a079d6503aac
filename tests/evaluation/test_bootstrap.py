# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import itertools
import warnings

import numpy as np
import pytest

from diffiqa_hf.evaluation import EDCProtocol, EDCWarning, bootstrap_pauc, edc_curves


def study(seed=0, people=40, per_person=4):
    """Images of `people`, all pairs of them; the worse of two images lowers a mated score."""
    rng = np.random.default_rng(seed)
    identities = np.repeat(np.arange(people), per_person)
    pairs = np.stack(np.triu_indices(len(identities), 1), axis=1)
    mated = identities[pairs[:, 0]] == identities[pairs[:, 1]]
    true_quality = rng.random(len(identities))
    worse = true_quality[pairs].min(axis=1)
    similarities = np.where(mated, 0.2 + 0.6 * worse, 0) + rng.normal(0, 0.1, len(pairs))
    qualities = {
        "good": true_quality + rng.normal(0, 0.1, len(identities)),
        "fair": true_quality + rng.normal(0, 0.6, len(identities)),
        "random": rng.random(len(identities)),
    }
    return similarities, mated, qualities, identities, pairs


def copied(similarities, mated, identities, pairs, times):
    """The pairs of a draw in which each person is there `times` over, written out."""
    rows, image_of = [], {}
    for row, (first, second) in enumerate(pairs):
        for one, other in itertools.product(range(times[identities[first]]), range(times[identities[second]])):
            if mated[row] and one != other:
                continue  # a pair across two copies of one person
            ends = [
                image_of.setdefault((image, copy), len(image_of)) for image, copy in ((first, one), (second, other))
            ]
            rows.append((row, *ends))
    rows = np.array(rows)
    original = np.array([image for image, _ in image_of])
    return similarities[rows[:, 0]], mated[rows[:, 0]], original, rows[:, 1:]


PROTOCOLS = {
    "default": EDCProtocol(fmr=0.01),
    "quantile": EDCProtocol(fmr=0.01, fmr_rule="quantile"),
    "schlett": EDCProtocol.from_preset("schlett"),
    "diffiqa": EDCProtocol.from_preset("diffiqa", fmr=0.01),
    "cr-fiqa": EDCProtocol.from_preset("cr-fiqa", fmr=0.01, limits=(0.5,)),
    "pool": EDCProtocol(fmr=0.01, discard="all", interpolation="linear"),
    "images": EDCProtocol(fmr=0.01, discard="images", step=0.1),
    "images, recomputed": EDCProtocol(
        fmr=0.01, discard="images", threshold_update="recomputed", ties="random", step=0.1
    ),
    "fmr": EDCProtocol(fmr=0.01, error="fmr", discard="nonmated"),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_replicate_is_the_study_with_its_people_copied(name):
    protocol = PROTOCOLS[name]
    similarities, mated, qualities, identities, pairs = study(people=14)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EDCWarning)
        result = bootstrap_pauc(
            similarities, mated, qualities, identities, protocol, pairs=pairs, replicates=3, seed=5
        )
        rng = np.random.default_rng(5)
        for replicate, fnmr in zip(result.replicates, result.fnmr_replicates, strict=True):
            times = np.bincount(rng.integers(14, size=14), minlength=14)
            scores, flags, original, ends = copied(similarities, mated, identities, pairs, times)
            # (copies of one person are other people to each other; no pair compares them)
            expected = edc_curves(scores, flags, {k: v[original] for k, v in qualities.items()}, protocol, pairs=ends)
            np.testing.assert_allclose(replicate, [list(expected[k].pauc.values()) for k in qualities], rtol=1e-9)
            assert fnmr == pytest.approx(expected["good"].fnmr, rel=1e-12)
        as_it_is = edc_curves(similarities, mated, qualities, protocol, pairs=pairs)
    np.testing.assert_allclose(result.estimates, [list(as_it_is[k].pauc.values()) for k in qualities])
    assert result.identities == 14 and result.fnmr == pytest.approx(as_it_is["good"].fnmr, rel=1e-12)


def test_intervals_and_differences():
    similarities, mated, qualities, identities, pairs = study()
    qualities["same"] = 3 * qualities["good"] - 1
    protocol = EDCProtocol(fmr=0.01)
    result = bootstrap_pauc(similarities, mated, qualities, identities, protocol, pairs=pairs, replicates=200)
    good = result.interval("good", 0.2)
    assert good.low < good.estimate < good.high < 1 and good.undefined == 0 and good.confidence == 0.95
    narrow = result.interval("good", 0.2, confidence=0.5)
    assert good.low < narrow.low < narrow.high < good.high
    better = result.difference("good", "random", 0.2)
    assert better.excludes_zero and better.high < 0
    assert better.estimate == good.estimate - result.interval("random", 0.2).estimate
    worse = result.difference("random", "good", 0.2)
    assert worse.excludes_zero and worse.low == pytest.approx(-better.high)
    # What two methods share drops out of their difference: here, everything.
    same = result.difference("good", "same", 0.2)
    assert (same.estimate, same.low, same.high) == (0, 0, 0) and not same.excludes_zero
    with pytest.raises(ValueError, match="confidence"):
        result.interval("good", 0.2, confidence=95)
    # FNMR(0): what binomial draws of as many people would have at least, as each brings six pairs.
    fnmr = result.fnmr_interval()
    assert 0 < fnmr.low < fnmr.estimate < fnmr.high < 1 and fnmr.estimate == result.fnmr and fnmr.undefined == 0
    assert fnmr.high - fnmr.low > 2 * 1.96 * np.sqrt(fnmr.estimate * (1 - fnmr.estimate) / mated.sum())


def test_two_random_methods_cannot_be_told_apart():
    similarities, mated, qualities, identities, pairs = study(seed=3)
    rng = np.random.default_rng(9)
    noise = {"one": rng.random(len(identities)), "other": rng.random(len(identities))}
    result = bootstrap_pauc(similarities, mated, noise, identities, EDCProtocol(fmr=0.01), pairs=pairs, replicates=200)
    assert not result.difference("one", "other", 0.3).excludes_zero


def test_intervals_hold_the_value_of_the_population():
    """Of 20 small studies, 95 % intervals must hold the pAUC of a large one in 15 or more."""
    protocol = EDCProtocol(fmr=None, threshold=0.35, limits=(0.3,))
    similarities, mated, qualities, _, pairs = study(seed=1, people=400, per_person=3)
    truth = edc_curves(similarities, mated, {"q": qualities["fair"]}, protocol, pairs=pairs)["q"].pauc[0.3]
    held = 0
    for seed in range(100, 120):
        similarities, mated, qualities, identities, pairs = study(seed=seed, people=40, per_person=3)
        result = bootstrap_pauc(
            similarities, mated, {"q": qualities["fair"]}, identities, protocol, pairs=pairs, replicates=60
        )
        interval = result.interval("q", 0.3)
        held += interval.low <= truth <= interval.high
    assert held >= 15


def test_the_seed_decides():
    similarities, mated, qualities, identities, pairs = study(people=12)
    runs = [
        bootstrap_pauc(
            similarities, mated, qualities, identities, EDCProtocol(fmr=0.01), pairs=pairs, replicates=5, seed=seed
        ).replicates
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


def test_identities_of_pairs_or_of_images():
    similarities, mated, qualities, identities, pairs = study(people=12)
    names = np.array([f"person {k}" for k in identities])
    protocol = EDCProtocol(fmr=0.01)
    by_image = bootstrap_pauc(similarities, mated, qualities, names, protocol, pairs=pairs, replicates=4)
    two = {k: (v[pairs[:, 0]], v[pairs[:, 1]]) for k, v in qualities.items()}
    by_pair = bootstrap_pauc(
        similarities, mated, two, (names[pairs[:, 0]], names[pairs[:, 1]]), protocol, replicates=4
    )
    np.testing.assert_allclose(by_pair.replicates, by_image.replicates)
    # An image in no pair, and its person, were not in the study.
    more = {k: np.append(v, 0) for k, v in qualities.items()}
    with_bystander = bootstrap_pauc(
        similarities, mated, more, np.append(names, "nobody"), protocol, pairs=pairs, replicates=4
    )
    np.testing.assert_allclose(with_bystander.replicates, by_image.replicates)
    assert with_bystander.identities == 12


def test_refusals():
    similarities, mated, qualities, identities, pairs = study(people=12)
    protocol = EDCProtocol(fmr=0.01)
    wrong = identities.copy()
    wrong[0] = 3
    with pytest.raises(ValueError, match="contradict mated"):
        bootstrap_pauc(similarities, mated, qualities, wrong, protocol, pairs=pairs)
    with pytest.raises(ValueError, match="for each image"):
        bootstrap_pauc(similarities, mated, qualities, identities[:-1], protocol, pairs=pairs)
    with pytest.raises(ValueError, match="replicates"):
        bootstrap_pauc(similarities, mated, qualities, identities, protocol, pairs=pairs, replicates=0)
    fixed = EDCProtocol(fmr=None, threshold=0.5)
    with pytest.raises(ValueError, match="one identity"):
        bootstrap_pauc([0.1, 0.9], [1, 1], {"q": ([1, 2], [1, 2])}, (["a", "a"], ["a", "a"]), fixed)
    with pytest.raises(ValueError, match="at least 10,000 non-mated"):
        bootstrap_pauc(similarities, mated, qualities, identities, EDCProtocol(fmr=1e-4), pairs=pairs)


def test_replicates_without_an_error_are_counted():
    # One person of three has the only error.
    names = np.repeat(["a", "b", "c"], 2)
    similarities, pairs = [0.1, 0.9, 0.9], [[0, 1], [2, 3], [4, 5]]
    with pytest.warns(EDCWarning, match="no error to start from"):
        result = bootstrap_pauc(
            similarities, [1] * 3, {"q": np.arange(6)}, names, EDCProtocol(fmr=None, threshold=0.5), pairs=pairs,
            replicates=100,
        )  # fmt: skip
    interval = result.interval("q", 0.3)
    assert 10 < interval.undefined < 50 and not np.isnan([interval.low, interval.high]).any()  # (2/3)^3 of 100


def test_fnmr_without_an_error_and_without_pairs():
    names = np.repeat(["a", "b", "c"], 2)
    pairs, similarities = [[0, 1], [2, 4], [3, 5]], [0.9, 0.1, 0.6]
    protocol = EDCProtocol(fmr=None, threshold=0.5, error="fmr", discard="nonmated")
    with pytest.warns(EDCWarning, match="no error to start from"):
        result = bootstrap_pauc(
            similarities, [1, 0, 0], {"q": np.arange(6)}, names, protocol, pairs=pairs, replicates=100
        )
    # Of the 27 draws six have both kinds of pairs: a with a, and b with c.
    interval = result.fnmr_interval()
    assert (interval.estimate, interval.low, interval.high) == (0, 0, 0) and 65 < interval.undefined < 90
