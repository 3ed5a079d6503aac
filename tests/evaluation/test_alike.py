# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""People who look like one person under two names."""

import numpy as np
import pytest

from diffiqa_hf.evaluation.alike import alike_people


def people(seed: int, count: int = 30, images: int = 4) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, 64))
    embeddings = np.repeat(centres, images, 0) + 0.4 * rng.normal(size=(count * images, 64))
    return embeddings.astype(np.float32), [f"p{i:02}" for i in np.repeat(np.arange(count), images)]


def test_different_people_are_not_alike():
    assert alike_people(*people(0)) == []


@pytest.mark.parametrize("shuffled", [False, True])
def test_one_man_with_several_names_is_found(shuffled):
    embeddings, names = people(1, images=6)
    # Three names for the first person, two images each.
    names[:6] = ["al", "al", "al 2", "al 2", "albert", "albert"]
    if shuffled:
        order = np.random.default_rng(0).permutation(len(names))
        embeddings, names = embeddings[order], [names[i] for i in order]
    found = alike_people(embeddings, names)
    assert {frozenset(pair.names) for pair in found} == {
        frozenset(pair) for pair in (("al", "al 2"), ("al", "albert"), ("al 2", "albert"))
    }
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    for pair in found:
        first, second = ([i for i, name in enumerate(names) if name == own] for own in pair.names)
        between = unit[first] @ unit[second].T
        assert pair.similarity == pytest.approx(between.mean(), abs=1e-5)
        assert unit[pair.images[0]] @ unit[pair.images[1]] == pytest.approx(between.max(), abs=1e-5)
        assert [names[i] for i in pair.images] == list(pair.names)


def test_all_names_may_be_of_one_man():
    embeddings, _ = people(3, count=1, images=10)
    found = alike_people(embeddings, [f"name {i // 2}" for i in range(10)])
    assert len(found) > 5


def test_unknown_people_and_missing_embeddings_are_left_out():
    embeddings, names = people(2, count=4)
    embeddings[0] = 0
    assert alike_people(embeddings, [None, *names[1:]]) == []
    assert alike_people(embeddings[:1], names[:1]) == [] == alike_people(embeddings[::4], names[::4])
