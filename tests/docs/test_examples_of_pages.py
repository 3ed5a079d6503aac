# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The programs of the pages that are files of their own: the web service, and scores without torch."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.code_blocks import ROOT, blocks_of, run_block
from PIL import Image


FACE = ROOT / "examples" / "faces" / "astronaut.jpg"


def program(page: str, name: str, folder: Path):
    """The module that a page has its reader save, and what the page makes before it."""
    for block in blocks_of((ROOT / "docs" / page).read_text(encoding="utf-8")):
        if block.title == name:
            run_block(block, {})
            spec = importlib.util.spec_from_file_location(Path(name).stem, folder / name)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise AssertionError(f"{page} has no {name}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


# -- the web service --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(folder):
    pytest.importorskip("fastapi")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return program("serving.md", "service.py", folder)


@pytest.fixture
def client(service):
    from fastapi.testclient import TestClient

    return TestClient(service.app)


def test_the_service_gives_the_score_of_the_file(service, client):
    answer = client.post("/score", content=FACE.read_bytes())
    assert answer.status_code == 200
    expected = service.method([FACE])
    assert answer.json()["score"] == pytest.approx(expected.scores[0].item(), rel=1e-5)
    assert answer.json()["percentile"] == pytest.approx(expected.percentiles[0].item(), rel=1e-5)


@pytest.mark.parametrize("content", [b"", b"no picture", FACE.read_bytes()[:500]])
def test_the_service_says_why_it_can_not_score(client, content):
    answer = client.post("/score", content=content)
    assert answer.status_code == 422
    reason = answer.json()["detail"]
    assert isinstance(reason, str) and reason and "\n" not in reason


def test_the_service_reads_no_more_than_its_limit(service, client):
    read = 0

    def endless():
        nonlocal read
        while read < 10 * service.LARGEST:
            read += 1 << 16
            yield bytes(1 << 16)

    assert client.post("/score", content=endless()).status_code == 413


def test_the_service_has_null_where_there_is_no_number(service):
    assert service.number(None) is None
    assert service.number(np.array([np.nan])) is None
    assert service.number(np.array([0.5])) == 0.5


def test_the_service_is_asked_by_many_at_a_time(service, client):
    from concurrent.futures import ThreadPoolExecutor

    files = sorted((ROOT / "examples" / "faces").glob("sample6*.jpg"))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda file: client.post("/score", content=file.read_bytes()).json(), files))
    expected = service.method(files).scores
    np.testing.assert_allclose([answer["score"] for answer in answers], expected, rtol=1e-4)


# -- without torch ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def without_torch(folder):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return program("onnx.md", "score_onnx.py", folder)


def test_scores_without_torch_are_those_of_the_package(without_torch):
    from diffiqa_hf import load_method

    files = [ROOT / "examples" / "faces" / f"astronaut{end}.jpg" for end in ("", "_2_medium", "_4_extreme")]
    faces = [np.asarray(Image.open(file)) for file in files]
    expected = load_method("diffiqa-r")(faces).scores
    np.testing.assert_allclose(without_torch.scores([face[:, :, ::-1] for face in faces]), expected, atol=1e-4)


@pytest.mark.parametrize("size", [1.0, 3.3])
def test_faces_are_aligned_without_the_package_as_with_it(without_torch, size):
    from diffiqa_hf.alignment import align_face

    picture = Image.open(ROOT / "examples" / "photos" / "astronaut.jpg")
    landmarks = np.array(json.loads((ROOT / "examples" / "photos" / "landmarks.json").read_text())["astronaut.jpg"][0])
    picture = picture.resize([round(side * size) for side in picture.size], Image.Resampling.BICUBIC)
    landmarks = (landmarks + 0.5) * size - 0.5
    ours = align_face(picture, landmarks).astype(float)
    theirs = without_torch.aligned(np.ascontiguousarray(np.asarray(picture)[:, :, ::-1]), landmarks)[:, :, ::-1]
    # Two ways to reduce by a whole factor begin at other pixels.
    assert np.abs(ours - theirs).mean() < (0.01 if size == 1.0 else 1.5)


def test_the_program_without_torch_imports_neither_torch_nor_the_package(without_torch):
    source = Path(without_torch.__file__).read_text()
    assert {line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))} == {
        "cv2",
        "numpy",
        "onnxruntime",
    }
