# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""From whatever a person has to canonical faces: every kind of image, bad input, landmarks, detection."""

import io
import json
import os
import sys
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fixtures.networks import make_unet
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw
from transformers import AutoImageProcessor

from diffiqa_hf import FaceImageProcessor
from diffiqa_hf.alignment import ARCFACE_TEMPLATE
from diffiqa_hf.image_processing_face import FaceImageError, NoFaceError, load_image


EXAMPLES = Path(__file__).parent.parent / "examples"
SIZE = (32, 24)
GREY = (128, 128, 128)


def colour_of(image) -> tuple:
    """The one colour of a picture that has one."""
    picture = load_image(image)
    assert picture.mode == "RGB"
    pixels = np.asarray(picture).reshape(-1, 3)
    assert (pixels == pixels[0]).all()
    return tuple(pixels[0].tolist())


def saved(image: Image.Image, format: str, **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, format, **options)
    file.seek(0)
    return file


def random_pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def processor() -> FaceImageProcessor:
    return FaceImageProcessor()


# -- the modes of pictures


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("1", 0, (0, 0, 0)),
        ("LA", (77, 255), (77, 77, 77)),
        ("LA", (77, 0), GREY),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), GREY),
        ("RGBA", (0, 255, 128, 128), (64, 192, 128)),
        ("RGBa", (0, 0, 0, 0), GREY),
        ("CMYK", (0, 0, 0, 0), (255, 255, 255)),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
        ("YCbCr", (120, 128, 128), (120, 120, 120)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("I", 0, (0, 0, 0)),
        ("I", 257 * 99, (99, 99, 99)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257 * 99, (99, 99, 99)),
        ("I;16B", 257 * 99, (99, 99, 99)),
        ("F", 0.0, (0, 0, 0)),
        ("F", 0.2, (51, 51, 51)),
        ("F", 1.0, (255, 255, 255)),
    ],
)
def test_modes_of_pil_images(mode, colour, expected):
    image = Image.new(mode, SIZE, colour)
    if mode == "I;16B":  # Image.new fills it in the wrong byte order
        image = Image.frombytes(mode, SIZE, np.full(SIZE, colour, ">u2").tobytes())
    found = colour_of(image)
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 1
    assert found == expected or "a" in mode.lower()


def test_16_bits_are_rounded_to_the_nearest_of_8():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.round(values / 257)
    for image in (Image.fromarray(values), Image.fromarray(values.astype(np.int32))):
        assert (np.asarray(load_image(image))[:, :, 0] == expected).all()


def test_palettes():
    palette = Image.new("P", SIZE, 1)
    palette.putpalette([1, 2, 3, 200, 100, 50])
    assert colour_of(palette) == (200, 100, 50)
    for format in ("PNG", "GIF"):
        assert colour_of(saved(palette, format)) == (200, 100, 50)
        assert colour_of(saved(palette, format, transparency=1)) == GREY
        assert colour_of(saved(palette, format, transparency=0)) == (200, 100, 50)
    # A palette in which a colour is half transparent
    assert colour_of(saved(palette, "PNG", transparency=bytes([255, 128]))) == (164, 114, 89)


def test_a_transparent_colour():
    assert colour_of(saved(Image.new("RGB", SIZE, (9, 8, 7)), "PNG", transparency=(9, 8, 7))) == GREY
    assert colour_of(saved(Image.new("L", SIZE, 9), "PNG", transparency=9)) == GREY
    assert colour_of(saved(Image.new("RGB", SIZE, (9, 8, 7)), "PNG", transparency=(9, 8, 6))) == (9, 8, 7)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "WEBP", "PPM"])
def test_files_without_loss(format, tmp_path):
    pixels = random_pixels(24, 32)
    path = tmp_path / "name with blanks and ümläuts.dat"
    Image.fromarray(pixels).save(path, format, **({"lossless": True} if format == "WEBP" else {}))
    for image in (path, str(path), io.BytesIO(path.read_bytes()), Image.open(path)):
        assert np.array_equal(np.asarray(load_image(image)), pixels)


