# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Who is not known is one person with nobody, in whatever way a table says so."""

import math

import numpy as np
import pytest

from diffiqa_hf.evaluation import (
    EDCProtocol,
    EDCWarning,
    bootstrap_pauc,
    compare_embeddings,
    edc_curve,
    evaluate_methods,
    sample_pairs,
)
from diffiqa_hf.evaluation.benchmarks.layouts import draw_pairs
from diffiqa_hf.evaluation.identities import UNKNOWN, identity_codes, is_known


pandas = pytest.importorskip("pandas")
NOBODY = {
    "none": None,
    "nan": math.nan,
    "empty": "",
    "blank": "  ",
    "numpy": np.float64("nan"),
    "pandas": pandas.NA,
    "time": pandas.NaT,
}


@pytest.mark.parametrize("nobody", NOBODY.values(), ids=NOBODY)
def test_codes(nobody):
    codes, people = identity_codes(["b", nobody, "a", nobody, "b"])
    assert codes.tolist() == [1, UNKNOWN, 0, UNKNOWN, 1] and people.tolist() == ["a", "b"]


def test_kinds_of_labels():
    assert identity_codes([3, 1, 3])[0].tolist() == [1, 0, 1]
    assert identity_codes(np.array([3.0, math.nan, 1.0]))[0].tolist() == [1, UNKNOWN, 0]
    assert identity_codes(np.array(["b", "", "a"]))[0].tolist() == [1, UNKNOWN, 0]
    column = pandas.Series(["b", None, "a", "b"])
    for as_kind in (column, column.astype("string"), column.astype("category"), column.to_numpy(), column.tolist()):
        assert identity_codes(as_kind)[0].tolist() == [1, UNKNOWN, 0, 1]
    assert identity_codes(pandas.Series([2, None, 1], dtype="Int64"))[0].tolist() == [1, UNKNOWN, 0]
    # A person may be called so.
    assert is_known(["None", "nan", "null", 0, False]).all()
    # Kinds that have no order among each other.
    assert len(set(identity_codes(["1", 1, ("a",), 1])[0].tolist())) == 3
    with pytest.raises(ValueError, match="one dimension"):
        identity_codes(np.zeros((2, 2)))


def study(nobody, seed=0):
    """Forty people with four images; every eighth image of nobody, five of whom show the same person."""
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(40), 4)
    labels = [nobody if i % 8 == 3 else f"p{k}" for i, k in enumerate(people)]
    embeddings = rng.normal(size=(40, 12))[people] + rng.normal(size=(160, 12))
    known = np.array([i % 8 != 3 for i in range(160)])
    return embeddings, labels, known, people, rng.random(160)


@pytest.mark.parametrize("nobody", NOBODY.values(), ids=NOBODY)
def test_the_fnmr_is_that_of_the_known(nobody):
    embeddings, labels, known, people, qualities = study(nobody)
    protocol = EDCProtocol(fmr=0.01)
    with pytest.warns(EDCWarning, match="not known who is on 20 of 160 images: 2,990 of 12,720 pairs are left out"):
        compared = compare_embeddings(embeddings, labels)
    result = edc_curve(compared.similarities, compared.mated, qualities, protocol, pairs=compared.pairs)
    alone = compare_embeddings(embeddings[known], people[known])
    expected = edc_curve(alone.similarities, alone.mated, qualities[known], protocol, pairs=alone.pairs)
    assert (result.mated, result.nonmated) == (expected.mated, expected.nonmated)
    assert (result.fnmr, result.pauc) == (expected.fnmr, expected.pauc)
    given = np.array([[3, 11], [0, 1], [0, 4], [3, 0]])
    with pytest.warns(EDCWarning, match="2 of 4 pairs"):
        assert compare_embeddings(embeddings, labels, given).pairs.tolist() == [[0, 1], [0, 4]]


@pytest.mark.parametrize("nobody", NOBODY.values(), ids=NOBODY)
@pytest.mark.parametrize("nonmated", [500, 100_000])
def test_no_pair_is_drawn_of_the_unknown(nobody, nonmated):
    _, labels, known, people, _ = study(nobody)
    with pytest.warns(EDCWarning, match="not known who is on 20 of 160 images: they are in no pair"):
        pairs, mated = sample_pairs(labels, 2, nonmated, seed=1)
    alone, of_known = sample_pairs(people[known], 2, nonmated, seed=1)
    np.testing.assert_array_equal(pairs, np.flatnonzero(known)[alone])
    np.testing.assert_array_equal(mated, of_known)
    drawn, _ = draw_pairs(labels, 100, 0)
    assert known[drawn].all()


@pytest.mark.parametrize("nobody", NOBODY.values(), ids=NOBODY)
def test_listed_mated_pairs_of_the_unknown_are_left_out_and_counted(nobody):
    embeddings, labels, known, people, qualities = study(nobody)
    listed = compare_embeddings(embeddings, people)
    protocol = EDCProtocol(fmr=0.01)
    arguments = listed.similarities, listed.mated, {"q": qualities}, protocol
    more = {"pairs": listed.pairs, "identities": labels, "replicates": 20}
    evaluation = evaluate_methods(*arguments, **more)
    kept = ~listed.mated | known[listed.pairs].all(axis=1)
    assert (~kept).sum() == 60  # of each second person one image
    assert any(note.startswith("60 of 12,720 pairs are called mated") for note in evaluation.notes)
    expected = edc_curve(listed.similarities[kept], listed.mated[kept], qualities, protocol, pairs=listed.pairs[kept])
    assert evaluation.results["q"].pauc == expected.pauc and evaluation.bootstrap.identities == 60
    with pytest.warns(EDCWarning, match="60 of 12,720 pairs are called mated"):
        alone = bootstrap_pauc(*arguments[:3], labels, protocol, pairs=listed.pairs, replicates=20)
    np.testing.assert_array_equal(alone.replicates, evaluation.bootstrap.replicates)
    assert alone.estimates[0].tolist() == list(expected.pauc.values())
    sides = tuple([labels[i] for i in end] for end in listed.pairs.T)
    two = {"q": tuple(qualities[end] for end in listed.pairs.T)}
    with pytest.warns(EDCWarning, match="60 of 12,720"):
        by_pair = bootstrap_pauc(listed.similarities, listed.mated, two, sides, protocol, replicates=5)
    assert by_pair.estimates[0].tolist() == list(expected.pauc.values())
