# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Images to batches of faces."""

import numpy as np
import torch

from diffiqa_hf import FaceImageProcessor
from diffiqa_hf.alignment import ARCFACE_TEMPLATE
from diffiqa_hf.scoring.image_stream import MAX_PENDING, collect, stream_faces


def test_landmarks_align_the_images_that_have_some():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (120, 130, 3), dtype=np.uint8) for _ in range(2)]
    points = ARCFACE_TEMPLATE + [9, 5]
    processor = FaceImageProcessor()
    ((first, aligned), (second, resized)) = next(stream_faces(images, [points, None], processor, 2))
    assert (first.index, second.index) == (0, 1) and second.landmarks is None
    np.testing.assert_allclose(first.landmarks, points)
    # The template itself, shifted by whole pixels: a cut.
    cut = (images[0][5:117, 9:121].astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)
    np.testing.assert_allclose(aligned, cut, atol=2 / 255, rtol=0)
    np.testing.assert_array_equal(resized, processor(images[1], return_tensors="np").pixel_values[0])


def test_images_without_a_face_do_not_wait_for_ever():
    taken = []

    def images():
        for i in range(2 * MAX_PENDING + 1):
            taken.append(i)
            yield np.zeros((2, 2, 3), np.uint8)

    batches = stream_faces(images(), None, FaceImageProcessor(), batch_size=4)
    first = next(batches)
    assert len(first) == len(taken) == MAX_PENDING
    assert all(face is None and "too small" in record.error for record, face in first)
    assert [len(batch) for batch in batches] == [MAX_PENDING, 1]


def test_records_of_several_kinds_become_one_output():
    image = np.zeros((32, 32, 3), np.uint8)
    (batch,) = stream_faces([image, "no such file", image], None, FaceImageProcessor(), batch_size=8)
    records = [record for record, _ in batch]
    records[0].score, records[0].terms = 0.5, {"part": 0.25}
    output = collect(records, ["part"])
    assert output.image_indices.tolist() == [0, 1, 2] and output.errors[1] == "no such file"
    torch.testing.assert_close(output.scores, torch.tensor([0.5, torch.nan, torch.nan]), equal_nan=True)
    torch.testing.assert_close(output.terms["part"], torch.tensor([0.25, torch.nan, torch.nan]), equal_nan=True)
