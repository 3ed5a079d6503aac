# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Image files as nobody would write them: each gives a face or one line that says why not."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from diffiqa_hf import FaceImageError, FaceImageProcessor
from diffiqa_hf.images import loading
from diffiqa_hf.images.loading import load_image


# Formats that Pillow writes, with modes that it writes them in.
FORMATS = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I"],
    "JPEG": ["L", "RGB", "CMYK"],
    "GIF": ["1", "L", "P", "RGB"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
    "DIB": ["L", "RGB"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"],
    "WEBP": ["RGB", "RGBA"],
    "PPM": ["1", "L", "RGB", "I;16", "F"],
    "TGA": ["L", "LA", "P", "RGB", "RGBA"],
    "PCX": ["1", "L", "P", "RGB"],
    "SGI": ["L", "RGB", "RGBA"],
    "ICO": ["RGB", "RGBA", "P"],
    "ICNS": ["RGBA"],
    "IM": ["L", "RGB", "CMYK", "YCbCr", "F"],
    "MSP": ["1"],
    "XBM": ["1"],
    "SPIDER": ["F"],
    "DDS": ["L", "RGB", "RGBA"],
    "QOI": ["RGB", "RGBA"],
    "BLP": ["P"],
}
EXAMPLES = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def encode(form: str, mode: str, size: tuple[int, int], seed: int, options: dict) -> bytes:
    rng = np.random.default_rng(seed)
    width, height = size
    if form == "ICNS":  # which is written at ten sizes up to 1024: noise would take a second
        picture = Image.new(mode, size, (10, 20, 30, 40))
    elif mode == "F":
        picture = Image.fromarray(rng.uniform(-0.1 * (seed % 2), 1, (height, width)).astype(np.float32))
    elif mode.startswith("I"):
        dtype, top = (np.uint16, 65536) if mode == "I;16" else (np.int32, 65536 << (seed % 3))
        picture = Image.fromarray(rng.integers(0, top, (height, width)).astype(dtype))
    else:
        picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


@st.composite
def images(draw) -> bytes:
    form = draw(st.sampled_from(sorted(FORMATS)))
    mode = draw(st.sampled_from(FORMATS[form]))
    size = draw(st.sampled_from([(1, 1), (1, 400), (400, 1), (15, 40), (16, 16), (17, 33), (40, 31), (64, 64)]))
    options = {}
    if draw(st.booleans()):
        exif = Image.Exif()
        exif[0x0112] = draw(st.integers(0, 10))  # orientation, of which 1 to 8 mean something
        options["exif"] = exif.tobytes() if draw(st.booleans()) else draw(st.binary(max_size=40))
    if draw(st.booleans()):
        options["transparency"] = draw(st.integers(0, 255))
    if form in ("GIF", "PNG", "WEBP", "TIFF") and draw(st.booleans()):
        options |= {"save_all": True, "append_images": [Image.new("RGB", (20, 30), "red")], "duration": 10}
    if form == "TIFF":
        options["compression"] = draw(st.sampled_from([None, "tiff_lzw", "tiff_deflate", "packbits"]))
    for given_options in (options, {}):
        try:
            return encode(form, mode, size, draw(st.integers(0, 5)), given_options)
        except Exception:  # whatever its writers raise for what they do not write
            continue  # Pillow does not write that
    return encode("PNG", "RGB", size, 0, {})


@st.composite
def damaged(draw) -> bytes:
    data = bytearray(draw(images()))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(
            st.integers(0, max(0, len(data) - 1)) if draw(st.booleans()) else st.integers(0, min(60, len(data) - 1))
        )
        kind = draw(st.sampled_from(["cut", "byte", "insert", "remove", "other", "large"]))
        if kind == "cut":
            del data[max(at, 4) :]
        elif kind == "byte":
            data[at] = draw(st.integers(0, 255))
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=12))
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 20))]
        elif kind == "other":
            data[at:] = draw(images())[at // 2 :]
        elif kind == "large":
            data[at : at + 4] = draw(st.sampled_from([b"\xff\xff\xff\xff", b"\x00\x00\xff\xff", b"\x7f\xff\xff\xff"]))
        if not data:
            return b""
    if data[:4] == b"\x89PNG" and len(data) > 33 and draw(st.booleans()):  # so that the header is believed
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def check(data: bytes) -> str | None:
    """A face, or one line; returns the line."""
    processor = FaceImageProcessor(size=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of what it reads all the same
        try:
            faces = processor.extract_faces({"bytes": data, "path": None})
        except FaceImageError as error:
            line = str(error)
            assert line.strip() and "\n" not in line and len(line) < 300
            return line
    (face,) = faces
    assert face.pixel_values.shape == (3, 8, 8) and face.pixel_values.dtype == np.float32
    assert np.isfinite(face.pixel_values).all() and np.abs(face.pixel_values).max() <= 1
    return None


@settings(EXAMPLES, max_examples=150)
@given(damaged())
def test_any_file_gives_a_face_or_one_line(data):
    check(data)


@pytest.mark.slow
@settings(EXAMPLES, max_examples=10_000)
@given(damaged())
def test_ten_thousand_files_give_a_face_or_one_line(data):
    check(data)


@settings(EXAMPLES, max_examples=60)
@given(
    st.sampled_from([b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"RIFF"]),
    st.binary(max_size=80),
)
def test_what_only_begins_like_an_image(magic, rest):
    assert check(magic + rest) is not None


# -- more pixels than there is memory for -----------------------------------------------------------------------------


def png(width: int, height: int, bits: int, kind: int, rows: int | None = None, palette: bool = False) -> bytes:
    """A PNG of zeros, which takes a few kilobytes for any number of pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    line = b"\0" * (1 + (width * channels * bits + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(line) for _ in range(height if rows is None else rows)) + packer.flush()
    parts = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    if palette:
        parts += chunk(b"PLTE", bytes(range(6))) + chunk(b"tRNS", b"\x80\xff")
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 2), (1, 2**31 - 1), (400_000_000, 16)])
def test_a_bomb_is_refused_by_its_header(size):
    assert "too large" in check(png(*size, 1, 0, rows=1))


def test_a_small_file_of_very_many_pixels_is_reduced(monkeypatch):
    # At a tenth of a thousandth of the pixels, so that it takes no time.
    monkeypatch.setattr(loading, "LARGE_IMAGE_PIXELS", 6400)
    for bits, kind, palette in ((1, 0, False), (1, 3, True), (8, 2, False), (16, 0, False), (8, 4, False)):
        picture = load_image({"bytes": png(150, 130, bits, kind, palette=palette), "path": None})
        assert picture.mode == "RGB" and picture.size == (75, 65)


@pytest.mark.parametrize("mode", ["1", "P", "PA", "I;16", "YCbCr", "F"])
@pytest.mark.parametrize("size", [(2100, 40), (40, 2100), (1025, 1030), (33, 31)])
def test_reduced_in_parts_is_reduced_whole(mode, size):
    rng = np.random.default_rng(0)
    shape = size[::-1]
    if mode == "F":
        picture = Image.fromarray(rng.uniform(0, 1, shape).astype(np.float32))
    elif mode == "I;16":
        picture = Image.fromarray(rng.integers(0, 65536, shape).astype(np.uint16))
    else:
        picture = Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).convert(
            "P" if mode == "PA" else mode
        )
        if mode == "P":
            picture.info["transparency"] = 3
        picture = picture.convert(mode)
    for factor in (2, 3):
        whole = loading._to_rgb(picture).reduce(factor)
        parts = loading._reduced_in_parts(picture, factor)
        assert parts.size == whole.size
        np.testing.assert_array_equal(np.asarray(parts), np.asarray(whole))


def test_an_icon_is_as_large_as_it_is_and_not_as_it_says(monkeypatch):
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "ICO", sizes=[(64, 64)])
    data = bytearray(file.getvalue())
    data[6] = data[7] = 16  # the size in the directory
    monkeypatch.setattr(loading, "LARGE_IMAGE_PIXELS", 1024)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load_image({"bytes": bytes(data), "path": None}).size == (32, 32)


def test_an_eps_is_not_run(monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it is run"))
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n{} loop\n"
    assert check(data) == "EPS is a program that draws, and is not run"
