# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Threads that work ahead, and results that come in order."""

import threading
import time

import numpy as np
import pytest

from diffiqa_hf.images.extraction import FaceExtractor
from diffiqa_hf.scoring.image_stream import READ_AHEAD, stream_faces
from diffiqa_hf.scoring.threads import cores, in_order


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_are_in_order_and_bounded(threads):
    done, random = [], np.random.default_rng(0)
    pauses = random.uniform(0, 2e-3, 40)

    def work(item: int) -> int:
        time.sleep(pauses[item])
        done.append(item)
        return item * item

    for count, result in enumerate(in_order(work, range(40), threads, lambda: 5)):
        assert result == count**2
        # No more has been begun than the window lets; the one that has just come no longer counts.
        assert len(done) <= count + 1 + 5
    assert sorted(done) == list(range(40))


def test_others_go_on_while_one_is_slow():
    slow, others = threading.Event(), []

    def work(item: int) -> int:
        if item == 0:
            assert slow.wait(10)
        others.append(item)
        return item

    results = in_order(work, range(20), 2, lambda: 8)
    found = []
    reader = threading.Thread(target=lambda: found.append(next(results)))
    reader.start()
    deadline = time.monotonic() + 10
    while len(others) < 7 and time.monotonic() < deadline:
        time.sleep(1e-3)
    assert others == [1, 2, 3, 4, 5, 6, 7] and not found  # up to the window, in the only thread that is free
    slow.set()
    reader.join(10)
    assert found == [0] and list(results) == list(range(1, 20))


@pytest.mark.parametrize("threads", [1, 3])
def test_errors_come_in_their_place(threads):
    def items():
        yield from range(4)
        raise KeyError("of the items")

    results = in_order(str, items(), threads, lambda: 10)
    assert [next(results) for _ in range(4)] == ["0", "1", "2", "3"]
    with pytest.raises(KeyError, match="of the items"):
        next(results)

    results = in_order(lambda item: 1 / item, [2, 0, 1], threads, lambda: 10)
    assert next(results) == 0.5
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_who_stops_waits_for_nobody():
    begun = threading.Event()
    release = threading.Event()

    def work(item: int) -> int:
        if item:
            begun.set()
            release.wait(10)
        return item

    results = in_order(work, range(50), 1, lambda: 10)
    assert next(results) == 0 and begun.wait(10)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 5 and not release.is_set()
    release.set()


def test_images_are_read_ahead_of_their_batch_but_not_all_of_them():
    class Images(list):
        taken = 0

        def __iter__(self):
            for image in list.__iter__(self):
                self.taken += 1
                yield image

    images = Images([np.full((112, 112, 3), 7, np.uint8)] * 300)
    batches = stream_faces(images, None, FaceExtractor(), batch_size=4, threads=2)
    assert len(next(batches)) == 4
    assert 4 <= images.taken <= 4 + READ_AHEAD
    assert sum(map(len, batches)) == 296 and images.taken == 300
    assert cores() >= 1


def test_crops_of_the_size_are_not_resized(monkeypatch):
    from PIL import Image

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8))
    monkeypatch.setattr(Image.Image, "resize", lambda *_, **__: pytest.fail("resized"))
    (crop,) = FaceExtractor().extract_faces(picture)
    np.testing.assert_array_equal(crop.pixel_values, (np.asarray(picture) / np.float32(127.5) - 1).transpose(2, 0, 1))
