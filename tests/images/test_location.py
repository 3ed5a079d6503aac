# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Faces are found at the same place whatever the size of a picture, and whichever way up it is."""

import io

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf.alignment import FaceDetection, YuNetFaceDetector
from diffiqa_hf.images.extraction import FaceExtractor
from diffiqa_hf.images.location import _turned_back, find_faces, look_again


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_places_of_a_turned_picture_are_turned_back(quarters):
    places = np.array([[3, 2], [30, 4], [17, 11], [5, 19], [33, 15]])
    picture = np.zeros((21, 40), np.uint8)
    for number, (x, y) in enumerate(places, 1):
        picture[y, x] = number
    turned = np.rot90(picture, quarters)
    found = np.array([np.argwhere(turned == number)[0][::-1] for number in range(1, 6)])
    left, top = found.min(0)
    box = np.array([left, top, *(found.max(0) - [left, top] + 1)], np.float32)
    face = _turned_back(FaceDetection(found.astype(np.float32), box, 0.9), picture.shape, quarters)
    assert np.array_equal(face.landmarks, places)
    assert np.array_equal(face.box, [3, 2, 31, 18])


@pytest.fixture(scope="module")
def detector(shared_dir) -> YuNetFaceDetector:
    return YuNetFaceDetector(shared_dir / "weights" / "yunet" / "yunet_n_dynamic.onnx")


@pytest.fixture(scope="module")
def photographs(shared_dir) -> list[Image.Image]:
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(shared_dir / "data" / "lfw" / "raw_sample.parquet", columns=["image"])
    return [Image.open(io.BytesIO(row["bytes"])).convert("RGB") for row in table["image"].to_pylist()[:12]]


@pytest.mark.shared
def test_a_photograph_on_its_side_or_head_gives_the_same_face(detector, photographs):
    extractor = FaceExtractor(do_align=True, detector=detector.model)
    for photograph in photographs:
        upright = extractor.extract_faces(photograph)[0]
        for quarters in (1, 2, 3):
            turned = Image.fromarray(np.ascontiguousarray(np.rot90(np.asarray(photograph), quarters)))
            crop = extractor.extract_faces(turned)[0]
            # The mean over the crop of what two detections of one face differ by: under a tenth of [-1, 1].
            assert np.abs(crop.pixel_values - upright.pixel_values).mean() < 0.2


@pytest.mark.shared
def test_points_move_less_with_the_size_of_a_picture_after_a_second_look(detector, photographs):
    once, twice = [], []
    for photograph in photographs[:6]:
        found = {1: [], 2: []}
        for side in (300, 500, 1000):
            picture = np.asarray(photograph.resize((side, side), Image.Resampling.BICUBIC))
            face = find_faces(detector, picture)[0]
            for number, of in ((1, face), (2, look_again(detector, picture, face))):
                found[number].append((of.landmarks + 0.5) / side)
        once.append(np.std(found[1], axis=0).mean())
        twice.append(np.std(found[2], axis=0).mean())
    assert np.mean(twice) < 0.7 * np.mean(once)


@pytest.mark.shared
def test_nothing_is_found_where_nothing_is(detector):
    picture = np.zeros((200, 300, 3), np.uint8)
    assert find_faces(detector, picture) == []
    nowhere = FaceDetection(np.zeros((5, 2), np.float32), np.array([500, 500, 20, 20], np.float32), 0.7)
    assert look_again(detector, picture, nowhere) is nowhere
