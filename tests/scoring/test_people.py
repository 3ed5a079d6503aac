# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The same faces are the same people, however deep the folders are; where that is open, a line asks."""

import pytest

from diffiqa_hf.scoring.people import PeopleError, parse_people


PEOPLE = [f"{k:03d}" for k in range(1, 7)]
LAYOUTS = {
    "person": "p/{who}/{i}.jpg",
    "deeper": "data/faces/p/{who}/{i}.jpg",
    "absolute": "/data/p/{who}/{i}.jpg",
    "up": "../x/./p/{who}/{i}.jpg",
    "sessions": "p/{who}/{pose}/{i}.jpg",
    "a folder of images": "p/{who}/images/{i}.jpg",
    "some images beside their sessions": "p/{who}/{loose}{i}.jpg",
    "parts": "p/{part}/{who}/{i}.jpg",
    "gallery and probe": "p/{gallery}/{who}/{i}.jpg",
    "parts and sessions": "p/{part}/{who}/session_{i}/1.jpg",
    "a folder of its own in the folder": "p/{who}/{who}_x/{i}.jpg",
    "Windows": "p\\{who}\\{i}.jpg",
}


def files_of(layout: str) -> tuple[list[str], list[str]]:
    files, people = [], []
    for k, who in enumerate(PEOPLE):
        for i in range(4):
            parts = {"pose": ("frontal", "profile")[i % 2], "loose": ("", "old/")[i % 2]}
            parts |= {"part": ("train", "test")[k % 2], "gallery": ("gallery", "probe")[i % 2]}
            files.append(layout.format(who=who, i=i, **parts))
            people.append(who)
    return files, people


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_faces_are_the_same_people(layout):
    files, people = files_of(LAYOUTS[layout])
    found = parse_people("folder", "--identities")(files)
    assert found.labels == people
    assert found.said().startswith(f"6 people in 24 images, such as 001 (4: {files[0]}, ...); from ")
    # In any order, and with the folder that was named.
    assert parse_people("folder", "--identities")(files[::-1]).labels == people[::-1]


@pytest.mark.parametrize(
    "layout",
    [
        "p/{who}/{i}/1.jpg",  # as YouTube Faces has them: or {i} are people under parts of a set
        "p/{camera}/{who}/{i}.jpg",
        "p/{who}/day {pose}/{i}.jpg",
        "p/{part}/{i}.jpg",  # nobody is called train
        "p/{uneven}/{i}.jpg",
    ],
)
def test_what_is_open_is_asked(layout):
    files = []
    for k, who in enumerate(PEOPLE):
        for i in range(4):
            parts = {
                "camera": "nikon canon leica".split()[i % 3],
                "pose": "ab"[i % 2],
                "part": ("train", "test")[k % 2],
            }
            files.append(layout.format(who=who, i=i, uneven=who if k % 2 else f"x/{who}", **parts))
    with pytest.raises(
        PeopleError, match="which folder is the person is not clear, as in .*: --identities first-folder"
    ):
        parse_people("folder", "--identities")(files)


def test_the_options_that_decide():
    files = [f"p/{who}/{day}/1.jpg" for who in ("Ann", "Bob") for day in ("x", "y")]

    def labels(how, **options):
        return parse_people(how, "--identities", **options)(files).labels

    assert labels("first-folder") == ["Ann", "Ann", "Bob", "Bob"]
    assert labels("parent") == ["x", "y", "x", "y"]
    assert labels("each-folder") == ["Ann/x", "Ann/y", "Bob/x", "Bob/y"]
    assert labels("regex:p/([^/]+)/") == ["Ann", "Ann", "Bob", "Bob"]
    assert labels(r"regex:Ann/(\w)") == ["x", "y", None, None]
    # With one person the folder that was named says where people begin.
    assert parse_people("first-folder", "o", ["p"])(files[:2]).labels == ["Ann", "Ann"]
    for how in ("who", "regex:(", "missing.csv"):
        with pytest.raises(PeopleError, match=r"^--identities .*(neither folder|no regular expression|No such file)"):
            labels(how)


@pytest.mark.parametrize("files", [["p/1.jpg", "p/2.jpg"], ["1.jpg", "2.jpg"], ["/x/1.jpg", "/x/2.jpg"]])
def test_one_folder_is_nobody(files):
    with pytest.raises(
        PeopleError, match="all images lie in one folder, so that it names one person.*--identities name"
    ):
        parse_people("folder", "--identities")(files)
    # `best` takes the best of it.
    assert len(set(parse_people("folder", "--group-by", one_is_enough=True)(files).labels)) == 1


def test_what_is_no_person_is_unknown_and_counted():
    files = ["p/Ann/1.jpg", "p/Ann/.ipynb_checkpoints/1.jpg", "p/Bob/1.jpg", "p/__MACOSX/Ann/1.jpg", "p/loose.jpg"]
    found = parse_people("folder", "--identities")(files)
    assert found.labels == ["Ann", None, "Bob", None, None]
    assert "2 people in 2 images" in found.said() and "3 of nobody known, such as p/Ann/.ipynb" in found.said()


def test_names_of_files():
    files = ["x/Aaron_Eckhart_0001.jpg", "x/Bo_1.jpg", "x/Bo_2.png", "x/me.jpg", "x/0001.jpg", "n000001_0002.jpg"]
    assert parse_people("name", "o")(files).labels == ["Aaron_Eckhart", "Bo", "Bo", None, None, "n000001"]
    # A detector's number of the face, where all have it; else the number of the picture.
    assert parse_people("name", "o")(["Bo_0001_0.png", "Cy_01_0.png"]).labels == ["Bo", "Cy"]
    assert parse_people("name", "o")(["Bo_01_0.png", "Bo_01_1.png"]).labels == ["Bo_01", "Bo_01"]


def test_a_table_of_people(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "who.csv").write_text("\ufefffile;identity\r\np/a.jpg;Ann\r\n./p/b.jpg;\r\nc;7\r\n", "utf-8")
    files = ["p/a.jpg", str(tmp_path / "p/b.jpg"), "q/c.jpg", "q/d.jpg"]
    assert parse_people("who.csv", "o")(files).labels == ["Ann", None, "7", None]
    # By the name alone only where it is that file's and no other.
    (tmp_path / "names.csv").write_text("file,identity\n1.jpg,Ann\n")
    assert parse_people("names.csv", "o")(["x/1.jpg"]).labels == ["Ann"]
    with pytest.raises(PeopleError, match="x/1.jpg and y/1.jpg both fit 1.jpg of names.csv"):
        parse_people("names.csv", "--identities")(["x/1.jpg", "y/1.jpg"])
    (tmp_path / "twice.csv").write_text("file,identity\np/a.jpg,Ann\n./p/a.jpg,Bob\n")
    with pytest.raises(PeopleError, match=r"./p/a.jpg is there twice, as Ann and as Bob"):
        parse_people("twice.csv", "--identities")
