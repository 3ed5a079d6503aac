# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What is measured of a face, and the reasons that follow."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from diffiqa_hf import load_method
from diffiqa_hf.alignment import ARCFACE_TEMPLATE, arcface_template
from diffiqa_hf.images.measures import measure_face
from diffiqa_hf.images.reasons import MEASURES, reasons


FACE = Path(__file__).parents[2] / "examples" / "faces" / "astronaut.jpg"


@pytest.fixture(scope="module")
def face() -> Image.Image:
    return Image.open(FACE).convert("RGB")


def measured(picture: Image.Image, landmarks=None, size=(112, 112), faces=None) -> dict:
    return measure_face(np.asarray(picture), landmarks, size, faces)


def test_measures_say_what_was_done_to_a_face(face):
    plain = measured(face)
    assert set(plain) == set(MEASURES) and not reasons(plain)
    assert all(plain[name] is None for name in ("faces", "inter_eye_distance", "yaw", "pitch", "roll", "cut"))
    pixels = np.asarray(face).astype(float)
    dark = measured(Image.fromarray((pixels * 0.08).astype(np.uint8)))
    assert dark["brightness"] == pytest.approx(plain["brightness"] * 0.08, abs=0.6) and dark["underexposed"] > 95
    assert any("dark" in reason for reason in reasons(dark))
    bright = measured(Image.fromarray(np.clip(pixels * 3 + 90, 0, 255).astype(np.uint8)))
    assert bright["overexposed"] > 50 and any("bright" in reason for reason in reasons(bright))
    flat = measured(Image.fromarray((pixels * 0.1 + 110).astype(np.uint8)))
    assert flat["contrast"] == pytest.approx(plain["contrast"] * 0.1, rel=0.2)
    assert any("flat" in reason for reason in reasons(flat))
    sharp = [measured(face.filter(ImageFilter.GaussianBlur(sigma)))["sharpness"] for sigma in (0, 1, 2, 4)]
    assert sharp == sorted(sharp, reverse=True)
    assert any("blurred" in reason for reason in reasons({"sharpness": sharp[-1]}))


def test_black_and_white_are_measured(face):
    for value in (0, 255):
        found = measured(Image.new("RGB", (112, 112), (value,) * 3))
        found = [found[name] for name in ("brightness", "contrast", "sharpness")]
        assert found == pytest.approx([value / 2.55, 0, 0], abs=0.01)


def test_the_place_of_a_face_in_its_photograph(face):
    points = ARCFACE_TEMPLATE * 2 + [60, 40]
    found = measured(face, points, (400, 300), 3)
    distance = np.hypot(*(points[1] - points[0]))
    assert found["inter_eye_distance"] == pytest.approx(distance, rel=1e-3)
    assert (found["yaw"], found["roll"]) == pytest.approx((0, 0), abs=1) and found["cut"] == 0 and found["faces"] == 3
    assert reasons(found) == ["one of 3 faces in the picture, the largest"]
    # A third of the face lies left of the picture.
    found = measured(face, ARCFACE_TEMPLATE - [112 / 3, 0], (400, 300))
    assert found["cut"] == pytest.approx(100 / 3, abs=4)
    angle = np.radians(40)
    turned = (points - 150) @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + 150
    assert measured(face, turned, (400, 300))["roll"] == pytest.approx(40, abs=1)


def test_crops_of_other_sizes_have_about_the_same_measures(face):
    small, large = measured(face), measured(face.resize((224, 224), Image.Resampling.BICUBIC))
    for name in ("brightness", "contrast", "sharpness"):
        assert large[name] == pytest.approx(small[name], rel=0.1)


def test_records_have_measures_where_they_are_asked_for(face, tmp_path):
    method = load_method()
    assert next(method.stream([face])).measures is None
    method.image_processor.measuring = True
    (record, given) = method.stream([face, face.resize((224, 224))], [None, arcface_template((224, 224))])
    assert record.measures == measured(face)
    assert given.measures["inter_eye_distance"] == pytest.approx(70.5, abs=0.5)
    assert "measuring" not in method.image_processor.to_dict()
