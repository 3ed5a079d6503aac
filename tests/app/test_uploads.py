# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What may be uploaded, and where it goes."""

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from diffiqa_hf.app.uploads import MEGABYTE, Limits, UploadError, receive


def archive(members: dict[str, bytes], links: tuple[str, ...] = ()) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFLNK if name in links else stat.S_IFREG) << 16
            written.writestr(info, content)
    file.seek(0)
    return file


def names_and_contents(received) -> dict[str, bytes]:
    return {upload.name: upload.path.read_bytes() for upload in received.uploads if upload.error is None}


def test_files_and_archives_lie_under_names_of_ours(tmp_path):
    files = [
        ("a.jpg", io.BytesIO(b"first")),
        ("notes.txt", io.BytesIO(b"chosen by itself")),
        ("People.ZIP", archive({"bo/b.png": b"second", "an/a.png": b"third", "an/": b""})),
    ]
    received = receive(files, tmp_path, Limits())
    expected = {"a.jpg": b"first", "notes.txt": b"chosen by itself", "an/a.png": b"third", "bo/b.png": b"second"}
    assert list(names_and_contents(received).items()) == list(expected.items())
    assert received.notes == []
    assert sorted(os.listdir(tmp_path)) == ["000000.jpg", "000001.txt", "000002.png", "000003.png"]


def test_what_no_command_takes_out_of_a_folder_is_left_out_and_counted(tmp_path):
    members = {
        "__MACOSX/._a.jpg": b"x",
        "people/.hidden.jpg": b"x",
        "people/@eaDir/a.jpg": b"x",
        "people/Thumbs.db": b"x",
        "people/list.csv": b"x",
        "people/README": b"x",
        "people/a.jpg": b"kept",
    }
    received = receive([("people.zip", archive(members))], tmp_path, Limits())
    assert names_and_contents(received) == {"people/a.jpg": b"kept"}
    assert received.notes == [
        "left out, as no photographs by their endings: 1 .csv, 1 no ending",
        "left out, as hidden or a tool's: 4 files",
    ]
    # A folder that a browser sends has names with slashes, and is the same.
    (tmp_path / "again").mkdir()
    folder = [(name, io.BytesIO(content)) for name, content in members.items()]
    again = receive(folder, tmp_path / "again", Limits())
    assert (names_and_contents(again), again.notes) == (names_and_contents(received), received.notes)


def test_no_member_is_written_outside_or_followed_as_a_link(tmp_path):
    (tmp_path / "in").mkdir()
    members = {
        "../out.jpg": b"x",
        "a/../../out.jpg": b"x",
        "/out.jpg": b"x",
        "C:\\out.jpg": b"x",
        "..\\out.jpg": b"x",
        "link.jpg": b"/etc/passwd",
        "a.jpg": b"kept",
    }
    received = receive([("x.zip", archive(members, ("link.jpg",)))], tmp_path / "in", Limits())
    assert names_and_contents(received) == {"a.jpg": b"kept"}
    assert received.notes == ["left out, as links or with a path that leads out of the archive: 6 files"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["000000.jpg", "in"]


def test_a_name_is_text_and_never_a_path(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(UploadError, match="there is no photograph"):
        receive([("../../out.jpg", io.BytesIO(b"x"))], tmp_path / "in", Limits())
    assert not list(tmp_path.rglob("*.jpg"))
    received = receive([("a\n<b>.jpg", io.BytesIO(b"x"))], tmp_path, Limits())
    assert received.uploads[0].name == "a?<b>.jpg"


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_written(tmp_path):
    bomb = archive({f"{number}.jpg": bytes(MEGABYTE) for number in range(20)})
    assert len(bomb.getvalue()) < MEGABYTE / 10
    with pytest.raises(UploadError, match="more than 3 megabytes"):
        receive([("bomb.zip", bomb)], tmp_path, Limits(unpacked=3))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 * MEGABYTE


def test_more_photographs_than_allowed_are_refused(tmp_path):
    members = {f"{number}.jpg": b"x" for number in range(4)}
    with pytest.raises(UploadError, match="more than 3 photographs"):
        receive([("many.zip", archive(members))], tmp_path, Limits(files=3))


def test_members_that_can_not_be_read_are_lines_and_the_others_are_there(tmp_path):
    content = archive({"a.jpg": os.urandom(200), "b.jpg": b"whole"}).getvalue()
    at = content.index(b"a.jpg") + len("a.jpg") + 50
    damaged = content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]
    received = receive([("x.zip", io.BytesIO(damaged))], tmp_path, Limits())
    assert names_and_contents(received) == {"b.jpg": b"whole"}
    assert [upload.name for upload in received.uploads if upload.error] == ["a.jpg"]
    assert received.uploads[0].error.startswith("damaged in the archive")


def test_an_encrypted_member_is_a_line(tmp_path):
    content = bytearray(archive({"a.jpg": b"x", "b.jpg": b"whole"}).getvalue())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    received = receive([("x.zip", io.BytesIO(content))], tmp_path, Limits())
    assert {upload.name: upload.error for upload in received.uploads} == {"a.jpg": "encrypted", "b.jpg": None}


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_what_is_no_archive_is_a_line(tmp_path, content):
    files = [("x.zip", io.BytesIO(content)), ("a.jpg", io.BytesIO(b"x"))]
    received = receive(files, tmp_path, Limits())
    assert "not a zip archive" in received.uploads[0].error
    assert received.uploads[1].error is None


def test_two_photographs_of_one_name_are_told_apart(tmp_path):
    files = [("a.jpg", io.BytesIO(b"1")), ("a.jpg", io.BytesIO(b"2"))]
    assert [upload.name for upload in receive(files, tmp_path, Limits()).uploads] == ["a.jpg", "a.jpg (2)"]
    (tmp_path / "zips").mkdir()
    archives = [(f"{name}.zip", archive({"a.jpg": b"x"})) for name in ("x", "y")]
    received = receive(archives, tmp_path / "zips", Limits())
    assert [upload.name for upload in received.uploads] == ["x/a.jpg", "y/a.jpg"]
    assert all(Path(upload.path).parent == tmp_path / "zips" for upload in received.uploads)


def test_nothing_to_score_is_said(tmp_path):
    with pytest.raises(
        UploadError, match="there is no photograph: left out, as no photographs by their endings: 1 .txt"
    ):
        receive([("x.zip", archive({"a.txt": b"x"}))], tmp_path, Limits())