def test_files_of_16_bits_and_float(tmp_path):
    grey = (np.arange(24 * 32, dtype=np.uint16) * 85).reshape(24, 32)
    for name in ("grey.png", "grey.tif"):
        cv2.imwrite(str(tmp_path / name), grey)
        assert (np.asarray(load_image(tmp_path / name))[:, :, 1] == np.round(grey / 257)).all()
    cv2.imwrite(str(tmp_path / "colour.png"), np.full((24, 32, 3), [0x1234, 0x8080, 0xFFFF], np.uint16))
    assert colour_of(tmp_path / "colour.png") == (0xFF, 0x80, 0x12)
    assert colour_of(saved(Image.new("F", SIZE, 0.4), "TIFF")) == (102, 102, 102)


def test_cmyk_jpeg():
    red, green, blue = colour_of(saved(Image.new("CMYK", SIZE, (0, 255, 255, 0)), "JPEG", quality=95))
    assert red > 250 and green < 5 and blue < 5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_exif_orientation(orientation, format):
    upright = random_pixels(24, 32)
    turns = Image.Transpose
    # What a camera that is held so writes down, which is the way back from what Pillow does for each orientation.
    stored = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_90,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_270,
    }
    picture = Image.fromarray(upright)
    if orientation > 1:
        picture = picture.transpose(stored[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(picture, format, exif=exif)
    assert np.array_equal(np.asarray(load_image(file)), upright)
    file.seek(0)
    opened = Image.open(file)
    assert np.array_equal(np.asarray(load_image(opened)), upright)
    # 16 bits lose their EXIF on the way to 8
    deep = Image.fromarray(np.ascontiguousarray(np.asarray(picture)[:, :, 0]).astype(np.uint16) * 257)
    assert np.array_equal(np.asarray(load_image(saved(deep, "PNG", exif=exif)))[:, :, 0], upright[:, :, 0])


def test_the_image_of_the_caller_is_not_changed():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(saved(Image.fromarray(random_pixels(24, 32)), "PNG", exif=exif))
    load_image(image)
    assert image.size == (32, 24) and image.getexif()[0x0112] == 6


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_animations_give_their_first_frame(format):
    frames = [Image.new("RGB", SIZE, colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if format == "WEBP" else {}
    file = saved(frames[0], format, save_all=True, append_images=frames[1:], duration=100, **options)
    assert colour_of(file) == (255, 0, 0)
    image = Image.open(file)
    assert image.n_frames == 3
    assert colour_of(image) == (255, 0, 0)
    image.seek(1)
    assert colour_of(image) == (0, 255, 0)


# -- arrays


def test_arrays_give_the_same_as_pictures():
    pixels = random_pixels(24, 32)
    floats = pixels.astype(np.float32) / 255
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    given = [pixels, floats, floats.astype(np.float64), tensor, tensor / 255, tensor.double() / 255]
    given += [pixels[:, ::-1][:, ::-1], np.dstack([pixels, np.full((24, 32), 255, np.uint8)])]
    for image in given:
        assert np.array_equal(np.asarray(load_image(image)), pixels)
    for image in (floats.astype(np.float16), (tensor / 255).half(), (tensor / 255).bfloat16()):
        assert np.abs(np.asarray(load_image(image)).astype(int) - pixels).max() <= 1
    assert load_image((tensor / 255).requires_grad_()).size == (32, 24)


def test_grey_arrays():
    grey = random_pixels(24, 32)[:, :, 0]
    for image in (grey, grey[:, :, None], torch.from_numpy(grey), torch.from_numpy(grey)[None]):
        assert np.array_equal(np.asarray(load_image(image)), grey[:, :, None].repeat(3, axis=2))


def test_a_transparent_array():
    assert colour_of(np.zeros((24, 32, 4), np.uint8)) == GREY
    assert colour_of(torch.zeros(4, 24, 32)) == GREY


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full((24, 32, 3), np.nan, np.float32), "NaN or infinite"),
        (torch.full((3, 24, 32), float("inf")), "NaN or infinite"),
        (np.full((24, 32, 3), 1.5), r"\[0, 1\], these lie in \[1.5, 1.5\]"),
        (np.linspace(-1, 1, 24 * 32 * 3).reshape(24, 32, 3), r"these lie in \[-1, 1\]"),
        (torch.full((3, 24, 32), 128.0), r"these lie in \[128, 128\]"),
        (np.zeros((24, 32, 3), np.int64), "int64 are not defined"),
        (torch.zeros(3, 24, 32, dtype=torch.int64), "int64 are not defined"),
        (np.zeros((24, 32), np.uint16), "uint16 are not defined"),
        (np.zeros((24, 32), bool), "bool are not defined"),
        (np.zeros((24, 32, 2), np.uint8), "C = 1, 3 or 4"),
        (np.zeros((3, 24, 32), np.uint8), r"shape \(3, 24, 32\) is no image: \(H, W\) or \(H, W, C\)"),
        (torch.zeros(24, 32, 3), r"\(H, W\) or \(C, H, W\)"),
        (np.zeros((1, 24, 32, 3), np.uint8), "is no image"),
        (np.zeros(100, np.uint8), "is no image"),
        (np.zeros((), np.uint8), "is no image"),
        (np.zeros((0, 32, 3), np.uint8), "empty array"),
        (torch.zeros(3, 0, 32), "empty array"),
        (Image.new("F", SIZE, 2.0), r"\[2, 2\]"),
        (Image.new("F", SIZE, float("nan")), "NaN"),
        (Image.new("I", SIZE, -1), "outside of 0 to 65535"),
        (Image.new("I", SIZE, 65536), "outside of 0 to 65535"),
        (None, "NoneType is no image"),
        (12, "int is no image"),
        ({"name": "a"}, "dict is no image"),
        ({"bytes": None, "path": None}, "NoneType is no image"),
    ],
)
def test_values_that_are_not_defined(image, reason):
    with pytest.raises(FaceImageError, match=reason) as caught:
        load_image(image)
    assert "\n" not in str(caught.value)


# -- columns of `datasets`


def test_columns_of_datasets(tmp_path, processor):
    datasets = pytest.importorskip("datasets")
    pixels = random_pixels(112, 112)
    Image.fromarray(pixels).save(tmp_path / "face.png")
    column = datasets.Dataset.from_dict({"image": [str(tmp_path / "face.png")] * 2})
    for decode in (True, False):
        images = column.cast_column("image", datasets.Image(decode=decode))["image"]
        for image in images:
            assert np.array_equal(np.asarray(load_image(image)), pixels)
    data = (tmp_path / "face.png").read_bytes()
    for item in ({"bytes": data, "path": None}, {"bytes": data, "path": "gone.png"}, {"path": tmp_path / "face.png"}):
        assert np.array_equal(np.asarray(load_image(item)), pixels)
    with pytest.raises(FaceImageError, match="empty file"):
        load_image({"bytes": b"", "path": None})


# -- bad files


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.jpg").write_text("This is no picture.\n" * 20)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would block
    reasons = {
        "text.jpg": "not an image, or in a format that Pillow can't read",
        "empty.jpg": "empty file",
        "folder.jpg": "is a directory, not an image",
        "loop.jpg": "symbolic link loop",
        "dangling.jpg": "no such file",
        "missing.jpg": "no such file",
        "pipe.jpg": "not a regular file",
        "text.jpg/below": "Not a directory",
        "x" * 300: "File name too long",
    }
    for name, reason in reasons.items():
        for path in (tmp_path / name, str(tmp_path / name)):
            with pytest.raises(FaceImageError) as caught:
                load_image(path)
            assert str(caught.value) == reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission(tmp_path):
    Image.new("RGB", SIZE).save(tmp_path / "secret.png")
    (tmp_path / "secret.png").chmod(0)
    with pytest.raises(FaceImageError, match="no permission to read the file"):
        load_image(tmp_path / "secret.png")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_and_damaged_files(format, tmp_path):
    data = saved(Image.fromarray(random_pixels(100, 100)), format).getvalue()
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(FaceImageError) as caught:
        load_image(path)
    assert "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)
    if format == "JPEG":
        assert "truncated" in str(caught.value)
    # Damage anywhere gives a picture or a reason, nothing else.
    rng = np.random.default_rng(0)
    for _ in range(30):
        damaged = bytearray(data)
        for position in rng.integers(0, min(len(data), 400), 5):
            damaged[position] = rng.integers(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_image(io.BytesIO(bytes(damaged[: rng.integers(1, len(data))])))
            except FaceImageError as error:
                assert str(error) and "\n" not in str(error)


def test_a_pil_image_that_is_read_late_and_truncated(processor):
    data = saved(Image.fromarray(random_pixels(100, 100)), "JPEG").getvalue()
    for reader in (load_image, processor.extract_faces):
        image = Image.open(io.BytesIO(data[:1500]))
        with pytest.raises(FaceImageError, match="truncated"):
            reader(image)


def test_images_that_are_too_small(processor):
    for size in ((1, 1), (15, 200), (200, 15)):
        with pytest.raises(FaceImageError, match=f"too small: {size[0]}x{size[1]} pixels, at least 16"):
            processor.extract_faces(Image.new("RGB", size))
    with pytest.raises(FaceImageError, match="too small"):
        processor.extract_faces(np.zeros((1, 1, 3), np.uint8))
    assert processor.extract_faces(Image.new("RGB", (16, 16)))[0].pixel_values.shape == (3, 112, 112)


# -- large pictures


@pytest.fixture(scope="module")
def large_picture() -> tuple[Image.Image, np.ndarray]:
    """100 megapixels, black, with five discs, and the landmarks at their centres."""
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (ARCFACE_TEMPLATE - 56) @ turn.T * 30 + [6000, 5000]
    picture = Image.new("L", (10000, 10000))
    draw = ImageDraw.Draw(picture)
    for x, y in points:
        draw.ellipse([x - 60, y - 60, x + 60, y + 60], fill=255)
    return picture, points


@pytest.mark.parametrize(("format", "options"), [("JPEG", {"quality": 75}), ("PNG", {"compress_level": 1})])
def test_100_megapixels(format, options, large_picture, processor, recwarn):
    picture, points = large_picture
    file = saved(picture, format, **options)
    assert load_image(file).size == (5000, 5000)
    file.seek(0)
    (face,) = processor.extract_faces(file, points)
    assert np.array_equal(face.landmarks, points)
    bright = face.pixel_values[0] + 1
    y, x = np.mgrid[:112, :112]
    for px, py in ARCFACE_TEMPLATE:
        window = bright * (np.hypot(x - px, y - py) < 7)
        # A tenth of a pixel here is three pixels of the picture.
        assert abs((x * window).sum() / window.sum() - px) < 0.1
        assert abs((y * window).sum() / window.sum() - py) < 0.1
    assert not recwarn.list


def test_more_than_pillow_reads_is_refused():
    # The header alone says how large the picture is.
    header = saved(Image.new("1", (1, 1)), "PNG").getvalue()
    size = (20000).to_bytes(4, "big")
    header = header[:16] + size + size + header[24:]
    header = header[:29] + zlib.crc32(header[12:29]).to_bytes(4, "big") + header[33:]
    with pytest.raises(FaceImageError, match="too large: Image size .400000000 pixels"):
        load_image(io.BytesIO(header))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "I;16", "F", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_every_mode_is_reduced(mode, orientation, monkeypatch):
    monkeypatch.setattr("diffiqa_hf.images.loading.LARGE_IMAGE_PIXELS", 1000)
    if mode == "I;16":
        image = Image.fromarray(np.full((60, 90), 257 * 50, np.uint16))
    elif mode == "P":
        image = Image.new("P", (90, 60), 1)
        image.putpalette([0, 0, 0, 50, 50, 50])
    else:
        colours = {"RGB": (50, 50, 50), "RGBA": (50, 50, 50, 255), "F": 50 / 255, "CMYK": (205, 205, 205, 0)}
        image = Image.new(mode, (90, 60), colours[mode])
    image.getexif()[0x0112] = orientation
    picture = load_image(image)
    assert picture.size == ((30, 20) if orientation == 1 else (20, 30))
    assert (np.asarray(picture) == 50).all()


# -- the processor


def test_uint8_of_the_right_size_maps_exactly(processor):
    pixels = random_pixels(112, 112)
    (face,) = processor.extract_faces(pixels)
    assert face.pixel_values.dtype == np.float32 and face.pixel_values.flags.c_contiguous
    assert np.array_equal(face.pixel_values, (pixels.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1))
    assert (face.landmarks, face.box, face.detection_score) == (None, None, None)


def test_both_sides_are_forced():
    pixels = random_pixels(50, 200)
    (face,) = FaceImageProcessor(size={"height": 64, "width": 48}).extract_faces(pixels)
    expected = np.asarray(Image.fromarray(pixels).resize((48, 64), Image.Resampling.BILINEAR))
    assert np.array_equal(face.pixel_values, (expected.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1))
    nearest = FaceImageProcessor(resample=Image.Resampling.NEAREST).extract_faces(pixels)[0].pixel_values
    assert np.isin(np.round((nearest + 1) * 127.5), np.unique(pixels)).all()


@settings(deadline=None)
@given(arrays(np.uint8, (2, 24, 32, 3)))
def test_postprocess_is_the_inverse(pixels):
    processor = FaceImageProcessor(size={"height": 24, "width": 32})
    for tensors in ("pt", "np"):
        faces = processor(list(pixels), return_tensors=tensors)["pixel_values"]
        pictures = processor.postprocess(faces)
        assert all(np.array_equal(np.asarray(a), b) for a, b in zip(pictures, pixels, strict=True))


def test_postprocess_clips(processor):
    faces = torch.stack([torch.full((3, 8, 8), value) for value in (-3.0, 3.0, float("nan"))]).to(torch.bfloat16)
    assert [np.unique(np.asarray(picture)).tolist() for picture in processor.postprocess(faces)] == [[0], [255], [0]]


def test_calls_give_batches(processor):
    pixels = np.stack([random_pixels(112, 112, seed) for seed in range(3)])
    expected = (pixels.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2)
    mixed = [pixels[0], Image.fromarray(pixels[1]), torch.from_numpy(pixels[2]).permute(2, 0, 1)]
    for images in (mixed, pixels, torch.from_numpy(pixels).permute(0, 3, 1, 2)):
        batch = processor(images, return_tensors="pt")["pixel_values"]
        assert batch.dtype == torch.float32 and np.array_equal(batch.numpy(), expected)
    assert processor(mixed[0], return_tensors="np").pixel_values.shape == (1, 3, 112, 112)
    landmarks = [None, ARCFACE_TEMPLATE, ARCFACE_TEMPLATE.tolist()]
    assert np.array_equal(processor(mixed, landmarks=landmarks, return_tensors="np").pixel_values, expected)
    assert np.array_equal(processor(mixed[0], landmarks=ARCFACE_TEMPLATE).pixel_values[0], expected[0])
    with pytest.raises(ValueError, match="3 images and landmarks for 1"):
        processor(mixed, landmarks=[None])


def test_landmarks_align_the_face(processor):
    points = ARCFACE_TEMPLATE * 1.5 + [40, 10]
    pixels = random_pixels(200, 300)
    (face,) = processor.extract_faces(pixels, torch.from_numpy(points), do_align=False)
    assert np.array_equal(face.landmarks, points) and face.box is None and face.detection_score is None
    # The landmarks are those of the upright picture.
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    assert np.array_equal(processor.extract_faces(turned, points)[0].pixel_values, face.pixel_values)


@pytest.mark.parametrize(
    ("landmarks", "reason"),
    [
        (ARCFACE_TEMPLATE * np.nan, "NaN"),
        (ARCFACE_TEMPLATE[:3], "5 points"),
        (ARCFACE_TEMPLATE / 112, "within a pixel"),
        (ARCFACE_TEMPLATE[[1, 0, 2, 4, 3]], "in this order"),  # the subject's left and right
        (ARCFACE_TEMPLATE[[1, 0, 2, 3, 4]], "in this order"),
        (ARCFACE_TEMPLATE[[0, 1, 2, 4, 3]], "in this order"),
        (ARCFACE_TEMPLATE[:, ::-1], "in this order"),  # y, x
        (ARCFACE_TEMPLATE + 200, "outside of the picture of 112x112"),
        ("five points", "could not convert"),
        ([[1, 2], [3]], "."),
    ],
)
def test_landmarks_that_are_no_face(landmarks, reason, processor):
    with pytest.raises(FaceImageError, match=reason):
        processor.extract_faces(random_pixels(112, 112), landmarks)


@pytest.mark.parametrize("photo", ["astronaut.jpg", "sample1.jpg", "sample2.jpg", "sample6.jpg"])
def test_real_landmarks_are_taken(photo, processor):
    # Among them turned faces and a profile.
    for points in json.loads((EXAMPLES / "photos" / "landmarks.json").read_text())[photo]:
        assert processor.extract_faces(EXAMPLES / "photos" / photo, points)[0].pixel_values.std() > 0.1


def test_the_crop_of_a_photograph_is_the_one_in_the_examples(processor):
    points = json.loads((EXAMPLES / "photos" / "landmarks.json").read_text())["astronaut.jpg"][0]
    crop = processor.extract_faces(EXAMPLES / "photos" / "astronaut.jpg", points)[0].pixel_values
    (made,) = processor.extract_faces(EXAMPLES / "faces" / "astronaut.jpg")
    # That crop is from the original, this one from a JPEG of it.
    assert np.abs(crop - made.pixel_values).mean() * 127.5 < 4


# -- its state


def test_the_state_is_json(tmp_path):
    processor = FaceImageProcessor(
        size={"height": 64, "width": 48},
        resample=Image.Resampling.BICUBIC,
        do_align=True,
        multiple_faces="all",
        detector=tmp_path / "no.onnx",
        detector_threshold=0.8,
    )
    with pytest.raises(OSError):
        processor.extract_faces(random_pixels(64, 64))  # what the detector leaves behind is not saved
    processor.save_pretrained(tmp_path)
    state = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert state["image_processor_type"] == "FaceImageProcessor" and "_detector" not in state
    expected = {
        "size": {"height": 64, "width": 48},
        "resample": 3,
        "do_align": True,
        "multiple_faces": "all",
        "detector": str(tmp_path / "no.onnx"),
        "detector_threshold": 0.8,
    }
    for loaded in (
        FaceImageProcessor.from_pretrained(tmp_path),
        AutoImageProcessor.from_pretrained(tmp_path),
        FaceImageProcessor.from_dict(json.loads(processor.to_json_string())),
    ):
        assert type(loaded) is FaceImageProcessor
        assert {name: getattr(loaded, name) for name in expected} == expected
        assert loaded.to_dict() == processor.to_dict()
    assert AutoImageProcessor.from_pretrained(tmp_path, do_align=False).do_align is False


def test_wrong_settings():
    with pytest.raises(ValueError, match="'largest' or 'all'"):
        FaceImageProcessor(multiple_faces="both")


@pytest.fixture(scope="module")
def tiny_pipeline():
    from diffusers import DDPMScheduler

    from diffiqa_hf import DifFIQAPipeline
    from diffiqa_hf.models import MobileFaceNetConfig, MobileFaceNetModel

    torch.manual_seed(0)
    unet = make_unet(add_attention=False)
    fr_model = MobileFaceNetModel(
        MobileFaceNetConfig(
            embedding_size=16,
            stem_width=8,
            stem_groups=8,
            stages=[(16, 8, 1, 2), (16, 8, 1, 2), (16, 8, 1, 2)],
            feature_width=16,
        )
    )
    scheduler = DDPMScheduler(num_train_timesteps=100, prediction_type="sample")
    pipeline = DifFIQAPipeline(unet, scheduler, fr_model.eval(), FaceImageProcessor(multiple_faces="all"))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_as_a_component_of_a_pipeline(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path)
    loaded = type(tiny_pipeline).from_pretrained(tmp_path)
    assert type(loaded.image_processor) is FaceImageProcessor
    assert loaded.image_processor.to_dict() == tiny_pipeline.image_processor.to_dict()


def test_a_detector_that_is_not_there_ends_a_pipeline(tiny_pipeline):
    # It is no fault of an image, so it must not come as a score of NaN for each.
    processor = FaceImageProcessor(do_align=True, detector="somebody/no_such_repository")
    pipeline = type(tiny_pipeline)(**{**tiny_pipeline.components, "image_processor": processor})
    with pytest.raises(OSError, match="somebody/no_such_repository.*Without a connection: download the file once"):
        pipeline([random_pixels(112, 112)], num_repeats=1, num_timesteps=1)


# -- detection and alignment with the real detector


@pytest.fixture(scope="module")
def aligner(shared_dir) -> FaceImageProcessor:
    return FaceImageProcessor(do_align=True, detector=shared_dir / "weights" / "yunet" / "yunet_n_dynamic.onnx")


@pytest.fixture(scope="module")
def astronaut() -> tuple[Image.Image, np.ndarray]:
    points = json.loads((EXAMPLES / "photos" / "landmarks.json").read_text())["astronaut.jpg"][0]
    return load_image(EXAMPLES / "photos" / "astronaut.jpg"), np.array(points)


@pytest.mark.shared
def test_a_face_is_found(aligner, astronaut):
    picture, points = astronaut
    (face,) = aligner.extract_faces(picture)
    assert np.abs(face.landmarks - points).max() < 5 and face.detection_score > 0.8
    x, y, width, height = face.box
    assert (points > [x, y]).all() and (points < [x + width, y + height]).all()
    # As large as a picture that is reduced before detection
    large = picture.resize((picture.width * 5, picture.height * 5))
    (found,) = aligner.extract_faces(large)
    assert np.abs((found.landmarks + 0.5) / 5 - 0.5 - points).max() < 5
    assert np.abs(found.box / 5 - face.box).max() < 15
    # A crop that the face fills
    (crop,) = aligner.extract_faces(EXAMPLES / "faces" / "astronaut.jpg")
    assert np.linalg.norm(crop.landmarks - ARCFACE_TEMPLATE, axis=1).max() < 8


@pytest.mark.shared
def test_landmarks_of_a_picture_that_was_reduced(aligner, astronaut, monkeypatch):
    picture, points = astronaut
    monkeypatch.setattr("diffiqa_hf.images.loading.LARGE_IMAGE_PIXELS", picture.width * picture.height // 3)
    for image in (picture, saved(picture, "JPEG", quality=95)):
        (face,) = aligner.extract_faces(image)
        assert np.abs(face.landmarks - points).max() < 6


@pytest.mark.shared
def test_several_faces(aligner, astronaut):
    picture, points = astronaut
    collage = Image.new("RGB", (picture.width * 2, picture.height), (90, 110, 130))
    half = picture.reduce(2)
    collage.paste(half, (0, 0))
    collage.paste(picture, (picture.width, 0))
    collage.paste(half, (0, half.height))
    large, *small = aligner.extract_faces(collage, multiple_faces="all")
    assert len(small) == 2
    assert np.abs(large.landmarks - points - [picture.width, 0]).max() < 5
    for face in small:
        assert face.box[2] * face.box[3] < large.box[2] * large.box[3] / 2
    (only,) = aligner.extract_faces(collage)
    assert np.array_equal(only.landmarks, large.landmarks)
    assert aligner(collage, multiple_faces="all", return_tensors="pt")["pixel_values"].shape == (3, 3, 112, 112)


@pytest.mark.shared
def test_no_face(aligner, astronaut, tiny_pipeline):
    empty = Image.linear_gradient("L").resize((300, 200))
    with pytest.raises(NoFaceError, match="^no face found$"):
        aligner.extract_faces(empty)
    pipeline = type(tiny_pipeline)(**{**tiny_pipeline.components, "image_processor": aligner})
    output = pipeline([empty, astronaut[0]], num_repeats=1, num_timesteps=1)
    assert output.errors == ["no face found", None]
    assert output.scores.isnan().tolist() == [True, False]
    with pytest.raises(NoFaceError):
        pipeline([empty], num_repeats=1, num_timesteps=1, on_error="raise")


@pytest.mark.shared
def test_detected_and_given_landmarks_agree_on_lfw(aligner, shared_dir):
    import pyarrow.parquet as pq

    from diffiqa_hf.conversion.dialects.mobilefacenet import convert_xiaoccer
    from diffiqa_hf.models import MobileFaceNetModel

    checkpoint = torch.load(
        shared_dir / "weights" / "mobilefacenet_casia" / "068.ckpt", map_location="cpu", weights_only=True
    )
    config, state = convert_xiaoccer(checkpoint["net_state_dict"])
    model = MobileFaceNetModel(config)
    model.load_state_dict(state)
    model.eval()

    rows = pq.read_table(shared_dir / "data" / "lfw" / "raw_sample.parquet").to_pylist()
    given = aligner([row["image"] for row in rows], [row["landmarks"] for row in rows], return_tensors="pt")
    detected = aligner([row["image"] for row in rows], return_tensors="pt")
    with torch.no_grad():
        embeddings = [model(batch["pixel_values"]).embeddings for batch in (given, detected)]
    cosines = torch.cosine_similarity(*embeddings)
    assert cosines.median() > 0.9

    test = pq.read_table(shared_dir / "data" / "lfw" / "dev_test.parquet", columns=["image", "name"])
    names = {name: i for i, name in enumerate(test["name"].to_pylist())}
    differences = []
    for row, face in zip(rows, given["pixel_values"], strict=True):
        crop = np.asarray(load_image(test["image"][names[row["name"]]].as_py())).transpose(2, 0, 1)
        differences.append(np.abs((face.numpy() + 1) * 127.5 - crop).mean())
    assert np.mean(differences) < 4


def test_a_telephones_picture_is_read_where_its_package_is(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    picture = Image.radial_gradient("L").resize((64, 48)).convert("RGB")
    heif.from_pillow(picture).save(tmp_path / "IMG_1.HEIC", quality=100)
    for image in (tmp_path / "IMG_1.HEIC", {"bytes": (tmp_path / "IMG_1.HEIC").read_bytes(), "path": None}):
        read = load_image(image)
        assert read.mode == "RGB" and read.size == (64, 48)
        # HEVC is lossy, and keeps half of the colour's resolution.
        assert np.abs(np.asarray(read, int) - np.asarray(picture, int)).mean() < 2


def test_a_telephones_picture_that_cannot_be_read_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    (tmp_path / "IMG_1.HEIC").write_bytes(content)
    for image in (tmp_path / "IMG_1.HEIC", {"bytes": content, "path": None}):
        with pytest.raises(FaceImageError, match=r"a HEIC or HEIF picture: `pip install 'diffiqa-hf\[heif\]'`"):
            load_image(image)
