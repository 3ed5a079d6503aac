# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""How long a training waits for its data."""

import itertools
import time

from diffiqa_hf.training.batches import TimedBatches


def test_waiting_is_counted_and_what_is_done_between_is_not():
    def slow():
        for number in itertools.count():
            time.sleep(0.02)
            yield number

    batches = TimedBatches(slow())
    assert [next(batches) for _ in range(3)] == [0, 1, 2] and iter(batches) is batches
    first = batches.waited_since()
    assert first == batches.waited >= 0.06
    time.sleep(0.05)
    assert batches.waited_since() == 0 and batches.waited == first
    next(batches)
    assert 0.02 <= batches.waited_since() == batches.waited - first
