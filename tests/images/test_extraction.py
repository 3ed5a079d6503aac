# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Which pictures are aligned crops, and what can be given as an image."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf import FaceImageProcessor, load_method
from diffiqa_hf.alignment import arcface_template
from diffiqa_hf.images.extraction import FaceExtractor, looks_aligned


FACES = Path(__file__).parents[2] / "examples" / "faces"
FACE = FACES / "astronaut.jpg"


@pytest.mark.parametrize("size", [(112, 112), (250, 250), (96, 112), (1000, 1000), (192, 224)])
def test_a_face_where_the_template_has_it_is_a_crop_of_any_size(size):
    width, height = size
    points = arcface_template((height, width))
    rng = np.random.default_rng(0)
    assert looks_aligned(points, size)
    assert looks_aligned(points + rng.normal(0, 2 * height / 112, points.shape), size)
    middle = np.array([width, height]) / 2
    turned = (points - middle) @ np.array([[0, 1], [-1, 0]]) + middle
    smaller = (points - middle) * 0.6 + middle
    for other in (turned, smaller, points + [0, 0.15 * height], points * 0, points[[1, 0, 2, 4, 3]]):
        assert not looks_aligned(other, size)


def test_crops_by_convention_are_taken_as_they_are_without_a_detector():
    face = Image.open(FACE)
    for size in ((112, 112), (96, 112)):
        crop = face.resize(size)
        (automatic,) = FaceExtractor(do_align="auto", detector="gone.onnx").extract_faces(crop)
        (as_it_is,) = FaceExtractor().extract_faces(crop)
        assert np.array_equal(automatic.pixel_values, as_it_is.pixel_values)
    with pytest.raises(OSError, match="gone.onnx"):
        FaceExtractor(do_align="auto", detector="gone.onnx").extract_faces(face.resize((300, 300)))
    with pytest.raises(ValueError, match="'auto'"):
        FaceExtractor(do_align="maybe")


def test_the_state_of_a_processor_may_be_auto(tmp_path):
    FaceImageProcessor(do_align="auto").save_pretrained(tmp_path)
    assert FaceImageProcessor.from_pretrained(tmp_path).do_align == "auto"
    assert FaceExtractor.from_folder(tmp_path).do_align == "auto"


@pytest.mark.shared
def test_whole_photographs_are_aligned_and_large_crops_are_not(shared_dir):
    pq = pytest.importorskip("pyarrow.parquet")
    detector = str(shared_dir / "weights" / "yunet" / "yunet_n_dynamic.onnx")
    extractor = FaceExtractor(do_align="auto", detector=detector)

    def read(name: str, count: int) -> list[Image.Image]:
        table = pq.read_table(shared_dir / "data" / "lfw" / name, columns=["image"]).slice(0, count)
        return [Image.open(io.BytesIO(row["bytes"])).convert("RGB") for row in table["image"].to_pylist()]

    assert all(extractor.extract_faces(photo)[0].landmarks is not None for photo in read("raw_sample.parquet", 64))
    crops = [crop.resize((224, 224), Image.Resampling.BICUBIC) for crop in read("dev_test.parquet", 64)]
    assert sum(extractor.extract_faces(crop)[0].landmarks is not None for crop in crops) <= 3
    with pytest.raises(ValueError, match="no face found; an aligned crop can be scored without alignment"):
        extractor.extract_faces(Image.new("RGB", (300, 300)))


def test_bytes_and_open_files_are_one_image():
    method = load_method()
    expected = method(str(FACE)).scores
    content = FACE.read_bytes()
    with open(FACE, "rb") as opened:
        given = [content, bytearray(content), memoryview(content), io.BytesIO(content), opened]
        for image in given:
            assert np.array_equal(method(image).scores, expected)
    output = method([content, io.BytesIO(content), b"", b"no image", io.StringIO("text")])
    assert output.scores[:2].tolist() == pytest.approx([expected.item()] * 2, abs=1e-6)
    assert output.errors[2:4] == ["empty file", "not an image, or in a format that Pillow can't read"]
    assert "open as text" in output.errors[4]


def test_alignment_is_the_methods_own_and_not_that_of_a_pipeline_given():
    from diffiqa_hf import DifFIQAPipeline

    pipe = DifFIQAPipeline.from_pretrained("default")
    method = load_method("diffiqa", pipe, align=True, detector="mine.onnx")
    assert method.image_processor.do_align is True and method.image_processor.detector == "mine.onnx"
    assert method.pipeline.image_processor is method.image_processor
    assert pipe.image_processor.do_align is False
    assert load_method().image_processor.do_align == "auto"
    processor = FaceImageProcessor()
    assert load_method(image_processor=processor).image_processor is processor
    with pytest.raises(ValueError, match="align and detector"):
        load_method(image_processor=processor, align=True)
