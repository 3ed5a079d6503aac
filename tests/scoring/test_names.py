# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import unicodedata

import pytest

from diffiqa_hf.scoring.names import FileKeys, Names, existing_file
from diffiqa_hf.scoring.tables import TableError


def test_names_by_what_they_end_in():
    index = Names(["lfw/Bo/Bo_0001.jpg", "lfw/Cy/Cy_0001.jpg", "x/1.png", "y/1.png", "2.png"], "scores.csv")
    wanted = ["Cy_0001", "Bo/Bo_0001.jpg", "lfw/Bo/Bo_0001.jpg", "y/1.png", "somewhere/else/2.png", "/2"]
    assert index.find(wanted, "pairs.txt").tolist() == [1, 0, 0, 3, 4, 4]
    with pytest.raises(TableError, match=r"pairs.txt: 1.png fits 2 images of scores.csv: x/1.png, y/1.png"):
        index.find(["1.png"], "pairs.txt")
    # A common ending is not enough.
    with pytest.raises(TableError, match="2 images are not in scores.csv, the first is Cy/Bo_0001.jpg"):
        index.find(["Cy/Bo_0001.jpg", "Bo_0001", "Dee_0001"], "pairs.txt")
    with pytest.raises(TableError, match="twice"):
        Names(["a.jpg", "a.jpg"], "scores.csv")


def test_another_ending_is_another_file():
    both = Names(["p/3.jpg", "p/3.png", "p/4.jpg", "p/5", "p/6.v2", "p/6.v3"], "A.csv")
    assert both.find(["p/3.png", "3.jpg", "p/4", "p/5.jpg", "6.v3"], "pairs.csv").tolist() == [1, 0, 2, 3, 5]
    with pytest.raises(TableError, match="p/3 fits 2 images of A.csv: p/3.jpg, p/3.png"):
        both.find(["p/3"], "pairs.csv")
    with pytest.raises(TableError, match=r"the image p/4.png \(p/4.jpg is, which is another file\) is not in A.csv"):
        both.find(["p/4.png"], "pairs.csv")
    with pytest.raises(TableError, match="the image p/6 is not in A.csv"):
        both.find(["p/6"], "pairs.csv")
    assert both.lookup(["p/4.png", "p/4.jpg"], "who.csv").tolist() == [-1, 2]


@pytest.mark.parametrize(
    ("one", "other"), [("A/1.jpg", "B/1.jpg"), ("1.jpg", "1.png"), ("x/A/1.jpg", "y/A/1.jpg"), ("A/1", "B/1.jpg")]
)
def test_two_images_are_not_one_row(one, other):
    with pytest.raises(TableError, match=rf"pairs.csv: {one} and {other} both fit 1(.jpg)? of t.csv"):
        Names(["1.jpg" if ".png" not in other else "1"], "t.csv").find([one, other], "pairs.csv")
    # Of one image there may be several spellings.
    assert Names(["1.jpg"], "t.csv").find(["1", "A/1.jpg", "1.jpg", "/x/A/1.jpg", "A/1"], "p").tolist() == [0] * 5


def test_a_person_and_a_number_as_lfw_has_them():
    names = ["x/Bo_1.jpg", "x/Bo_0002_0.png", "Cy/003.jpg", "Dee_01.jpg", "Dee_1.jpg", "Eve_7_0.jpg", "Eve_7.jpg"]
    index = Names(names, "s.csv")
    wanted = ["Bo_0001", "Bo_0002", "Cy_0003"]
    assert index.find(wanted, "pairs.txt", numbered=True).tolist() == [0, 1, 2]
    with pytest.raises(TableError, match="3 images are not in s.csv"):
        index.find(wanted, "pairs.txt")
    for name in ("Dee_0001", "Eve_0007"):
        with pytest.raises(TableError, match=f"{name} fits 2 images"):
            index.find([name], "pairs.txt", numbered=True)


def test_one_file_under_many_spellings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p" / "q").mkdir(parents=True)
    (tmp_path / "p" / "a.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("p/a.jpg")
    (tmp_path / "folder").symlink_to("p")
    key = FileKeys()
    spellings = ["p/a.jpg", "./p/a.jpg", "p//a.jpg", "p/q/../a.jpg", str(tmp_path / "p/a.jpg"), "link.jpg"]
    assert len({key(name) for name in [*spellings, "folder/a.jpg", "p\\a.jpg"]}) == 1
    # Also where nothing is there any more, and whatever the names hold.
    assert key("gone/./b.jpg") == key(str(tmp_path / "gone/x/../b.jpg")) != key("gone/c.jpg")
    for name in ("", ".", "/", "a\0b", "\udcff", "x" * 5000, "a/" * 3000):
        assert isinstance(key(name), str)


def test_accents_have_two_forms(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nfc, nfd = (unicodedata.normalize(form, "Jürgen/é.jpg") for form in ("NFC", "NFD"))
    assert nfc != nfd
    assert Names([nfd], "s.csv").find([nfc, "é", nfd], "pairs.csv").tolist() == [0, 0, 0]
    with pytest.raises(TableError, match="occurs twice"):
        Names([nfc, nfd], "s.csv")
    (tmp_path / nfc).parent.mkdir()
    (tmp_path / nfc).touch()
    assert existing_file(nfd) == nfc and existing_file("gone/é.jpg") == "gone/é.jpg"
