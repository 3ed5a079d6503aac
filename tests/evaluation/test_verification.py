# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest

from diffiqa_hf.evaluation import (
    EDCProtocol,
    EDCWarning,
    compare_embeddings,
    edc_curve,
    edc_from_embeddings,
    error_rates,
)


def embeddings(seed=0, people=6, per_person=3):
    rng = np.random.default_rng(seed)
    identities = np.repeat([f"p{k}" for k in range(people)], per_person)
    return np.repeat(rng.normal(size=(people, 16)), per_person, 0) + rng.normal(size=(len(identities), 16)), identities


@pytest.mark.parametrize("block", [1, 4, 7, 1024])
def test_all_pairs(block):
    vectors, identities = embeddings()
    comparisons = compare_embeddings(5 * vectors, identities, block=block)
    first, second = np.triu_indices(18, 1)
    np.testing.assert_array_equal(comparisons.pairs, np.stack([first, second], 1))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(comparisons.similarities, (unit[first] * unit[second]).sum(1), atol=1e-6)
    np.testing.assert_array_equal(comparisons.mated, identities[first] == identities[second])
    assert comparisons.similarities.dtype == np.float32 and comparisons.mated.sum() == 18


@pytest.mark.parametrize("block", [1, 2, 1024])
def test_given_pairs(block):
    vectors, identities = embeddings()
    everything = compare_embeddings(vectors, identities)
    chosen = np.random.default_rng(1).permutation(len(everything.pairs))[:5]
    comparisons = compare_embeddings(vectors, identities, everything.pairs[chosen, ::-1], block=block)
    np.testing.assert_allclose(comparisons.similarities, everything.similarities[chosen], atol=1e-6)
    np.testing.assert_array_equal(comparisons.mated, everything.mated[chosen])


def test_similarity_stays_in_range():
    vectors = np.random.default_rng(0).normal(size=(1, 512)).repeat(300, 0) * np.arange(1, 301)[:, None]
    similarities = compare_embeddings(vectors, np.zeros(300)).similarities
    assert similarities.max() <= 1 and similarities.min() > 0.999999


def test_edc_from_embeddings():
    vectors, identities = embeddings()
    qualities = np.random.default_rng(2).random(18)
    protocol = EDCProtocol(fmr=0.05)
    comparisons = compare_embeddings(vectors, identities)
    expected = edc_curve(comparisons.similarities, comparisons.mated, qualities, protocol, pairs=comparisons.pairs)
    result = edc_from_embeddings(vectors, identities, qualities, protocol)
    np.testing.assert_array_equal(result.rates, expected.rates)
    assert result.mated == 18 and result.nonmated == 135
    chosen = comparisons.pairs[::2]
    assert (
        edc_from_embeddings(vectors, identities, qualities, protocol, pairs=chosen).mated
        == comparisons.mated[::2].sum()
    )


def test_repeated_pairs_are_told():
    vectors, identities = embeddings()
    with pytest.warns(EDCWarning, match="2 of 4 pairs repeat"):
        compare_embeddings(vectors, identities, [[0, 1], [1, 0], [2, 5], [0, 1]])


def test_error_rates():
    fnmr, fmr = error_rates([0.1, 0.5, 0.9, 0.2, 0.5], [1, 1, 1, 0, 0], [0.0, 0.5, 0.6, 1.0])
    np.testing.assert_allclose(fnmr, [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(fmr, [1, 1 / 2, 0, 0])
    fnmr, fmr = error_rates([0.1], [1], 0.5)
    assert fnmr == 1 and np.isnan(fmr)


@pytest.mark.parametrize(
    "vectors, identities, pairs, message",
    [
        (np.ones(3), [0, 1, 2], None, "embeddings must be"),
        (np.ones((3, 2)), [0, 1], None, "identities"),
        ([[1, 2], [0, 0]], [0, 1], None, "1 embeddings are zero or not finite, the first is number 1"),
        ([[1, 2], [np.nan, 0]], [0, 1], None, "not finite"),
        (np.ones((3, 2)), [0, 1, 2], [[0, 3]], "positions from 0 to 3"),
        (np.ones((3, 2)), [0, 1, 2], [[0.0, 1.0]], "integers"),
    ],
)
def test_refusals(vectors, identities, pairs, message):
    with pytest.raises(ValueError, match=message):
        compare_embeddings(vectors, identities, pairs)
