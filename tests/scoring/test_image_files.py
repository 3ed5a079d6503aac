# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import os

import pytest

from diffiqa_hf.scoring import image_files
from diffiqa_hf.scoring.image_files import HEIF_ENDINGS, find_images, image_endings, is_hidden


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_what_pillow_reads_is_found_and_the_rest_is_counted(tmp_path, monkeypatch):
    photographs = ["a.JFIF", "b.jpe", "c.avif", "d.tga", "e.jpg", "f.mpo", "g.webp", "h.j2k", "i.pgm", "j.TIF"]
    make(tmp_path, *photographs, "a.pdf", "b.eps", "c.mpg", "d.txt", "e.txt", "f.fit", "g.ico", "README")
    found = find_images([str(tmp_path)])
    assert [os.path.basename(file) for file in found.files] == sorted(photographs)
    assert found.problems == [] and len(found.notes) == 1
    assert found.notes[0].startswith("left out of the folders, as no photographs by their endings: 2 .txt, 1 ")
    assert {".pdf", ".eps", ".h5", ".svg", ""}.isdisjoint(image_endings())


def test_heic_is_read_or_has_a_line(tmp_path, monkeypatch):
    make(tmp_path, "IMG_1.HEIC", "IMG_2.heif", "a.jpg")
    endings = image_endings() - HEIF_ENDINGS
    monkeypatch.setattr(image_files, "image_endings", lambda: endings)
    found = find_images([str(tmp_path)])
    assert found.files == [str(tmp_path / "a.jpg")]
    assert found.problems == [
        f"2 HEIC or HEIF pictures (such as {tmp_path / 'IMG_1.HEIC'}) left out: "
        "`pip install 'diffiqa-hf[heif]'` lets them be read"
    ]
    monkeypatch.setattr(image_files, "image_endings", lambda: endings | HEIF_ENDINGS)
    assert len(find_images([str(tmp_path)]).files) == 3


def test_tools_leave_no_faces(tmp_path):
    mess = [".ipynb_checkpoints/1-checkpoint.jpg", "__MACOSX/._1.jpg", "._1.jpg", "@eaDir/1.jpg", "#recycle/1.jpg"]
    mess += [
        "$RECYCLE.BIN/1.jpg",
        "lost+found/1.jpg",
        ".thumbnails/1.png",
        ".1.jpg",
        "System Volume Information/1.jpg",
    ]
    mess += ["Thumbs.db", ".DS_Store", "@Recycle/1.jpg"]
    make(tmp_path, "Ann/1.jpg", *mess, *(f"Ann/{name}" for name in mess))
    found = find_images([str(tmp_path)], recursive=True)
    assert found.files == [str(tmp_path / "Ann" / "1.jpg")] and found.problems == []
    assert len(found.notes) == 1
    assert found.notes[0].startswith(f"{2 * len(mess)} hidden files or folders (such as {tmp_path}")
    # What a person names is taken.
    named = str(tmp_path / "Ann" / ".1.jpg")
    assert find_images([named, str(tmp_path / ".thumbnails")]).files == [
        named,
        str(tmp_path / ".thumbnails" / "1.png"),
    ]
    assert not any(map(is_hidden, ("Ann", "@ann", "#1", "recycle", "a.jpg", "db")))


def test_one_file_counts_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "p/001/0.jpg", "p/001/1.jpg")
    (tmp_path / "p" / "002").symlink_to("001")
    (tmp_path / "p" / "001" / "link.jpg").symlink_to("0.jpg")
    found = find_images(["p", "./p/001/0.jpg", "p/001/../001/0.jpg", str(tmp_path / "p/001/1.jpg")], recursive=True)
    assert found.files == ["p/001/0.jpg", "p/001/1.jpg"] and found.problems == []
    assert found.notes == ["4 files are there under two names and count once, such as p/001/link.jpg (p/001/0.jpg)"]


def test_a_folder_without_images_is_a_problem(tmp_path):
    make(tmp_path, "a/notes.txt", "b/c/1.jpg")
    found = find_images([str(tmp_path / "a"), str(tmp_path / "b")])
    assert found.problems == [
        f"no images in the folder {tmp_path / 'a'}",
        f"no images in the folder {tmp_path / 'b'}, only folders: --recursive looks into them",
    ]


@pytest.mark.parametrize("name", ["loop.jpg", "loop"])
def test_links_that_lead_nowhere_end(tmp_path, name):
    (tmp_path / name).symlink_to(name)
    (tmp_path / "gone.jpg").symlink_to("not there")
    assert len(find_images([str(tmp_path)], recursive=True).files) == 1 + (name == "loop.jpg")


def test_a_video_has_a_line_that_says_what_to_do(tmp_path):
    (tmp_path / "clip.MP4").write_bytes(b"video")
    (tmp_path / "face.jpg").write_bytes(b"face")
    files, problems = find_images([str(tmp_path / "clip.MP4"), str(tmp_path / "face.jpg")])
    assert files == [str(tmp_path / "face.jpg")]
    assert len(problems) == 1 and "clip.MP4 is a video: `diffiqa score`" in problems[0]
    # One that is not there is, as any file, said to be missing when it is scored.
    assert find_images([str(tmp_path / "no.mp4")]).files == [str(tmp_path / "no.mp4")]
