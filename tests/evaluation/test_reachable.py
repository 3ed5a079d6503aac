# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What an order of images could reach, against every order."""

import itertools

import numpy as np
import pytest

from diffiqa_hf.evaluation import EDCProtocol, edc_curve, edc_curves


pytestmark = pytest.mark.filterwarnings("ignore::diffiqa_hf.evaluation.EDCWarning")


def test_three_images_and_three_pairs():
    """The error of two images leaves with one of them, and that one's other pair as well: past the limit."""
    protocol = EDCProtocol(fmr=None, threshold=0.5, limits=(0.5,))
    result = edc_curve([0.1, 0.9, 0.9], [1, 1, 1], [1, 2, 3], protocol, pairs=[[0, 1], [0, 2], [1, 2]])
    assert result.floor[0.5] == pytest.approx(2 / 3)
    assert result.reachable[0.5] == (pytest.approx(1), pytest.approx(1))
    assert result.share[0.5] == 0  # as all orders have


@pytest.mark.parametrize("discard", ["mated", "all", "images"])
@pytest.mark.parametrize("step", [None, 0.1])
def test_the_best_of_all_orders_lies_between(discard, step):
    rng = np.random.default_rng(7)
    protocol = EDCProtocol(fmr=None, threshold=0.35, limits=(0.3, 0.6), discard=discard, step=step)
    tight = checked = 0
    for _ in range(12):
        pairs = np.array(list(itertools.combinations(range(5), 2)))
        pairs = pairs[rng.permutation(10)[: rng.integers(4, 11)]]
        similarities = rng.random(len(pairs))
        mated = rng.random(len(pairs)) < (0.7 if discard == "all" else 2)
        if not mated.any() or (similarities[mated] >= 0.35).all():
            continue
        orders = {order: np.array(order, float) for order in itertools.permutations(range(5))}
        results = edc_curves(similarities, mated, orders, protocol, pairs=pairs)
        bounds = results[0, 1, 2, 3, 4].reachable
        for limit in protocol.limits:
            best = min(result.pauc[limit] for result in results.values())
            low, high = bounds[limit]
            assert results[0, 1, 2, 3, 4].floor[limit] - 1e-12 <= low <= best + 1e-12 <= high + 2e-12
            tight += best == pytest.approx(high)
            checked += 1
    assert checked >= 10 and tight > 0.8 * checked  # what is found is nearly always the best


def test_where_there_is_nothing_to_say():
    fixed = EDCProtocol(fmr=None, threshold=0.5)
    similarities, mated, qualities = [0.1, 0.9, 0.2, 0.9], [1, 1, 1, 1], np.arange(8.0)
    disjoint = np.arange(8).reshape(4, 2)
    assert edc_curve(similarities, mated, qualities, fixed, pairs=disjoint).reachable is None
    assert edc_curve(similarities, mated, (qualities[::2], qualities[1::2]), fixed).reachable is None
    chain = [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert edc_curve(similarities, mated, qualities, fixed, pairs=chain).reachable is not None
    mean = EDCProtocol(fmr=None, threshold=0.5, pair_quality="mean")
    assert edc_curve(similarities, mated, qualities, mean, pairs=chain).reachable is None
