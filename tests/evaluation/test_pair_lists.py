# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import pytest

from diffiqa_hf.evaluation.pair_lists import read_pairs
from diffiqa_hf.scoring.tables import TableError


def test_pairs_of_every_kind(tmp_path):
    (tmp_path / "lfw.txt").write_text("1\nBo\t1\t2\nBo\t1\tCy\t1\n")
    (tmp_path / "flat.txt").write_text("Bo_0001.jpg 1\nBo_0002.jpg 1\nBo_0001.jpg 0\nCy_0001.jpg 0\n")
    (tmp_path / "pairs.csv").write_text("a,b,same,s\nBo_0001,Bo_0002,true,0.5\nBo_0001,Cy_0001,0,-1\n")
    lfw, flat = read_pairs(tmp_path / "lfw.txt"), read_pairs(tmp_path / "flat.txt")
    table = read_pairs(tmp_path / "pairs.csv", ("a", "b", "same"), "s")
    for pairs, ending in ((lfw, ""), (flat, ".jpg"), (table, "")):
        assert pairs.first == [f"Bo_0001{ending}"] * 2 and pairs.second == [f"Bo_0002{ending}", f"Cy_0001{ending}"]
        assert pairs.mated.tolist() == [True, False]
    assert lfw.identities == {"Bo_0001": "Bo", "Bo_0002": "Bo", "Cy_0001": "Cy"}
    assert table.identities is None and table.similarities.tolist() == [0.5, -1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("file_a,file_b\na,b\n", "no column 'mated'; it has file_a, file_b"),
        ("file_a,file_b,mated\na,b,yes\n", "pair 1: mated is 1 or 0"),
        ("file_a,file_b,mated\n", "has no pairs"),
        ("file_a,file_b,mated,similarity\na,b,1,x\n", "row 1: 'x' is no number"),
        ("file_a,file_b,mated,similarity\na,b,1,.5\na,c,0,\n", "pair 2 has no similarity"),
    ],
)
def test_pairs_that_are_none(tmp_path, content, reason):
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(TableError, match=reason):
        read_pairs(tmp_path / "pairs.csv", similarity_column="similarity" if "similarity" in content else None)


@pytest.mark.parametrize(
    "lines",
    [
        "a/1.jpg b/1.jpg 1\nc.jpg d.jpg 0\n",
        "a/1.jpg,b/1.jpg,1\r\nc.jpg,d.jpg,0\r\n",
        "\ufeffa/1.jpg\tb/1.jpg\t1\n\nc.jpg\td.jpg\t-1",
        "a/1.jpg;b/1.jpg;True\nc.jpg;d.jpg;False\n",
    ],
)
def test_lines_of_two_files_and_a_label(tmp_path, lines):
    (tmp_path / "pairs.txt").write_text(lines, "utf-8", newline="")
    pairs = read_pairs(tmp_path / "pairs.txt")
    assert (pairs.first, pairs.second) == (["a/1.jpg", "c.jpg"], ["b/1.jpg", "d.jpg"])
    assert pairs.mated.tolist() == [True, False] and pairs.identities is None


def test_numbers_may_be_names(tmp_path):
    (tmp_path / "pairs.txt").write_text("1 2 1\n3 4 0\n")
    assert read_pairs(tmp_path / "pairs.txt").first == ["1", "3"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "has no pairs"),
        ("Bo 1 2\n", "1 lines, and a pair takes two"),
        ("a b 1\nc d\n", "line 2: not 'file file 1' or 'file file 0': 'c d'"),
        ("a b 2\n", "line 1: mated is 1 or 0"),
        ("version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ("0\n", "has no pairs"),
    ],
)
def test_texts_that_are_no_pairs(tmp_path, content, reason):
    (tmp_path / "pairs.txt").write_text(content)
    with pytest.raises(TableError, match=f"pairs.txt: {reason}"):
        read_pairs(tmp_path / "pairs.txt")
