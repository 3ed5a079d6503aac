# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What FROQ's layers are chosen by: images, or a folder of them. Its numbers are in test_formulas_more.py."""

import pytest
from PIL import Image

from diffiqa_hf import FaceImageError


@pytest.fixture
def folder(faces, tmp_path):
    """The faces as files, some in a folder of their own."""
    for i, face in enumerate(faces):
        path = tmp_path / "calibration" / ("" if i < 2 else "b") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).save(path)
    (tmp_path / "calibration" / "notes.txt").write_text("no image")
    return tmp_path / "calibration"


def test_a_folder_is_its_images(folder, faces, make_method):
    method = make_method("froq", layers=None, calibration=str(folder))
    assert method.layers == method.choose_layers(faces) == method.choose_layers(folder)
    # The two in the folder itself are too few.
    for path in (folder / "b").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="takes 3 images at least, got 2"):
        method.choose_layers(folder)


def test_an_image_that_cannot_be_read_is_named(folder, faces, make_method):
    method = make_method("froq")
    (folder / "b" / "3.png").write_bytes(b"")
    with pytest.raises(FaceImageError, match=r"^.*calibration/b/3\.png: empty file$"):
        method.choose_layers(folder)
    with pytest.raises(FaceImageError, match=r"^image 2: empty file$"):
        method.choose_layers([*faces[:2], folder / "b" / "3.png"])
    with pytest.raises(FaceImageError, match=r"^.*/nowhere: no such file$"):
        method.choose_layers(folder / "nowhere")
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"^no images in the folder .*/empty$"):
        method.choose_layers(folder / "empty")
