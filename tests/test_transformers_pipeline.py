# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""transformers.pipeline("face-image-quality-assessment"): how images come in, and what its model may be like."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import GeneratorType

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from diffiqa_hf import FaceImageProcessor, IResNetConfig, IResNetForFaceQuality, fold
from diffiqa_hf.default_weights import QUALITY_MODEL


SIZE = 32


@pytest.fixture(scope="module")
def model() -> IResNetForFaceQuality:
    torch.manual_seed(0)
    config = IResNetConfig(depths=[1, 1], widths=[8, 8], embedding_size=16, crop_size=[SIZE, SIZE])
    return IResNetForFaceQuality(config).eval()


def assess(model):
    return pipeline("face-image-quality-assessment", model=model, image_processor=FaceImageProcessor(size=SIZE))


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def expected(model, faces) -> list[float]:
    with torch.no_grad():
        scores = model(**FaceImageProcessor(size=SIZE)(faces, return_tensors="pt")).scores
    assert scores.unique().numel() == 5
    return pytest.approx(scores.tolist(), abs=1e-5 * scores.abs().max().item())


def scores(results) -> list[float]:
    return [result["score"] for result in results]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_many_images_of_every_kind(model, faces, expected, batch_size):
    pipe = assess(model)
    pictures = [Image.fromarray(face) for face in faces]
    stack = np.stack(faces)
    for images in (faces, tuple(faces), pictures, stack, torch.from_numpy(stack).permute(0, 3, 1, 2)):
        results = pipe(images, batch_size=batch_size)
        assert isinstance(results, list) and scores(results) == expected
    for images in ((face for face in faces), map(Image.fromarray, faces), iter(faces)):
        results = pipe(images, batch_size=batch_size)
        assert not isinstance(results, list) and scores(results) == expected
    assert pipe([]) == [] and pipe(()) == []


@pytest.mark.parametrize("batch_size", [1, 2])
def test_columns_of_datasets(model, faces, expected, batch_size):
    datasets = pytest.importorskip("datasets", reason="needs datasets: pip install datasets")
    pipe = assess(model)
    pictures = [Image.fromarray(face) for face in faces]
    dataset = datasets.Dataset.from_dict({"face": pictures, "name": list("abcde")})
    results = pipe(dataset["face"], batch_size=batch_size)
    assert isinstance(results, list) and scores(results) == expected
    assert scores(pipe(dataset["face"][:], batch_size=batch_size)) == expected
    undecoded = dataset.cast_column("face", datasets.Image(decode=False))
    assert scores(pipe(undecoded["face"], batch_size=batch_size)) == expected
    assert scores(pipe(KeyDataset(dataset, "face"), batch_size=batch_size)) == expected
    assert scores(pipe(dataset.to_iterable_dataset()["face"], batch_size=batch_size)) == expected


def test_one_image(model, faces, expected, tmp_path):
    pipe = assess(model)
    Image.fromarray(faces[0]).save(tmp_path / "face.png")
    row = {"bytes": (tmp_path / "face.png").read_bytes(), "path": None}
    chw = torch.from_numpy(faces[0]).permute(2, 0, 1)
    for image in (faces[0], chw, Image.fromarray(faces[0]), tmp_path / "face.png", str(tmp_path / "face.png"), row):
        result = pipe(image)
        assert result["score"] == pytest.approx(expected.expected[0], abs=1e-4)
    for nothing in (5, None):
        with pytest.raises(ValueError, match="is no image"):
            pipe(nothing)


def test_a_folder_of_images_is_read_as_it_goes(model, faces):
    taken = []

    def images() -> GeneratorType:
        for number, face in enumerate(faces):
            taken.append(number)
            yield face

    results = assess(model)(images())
    next(iter(results))
    assert len(taken) < len(faces)


def test_in_training_mode_compiled_folded_and_giving_tuples(model, faces, expected):
    training = IResNetForFaceQuality(model.config)
    training.load_state_dict(model.state_dict())
    pipe = assess(training)
    training.train()
    assert scores(pipe(faces)) == expected and training.training
    assert training.backbone.bn1.num_batches_tracked == 0
    tuples = IResNetForFaceQuality.from_pretrained(None, config=model.config, state_dict=model.state_dict())
    tuples.config.return_dict = False
    assert scores(assess(tuples)(faces)) == expected
    tuples.config.return_dict = True
    folded = scores(assess(fold(model))(faces))
    assert folded == pytest.approx(expected.expected, abs=1e-4 * max(map(abs, expected.expected)))


def test_threads(model, faces, expected):
    pipe = assess(model)
    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(lambda _: pipe(faces, batch_size=2), range(8)):
            assert scores(results) == expected


def test_onnx_runtime_takes_the_place_of_torch_where_the_form_is_of_the_model():
    files = sorted(str(path) for path in (Path(__file__).parents[1] / "examples" / "faces").glob("*.jpg"))[:5]
    in_torch, in_onnx = (
        pipeline("face-image-quality-assessment", model=str(QUALITY_MODEL), engine=engine, device="cpu")
        for engine in ("torch", "auto")
    )
    assert (in_torch.engine, in_onnx.engine) == ("torch", "onnx")
    for expected, found in zip(in_torch(files), in_onnx(files, batch_size=2), strict=True):
        assert found["score"] == pytest.approx(expected["score"], abs=1e-5)
        assert found["percentile"] == pytest.approx(expected["percentile"], abs=0.05)
    # A model that is no longer that of its files has another form, or none.
    model = in_torch.model
    with torch.no_grad():
        model.head.score.bias += 1
    changed = pipeline(
        "face-image-quality-assessment", model=model, image_processor=in_torch.image_processor, device="cpu"
    )
    assert changed.engine == "torch"
    with pytest.raises(ValueError, match="engine is one of"):
        pipeline(
            "face-image-quality-assessment", model=model, image_processor=in_torch.image_processor, engine="tensorrt"
        )
