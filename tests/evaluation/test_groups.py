# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores and errors by group: the counts, the weights of a replicate, and what is told apart."""

import numpy as np
import pytest

from diffiqa_hf.evaluation import EDCProtocol, compare_groups
from diffiqa_hf.evaluation.groups import _Part
from diffiqa_hf.evaluation.thresholds import PairSet


PROTOCOL = EDCProtocol(fmr=None, threshold=0.5)


def a_study(seed: int = 0, people: int = 80, each: int = 4, worse: float = 0.0):
    """Two groups of people; of the second, a quarter, scores and similarities are lower by `worse`."""
    rng = np.random.default_rng(seed)
    identities = np.repeat(np.arange(people), each)
    groups = np.where(identities % 4 == 0, "few", "many")
    lower = worse * (groups == "few")
    scores = rng.normal(size=len(identities)) - lower
    first, second = np.triu_indices(len(identities), 1)
    mated = identities[first] == identities[second]
    similarities = np.where(mated, 0.9, 0.1) + 0.25 * rng.normal(size=len(first))
    similarities -= mated * 0.2 * np.maximum(lower[first], lower[second])
    return scores, groups, identities, similarities, mated, np.stack([first, second], 1)


def test_the_figures_are_counts():
    scores, groups, identities, similarities, mated, pairs = a_study()
    found = compare_groups({"a": scores}, groups, identities, similarities, mated, pairs, PROTOCOL, replicates=20)
    assert [entry.group for entry in found.groups] == ["many", "few"] and found.ungrouped == found.between == 0
    limit = np.quantile(scores, 0.1, method="lower")
    assert found.thresholds["a"] == pytest.approx(limit) and found.similarity == 0.5
    for entry in found.groups:
        mine = groups == entry.group
        within = mine[pairs].all(axis=1)
        wrong = within & mated & (similarities < 0.5)
        assert (entry.images, entry.people) == (mine.sum(), len(set(identities[mine])))
        assert entry.medians["a"].estimate == pytest.approx(np.median(scores[mine]))
        assert entry.below["a"].estimate == pytest.approx(np.mean(scores[mine] < limit))
        assert (entry.mated, entry.errors) == ((within & mated).sum(), wrong.sum())
        assert entry.failing == len(set(identities[pairs[wrong, 0]]))
        assert entry.fnmr.estimate == pytest.approx(wrong.sum() / (within & mated).sum())
        assert entry.nonmated == (within & ~mated).sum()
        assert entry.fmr == pytest.approx(np.mean(similarities[within & ~mated] >= 0.5))


def test_a_person_who_is_drawn_twice_counts_twice():
    scores, groups, identities, similarities, mated, pairs = a_study(people=12)
    data = PairSet(similarities, mated, pairs, PROTOCOL)
    weights = np.random.default_rng(1).integers(0, 4, 12)
    codes = (groups == "few").astype(int)
    part = _Part(0, codes, identities, 12, {"a": scores}, {"a": 0.0}, data, 0.5)
    mine = np.repeat(scores[codes == 0], weights[identities[codes == 0]])
    of_pairs = weights[identities[pairs[:, 0]]] * (mated & (codes[pairs] == 0).all(axis=1))
    fnmr = np.average(similarities < 0.5, weights=of_pairs)
    assert part.figures(weights) == pytest.approx([np.median(mine), np.mean(mine < 0), fnmr])


def test_groups_that_differ_are_told_apart_and_others_are_not():
    for worse in (0.0, 1.5):
        study = a_study(worse=worse)
        found = compare_groups({"a": study[0]}, *study[1:], PROTOCOL, replicates=300)
        by_figure = {entry.figure: entry for entry in found.differences}
        assert by_figure.keys() == {"median", "below", "fnmr"}
        assert [entry.told_apart for entry in by_figure.values()] == [worse > 0] * 3
        median = by_figure["median"].interval
        assert median.low <= worse <= median.high if worse else median.low < 0 < median.high
    # Of few people in error nothing is told apart.
    few = a_study(people=8, worse=1.5)
    found = compare_groups({"a": few[0]}, *few[1:], PROTOCOL, replicates=50)
    assert sum(entry.failing for entry in found.groups) < 10
    assert not next(entry for entry in found.differences if entry.figure == "fnmr").told_apart


def test_images_without_a_group_or_a_score():
    scores, groups, identities, similarities, mated, pairs = a_study(people=12)
    groups = groups.astype(object)
    groups[[1, 2]] = None, ""
    scores[np.flatnonzero(groups == "few")[:3]] = np.nan
    found = compare_groups({"a": scores}, groups, identities, similarities, mated, pairs, PROTOCOL, replicates=20)
    assert found.ungrouped == 2 and sum(entry.images for entry in found.groups) == 46
    # Of the first person, who has four images, one pair of six is left.
    assert found.between == 5 and sum(entry.mated for entry in found.groups) == 67
    few = next(entry for entry in found.groups if entry.group == "few")
    assert few.below["a"].estimate >= 3 / few.images
    assert found.to_dict()["groups"][0]["group"] == "many"
    with pytest.raises(ValueError, match="two groups or more"):
        compare_groups({"a": scores}, np.full(48, "x"), identities, similarities, mated, pairs, PROTOCOL)
    with pytest.raises(ValueError, match="a value for each image"):
        compare_groups({"a": scores[1:]}, groups, identities, similarities, mated, pairs, PROTOCOL)
