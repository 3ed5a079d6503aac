# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Large JPEG photographs are decoded at a reduced size where the face stays larger than its crop."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf.alignment import ARCFACE_TEMPLATE, FaceDetection
from diffiqa_hf.images import extraction, location
from diffiqa_hf.images.extraction import FaceExtractor


FACE = Path(__file__).parents[2] / "examples" / "faces" / "astronaut.jpg"


def photograph(scale: float, width: int = 2400, height: int = 1800) -> tuple[bytes, Image.Image, np.ndarray]:
    """A JPEG with the face enlarged by `scale`, the picture without losses of another size, and the five points."""
    face = Image.open(FACE).convert("RGB")
    ground = np.random.default_rng(0).integers(90, 160, (30, 40, 3), dtype=np.uint8)
    picture = Image.fromarray(ground).resize((width, height), Image.Resampling.BICUBIC)
    side = round(112 * scale)
    left, top = (width - side) // 2, (height - side) // 3
    picture.paste(face.resize((side, side), Image.Resampling.BICUBIC), (left, top))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95)
    whole = Image.open(io.BytesIO(file.getvalue())).convert("RGB")
    return file.getvalue(), whole, (ARCFACE_TEMPLATE + 0.5) * scale - 0.5 + [left, top]


@pytest.fixture
def factors(monkeypatch):
    """By which the pictures that are read were reduced."""
    found, read = [], extraction.read_image

    def watched(*args):
        picture, factor = read(*args)
        found.append(factor)
        return picture, factor

    monkeypatch.setattr(extraction, "read_image", watched)
    return found


@pytest.mark.parametrize("scale,expected", [(0.9, 1), (2.1, 2), (4.3, 4), (9.0, 8)])
def test_points_that_are_given_say_how_small_the_picture_may_be(factors, scale, expected):
    data, whole, points = photograph(scale)
    (found,) = FaceExtractor().extract_faces({"bytes": data, "path": None}, points)
    assert factors == [expected]
    (full,) = FaceExtractor().extract_faces(whole, points)
    np.testing.assert_allclose(found.landmarks, points)
    # A reduced decoding is a mean over blocks, as align_face's own reduction is.
    assert np.abs(found.pixel_values - full.pixel_values).mean() < 2 / 127.5


@pytest.mark.parametrize("scale,expected", [(0.9, [2, 1]), (1.5, [2, 1]), (2.2, [2]), (6.5, [2])])
def test_a_face_that_is_found_small_is_read_again(factors, monkeypatch, scale, expected):
    data, whole, points = photograph(scale)

    class Detector:
        def detect(self, image: np.ndarray) -> list[FaceDetection]:
            if image.shape[1] == location.SIDE:  # the second look, which finds nothing better
                return []
            factor = whole.width / image.shape[1]
            low, high = points.min(0), points.max(0)
            box = np.concatenate([low, high - low]) / factor
            return [FaceDetection(((points + 0.5) / factor - 0.5).astype(np.float32), box.astype(np.float32), 0.95)]

    monkeypatch.setattr(FaceExtractor, "_face_detector", lambda self: Detector())
    (found,) = FaceExtractor(do_align=True).extract_faces(io.BytesIO(data))
    assert factors == expected  # 2400 pixels are halved for a detector that looks at 640 and more
    (full,) = FaceExtractor(do_align=True).extract_faces(whole)
    np.testing.assert_allclose(found.landmarks, points, atol=0.01)
    np.testing.assert_allclose(found.box, full.box, atol=0.01)
    assert np.abs(found.pixel_values - full.pixel_values).mean() < 2 / 127.5


@pytest.mark.shared
def test_scores_of_reduced_photographs_differ_by_less_than_the_alignment_does(shared_dir):
    """Of real photographs, enlarged to 12 megapixels: against the noise of points that are off by a pixel in 250."""
    import pyarrow.parquet as pq

    from diffiqa_hf.methods import load_method

    rows = pq.read_table(shared_dir / "data" / "lfw" / "raw_sample.parquet").slice(0, 12).to_pylist()
    method = load_method("diffiqa-r")
    files, pictures, points = [], [], []
    for row in rows:
        picture = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
        scale = 3500 / picture.width
        large = picture.resize((3500, round(picture.height * scale)), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        large.save(file, "JPEG", quality=92)
        files.append({"bytes": file.getvalue(), "path": None})
        pictures.append(Image.open(io.BytesIO(file.getvalue())).convert("RGB"))
        points.append((np.array(row["landmarks"]) + 0.5) * scale - 0.5)
    reduced, full = method(files, points).scores, method(pictures, points).scores
    shifted = method(pictures, [p + 14 * np.array([1, -1]) for p in points]).scores
    assert (reduced - full).abs().mean() < 0.5 * (shifted - full).abs().mean()
