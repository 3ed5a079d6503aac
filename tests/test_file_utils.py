# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest

from diffiqa_hf.file_utils import replace_file, stand_in


def test_a_file_is_whole_or_absent(tmp_path):
    def fails(path):
        path.write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        replace_file(tmp_path / "new" / "file", fails)
    assert list((tmp_path / "new").iterdir()) == []
    replace_file(tmp_path / "file", lambda path: np.save(path.open("wb"), [1]))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["file"]


def test_what_lies_in_the_place_of_a_file():
    assert "Git LFS pointer" in stand_in(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    for page in (b"<!DOCTYPE html><p>", b"\n <html lang=en>", b"\xef\xbb\xbf<?xml version='1.0'?>"):
        assert "the download gave a web page" in stand_in(page)
    for content in (b"", b"file,score\n", b"version,score\n"):
        assert stand_in(content) is None
