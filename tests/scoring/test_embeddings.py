# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest

from diffiqa_hf.scoring.embeddings import read_embeddings
from diffiqa_hf.scoring.tables import TableError


def test_as_many_rows_as_images(tmp_path):
    array = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.save(tmp_path / "e.npy", array)
    np.testing.assert_array_equal(read_embeddings(tmp_path / "e.npy", 5, "the dataset"), array)
    for count in (4, 6):
        with pytest.raises(TableError, match=f"e.npy has 5 rows and the dataset {count}: they must be"):
            read_embeddings(tmp_path / "e.npy", count, "the dataset")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file"),
        (b"", "empty file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': 1 bla }", "e.npy: "),
        (np.zeros(3), r"not one array \(images, D\)"),
        (np.zeros((3, 2), int), r"not one array \(images, D\) of floating point"),
        (np.array([[None]], object), "e.npy: "),
    ],
)
def test_what_is_no_array_of_embeddings(tmp_path, content, reason):
    path = tmp_path / "e.npy"
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(TableError, match=reason) as error:
        read_embeddings(path, 3, "it")
    assert "\n" not in str(error.value)
