# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What users of transformers expect of an image processor, and many threads with one."""

import copy
import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from fixtures.close import assert_close
from PIL import Image
from transformers import AutoImageProcessor

from diffiqa_hf import FaceImageProcessor
from diffiqa_hf.image_processing_face import FaceImageProcessorKwargs


POINTS = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((140, 150), Image.Resampling.BICUBIC)


# -- the size and the other arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (64, (64, 64)),
        ((64, 48), (64, 48)),
        ([64, 48], (64, 48)),
        ({"height": 64, "width": 48}, (64, 48)),
        (np.int64(64), (64, 64)),
        (None, (112, 112)),
    ],
)
def test_a_size_in_any_form(picture, tmp_path, size, expected):
    form = {"height": expected[0], "width": expected[1]}
    processor = FaceImageProcessor(size=size)
    assert processor.size == form and type(processor.size["height"]) is int
    assigned = FaceImageProcessor(size=20)
    assigned.size = size
    processor.save_pretrained(tmp_path)
    state = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert state["size"] == form
    if isinstance(size, int | list | dict):  # as a person may write it
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({**state, "size": size}))
    for again in (
        assigned,
        FaceImageProcessor.from_pretrained(tmp_path),
        AutoImageProcessor.from_pretrained(tmp_path),
    ):
        assert again.size == form
        assert again(picture, return_tensors="pt").pixel_values.shape == (1, 3, *expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", {"shortest_edge": 64}),
        ("size", {"height": 64}),
        ("size", 0),
        ("size", (64, -1)),
        ("size", 64.5),
        ("size", "large"),
        ("size", 10**9),
        ("size", (1, 2, 3)),
        ("resample", 9),
        ("resample", "bilinear"),
        ("do_align", "false"),
        ("multiple_faces", "smallest"),
        ("detector", 5),
        ("detector_threshold", 2.0),
        ("detector_threshold", "high"),
    ],
)
def test_values_that_make_no_sense(picture, tmp_path, name, value):
    processor = FaceImageProcessor()
    state = {**processor.to_dict(), name: value}
    for way in (
        lambda: FaceImageProcessor(**{name: value}),
        lambda: FaceImageProcessor.from_dict(state),
        lambda: setattr(processor, name, value),
        lambda: processor(picture, **{name: value}),
        lambda: processor.extract_faces(picture, **{name: value}),
    ):
        with pytest.raises(ValueError, match=f"^{name} [^\n]*$"):
            way()
    assert processor.to_dict() == FaceImageProcessor().to_dict()


# -- overriding them --------------------------------------------------------------------------------------------------

OVERRIDES = {
    "size": 64,
    "resample": 3,
    "do_align": True,
    "multiple_faces": "all",
    "detector": "other/detector",
    "detector_threshold": 0.25,
}


def test_every_argument_can_be_overridden():
    assert set(OVERRIDES) == set(FaceImageProcessorKwargs.__annotations__)


@pytest.mark.parametrize("name", list(OVERRIDES))
def test_a_call_may_override(picture, name):
    processor, value = FaceImageProcessor(), OVERRIDES[name]
    before = processor.to_dict()
    # With landmarks nothing is looked for, so that no detector is needed.
    points = None if name in ("size", "resample") else POINTS
    expected = FaceImageProcessor(**{name: value})(picture, points, return_tensors="pt").pixel_values
    assert_close(processor(picture, points, return_tensors="pt", **{name: value}).pixel_values, expected)
    assert_close(processor.preprocess(picture, points, return_tensors="pt", **{name: value}).pixel_values, expected)
    assert_close(processor.extract_faces(picture, points, **{name: value})[0].pixel_values, expected[0])
    assert processor.to_dict() == before
    unchanged = processor(picture, points, return_tensors="pt", **{name: None}).pixel_values
    assert_close(unchanged, processor(picture, points, return_tensors="pt").pixel_values)


def test_the_detector_of_a_call_is_that_of_the_call(picture, tmp_path):
    processor = FaceImageProcessor(do_align=True, detector=tmp_path / "one.onnx")
    for detector in (None, tmp_path / "two.onnx", tmp_path / "three.onnx"):
        name = "one.onnx" if detector is None else detector.name
        with pytest.raises(FileNotFoundError, match=name):
            processor(picture, detector=detector)
    assert "detectors" not in processor.to_json_string()
    for again in (copy.deepcopy(processor), pickle.loads(pickle.dumps(processor))):
        assert again.to_dict() == processor.to_dict()


def test_what_no_call_takes(picture):
    with pytest.raises(TypeError, match="takes no 'do_resize'; it takes size, resample"):
        FaceImageProcessor()(picture, do_resize=False)


# -- threads ----------------------------------------------------------------------------------------------------------


def test_threads_with_one_processor(picture, tmp_path):
    picture.save(tmp_path / "face.png")
    processor = FaceImageProcessor()
    calls = [(tmp_path / "face.png", {"size": 16 + i % 5}) for i in range(40)]
    expected = [processor(image, return_tensors="pt", **kwargs).pixel_values for image, kwargs in calls]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda call: processor(call[0], return_tensors="pt", **call[1]).pixel_values, calls)
        for actual, wanted in zip(found, expected, strict=True):
            assert_close(actual, wanted)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "GIF"])
def test_threads_with_one_picture_that_is_not_read_yet(picture, tmp_path, form):
    path = tmp_path / "face"
    picture.resize((400, 400)).save(path, form)
    processor = FaceImageProcessor(size=16)
    (expected,) = processor.extract_faces(path)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(5):
            with Image.open(path) as shared, ThreadPoolExecutor(4) as pool:
                for (crop,) in pool.map(processor.extract_faces, [shared] * 4):
                    assert_close(crop.pixel_values, expected.pixel_values)
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.shared
def test_threads_with_one_detector(shared_dir):
    pq = pytest.importorskip("pyarrow.parquet")
    rows = pq.read_table(shared_dir / "data" / "lfw" / "raw_sample.parquet", columns=["image"]).to_pylist()[:12]
    detector = shared_dir / "weights" / "yunet" / "yunet_n_dynamic.onnx"
    processor = FaceImageProcessor(do_align=True, detector=detector, multiple_faces="all")
    images = [row["image"] for row in rows]
    expected = [processor.extract_faces(image) for image in images]
    assert len(processor._detectors) == 1
    with ThreadPoolExecutor(4) as pool:
        for crops, wanted in zip(pool.map(processor.extract_faces, images * 3), expected * 3, strict=True):
            assert len(crops) == len(wanted)
            for crop, other in zip(crops, wanted, strict=True):
                assert_close(crop.landmarks, other.landmarks)
                assert_close(torch.from_numpy(crop.pixel_values), other.pixel_values)
