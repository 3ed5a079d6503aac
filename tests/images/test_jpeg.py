# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Plain JPEG files are read past Pillow's own reader, with the same pixels and the same errors."""

import io

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf.images.jpeg import read_header, read_jpeg, shrink_factor
from diffiqa_hf.images.loading import FaceImageError, load_image


def picture(width: int = 53, height: int = 37) -> Image.Image:
    ramp = np.add.outer(3 * np.arange(height), 2 * np.arange(width))[..., None]
    noise = np.random.default_rng(0).uniform(0, 60, (height, width, 3))
    return Image.fromarray(np.clip(ramp + noise, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **settings) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **settings)
    return file.getvalue()


def by_pillow(data: bytes, factor: int = 1) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    if factor > 1:
        image.draft("RGB", (image.width // factor, image.height // factor))
    return np.asarray(image.convert("RGB"))


PLAIN = [
    {"subsampling": s, "progressive": p, "quality": q} for s in (0, 1, 2) for p in (False, True) for q in (30, 95)
]


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("settings", [*PLAIN, {"restart_marker_blocks": 3}, {"keep_rgb": True}, {"comment": b"hello"}])
def test_plain_files_have_pillows_pixels(settings, factor):
    data = jpeg(picture(), **settings)
    read, taken = read_jpeg(data, lambda width, height: factor, 10**6)
    assert taken == factor
    np.testing.assert_array_equal(np.asarray(read), by_pillow(data, factor))


def test_grey_files_become_rgb():
    data = jpeg(picture().convert("L"))
    assert read_header(data).channels == 1
    np.testing.assert_array_equal(np.asarray(read_jpeg(data, None, 10**6)[0]), by_pillow(data))


def exif(orientation: int) -> Image.Exif:
    values = Image.Exif()
    values[0x0112] = orientation
    return values


@pytest.mark.parametrize("orientation", range(9))
def test_a_file_that_is_turned_is_left_to_pillow(orientation):
    data = jpeg(picture(), exif=exif(orientation))
    assert (read_header(data) is not None) == (orientation == 1)
    shape = (53, 37) if orientation >= 5 else (37, 53)
    assert np.asarray(load_image(io.BytesIO(data))).shape == (*shape, 3)


def test_other_files_are_left_to_pillow():
    plain = jpeg(picture())
    xmp = jpeg(picture(), xmp=b'<rdf:Description tiff:Orientation="6"/>')
    files = {
        "cmyk": jpeg(picture().convert("CMYK")),
        "turned by XMP": xmp,
        "too short": plain[:8],
        "without an end of its header": plain[:200],
        "large": plain,
    }
    assert {name: read_jpeg(data, None, 37 * 53 - 1) for name, data in files.items()} == dict.fromkeys(files)


def test_damaged_files_have_pillows_pixels_or_pillows_error(tmp_path):
    # Bits that flip anywhere, and ends that are cut off.
    data, random = jpeg(picture(112, 112)), np.random.default_rng(1)
    outcomes = set()
    for number in range(150):
        damaged = bytearray(data)
        if number % 3:
            for place in random.integers(2, len(data), 2):
                damaged[place] ^= 1 << random.integers(8)
        else:
            damaged = damaged[: random.integers(300, len(data))]
        try:
            expected = by_pillow(bytes(damaged))
        except Exception:  # Pillow raises whatever it trips over
            expected = None
        try:
            found = np.asarray(load_image(io.BytesIO(bytes(damaged))))
        except FaceImageError:
            found = None
        if expected is None:
            assert found is None
        elif found is not None:  # what Pillow's Exif turns or refuses is not compared here
            np.testing.assert_array_equal(found, expected)
        outcomes.add((expected is None, found is None))
    assert {(True, True), (False, False)} <= outcomes


def test_the_factors_of_the_decoder():
    assert [shrink_factor(most) for most in (0.4, 1, 1.9, 2, 3.9, 4, 7.5, 8, 100)] == [1, 1, 1, 2, 2, 4, 4, 8, 8]
