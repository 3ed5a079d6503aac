# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa data`: the list, the cards and the check, with its exit status."""

import argparse

import pytest
from fixtures.benchmark_layouts import (
    jpeg,
    make_adience,
    make_bin,
    make_cfp,
    make_flat,
    make_ijbc,
    make_lfw,
    make_nist_ijbc,
    write,
)

from diffiqa_hf.cli import data
from diffiqa_hf.cli.errors import CommandError
from diffiqa_hf.evaluation.benchmarks import BENCHMARKS, cards, get_benchmark_card
from diffiqa_hf.evaluation.benchmarks.benchmark import Counts


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="diffiqa")
    data.add_parser(parser.add_subparsers())
    args = parser.parse_args(["data", *map(str, arguments)])
    return args.run(args)


@pytest.fixture
def tiny_counts(monkeypatch):
    """The cards as if the benchmarks were as small as the copies that the tests make."""
    small = {
        "adience": Counts(images=8, people=4, mated=5, nonmated=23),
        "calfw": Counts(images=4, people=2, mated=2, nonmated=2),
        "cfp-fp": Counts(images=6, people=2, mated=3, nonmated=3),
        "ijb-c": Counts(people=3, mated=1, nonmated=2, templates=3),
        "lfw": Counts(images=8, people=4, mated=4, nonmated=4),
    }
    for name, counts in small.items():
        card = get_benchmark_card(name)
        monkeypatch.setitem(card.__dict__, "counts", counts)
        if card.views:
            view1 = Counts(images=5, people=2, mated=1, nonmated=1)
            monkeypatch.setitem(card.__dict__, "views", {**card.views, "view2": counts, "view1": view1})
    assert cards.get_benchmark_card("lfw").counts.images == 8


def test_the_list(capsys):
    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : len(BENCHMARKS) + 1]] == [card.name for card in BENCHMARKS]
    assert "23,124 templates" in lines[5] and "15,638,932" in lines[5] and "cfp_fp.bin" in lines[3]


@pytest.mark.parametrize("card", BENCHMARKS, ids=lambda card: card.name)
def test_a_card_says_where_and_what(capsys, card):
    assert run(card.name) == 0
    out = capsys.readouterr().out
    flat = " ".join(out.split())
    for text in (card.paper, card.terms, card.alignment, card.protocol, *card.sources, *card.notes):
        assert " ".join(text.split()) in flat
    for _, tree in card.layouts:
        assert all(f"  {line}\n" in out for line in tree.splitlines())
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("name", "make", "options"),
    [
        ("adience", make_adience, ["--seed", "3"]),
        ("calfw", lambda root: make_flat(root, "pairs_CALFW.txt"), []),
        ("calfw", lambda root: make_flat(root, "pairs_CALFW.txt"), ["--images", "aligned"]),
        ("cfp-fp", make_cfp, []),
        ("ijb-c", make_ijbc, []),
        ("lfw", make_lfw, []),
        ("lfw", make_lfw, ["--view", "view1", "--decode"]),
    ],
)
def test_what_is_complete(tmp_path, capsys, tiny_counts, name, make, options):
    root = make(tmp_path)
    assert run(name, root, *options) == 0
    out, err = capsys.readouterr()
    assert "\nall there. " in out and str(root) in out and "missing" not in out
    assert "diffiqa:" not in err


def test_ijbc_as_nist_gives_it_out(tmp_path, capsys, monkeypatch):
    counts = Counts(people=3, mated=2, nonmated=2, templates=5)
    monkeypatch.setitem(get_benchmark_card("ijb-c").__dict__, "counts", counts)
    root = make_nist_ijbc(tmp_path)
    assert run("ijb-c", root, "--decode") == 0
    out = capsys.readouterr().out
    assert "by ijbc_11_G1_G2_matches.csv" in out and ["people", "3", "3"] in [
        line.split() for line in out.splitlines()
    ]
    (root / "images" / "frames" / "3.jpg").unlink()
    assert run("ijb-c", root) == 1
    assert "missing: frames/3.jpg" in capsys.readouterr().out
    assert run("ijb-c") == 0
    assert "Not read: NIST's later protocols/test1/" in " ".join(capsys.readouterr().out.split())


def test_the_counts(tmp_path, capsys, tiny_counts):
    assert run("lfw", make_lfw(tmp_path)) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["images", "8", "8"] in rows and ["people", "4", "4"] in rows and ["folds", "2"] in rows
    assert ["mated", "pairs", "4", "4"] in rows and ["non-mated", "pairs", "4", "4"] in rows


def test_other_counts_are_named(tmp_path, capsys):
    assert run("lfw", make_lfw(tmp_path)) == 1
    out, err = capsys.readouterr()
    assert "diffiqa: " + f"{tmp_path}: 8 images where 13,233 are expected\n" in err
    assert ["non-mated", "pairs", "4", "3,000"] in [line.split() for line in out.splitlines()]
    assert "all there" not in out


def test_a_package_has_pairs_to_compare_alone(tmp_path, capsys):
    assert run("cfp-fp", make_bin(tmp_path / "cfp_fp.bin")) == 1
    out, err = capsys.readouterr()
    assert ["images", "19", "-"] in [line.split() for line in out.splitlines()]
    assert err.count("where") == 2 and "6 mated pairs where 3,500 are expected" in err


def test_missing_files_are_named(tmp_path, capsys):
    root = make_lfw(tmp_path)
    (root / "lfw" / "Bo" / "Bo_0002.jpg").unlink()
    (root / "lfw" / "Dee" / "Dee_0001.jpg").unlink()
    assert run("lfw", root) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == ["missing: Bo_0002.jpg", "missing: Dee_0001.jpg"]
    assert err.startswith("diffiqa: pairs.txt: line 3: 2 images") and err.count("\n") == 1


def test_many_missing_files_are_counted(tmp_path, capsys):
    root = make_lfw(tmp_path)
    lines = [f"Nobody_{i}\t1\t2\n" for i in range(20)] + [f"Nobody_{i}\t1\tBo\t1\n" for i in range(20)]
    write(root / "pairs.txt", "20\n" + "".join(lines))
    assert run("lfw", root) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == data.SHOWN + 1 and lines[-1] == "missing: and 20 more"


def test_a_bad_line_and_a_malicious_package_are_named(tmp_path, capsys):
    root = make_lfw(tmp_path / "lfw")
    write(root / "pairs.txt", "1\nBo 1 2\nBo one two three\n")
    assert run("lfw", root) == 1
    assert "pairs.txt: line 3: neither" in capsys.readouterr().err
    write(tmp_path / "lfw.bin", b"cos\nsystem\n(S'true'\ntR.")
    assert run("lfw", tmp_path / "lfw.bin") == 1
    assert "names posix.system" in (err := capsys.readouterr().err) or "names os.system" in err


def test_decode_names_images_that_cannot_be_read(tmp_path, capsys, tiny_counts):
    root = make_lfw(tmp_path)
    write(root / "lfw" / "Bo" / "Bo_0002.jpg", jpeg(1)[:200])
    write(root / "lfw" / "Dee" / "Dee_0001.jpg", b"")
    assert run("lfw", root) == 0
    capsys.readouterr()
    assert run("lfw", root, "--decode") == 1
    err = capsys.readouterr().err
    assert "diffiqa: lfw/Bo/Bo_0002.jpg: " in err and "diffiqa: lfw/Dee/Dee_0001.jpg: empty file" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lwf"], "no benchmark 'lwf', only adience"),
        (["lfw", "nowhere"], "nowhere: no such file or folder"),
        (["lfw", "--view", "view1"], "no ROOT to check"),
        (["lfw", "--decode"], "no ROOT to check"),
        (["lfw", ".", "--view", "view3"], "view is one of view1, view1-train, view2"),
        (["cfp-fp", ".", "--view", "view1"], "cfp-fp has no option 'view'"),
    ],
)
def test_bad_usage(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match=message):  # which `diffiqa` turns into exit status 2
        run(*arguments)


def test_nothing_is_written(tmp_path, tiny_counts):
    root = make_lfw(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run("lfw", root, "--decode") == 0
    assert sorted(tmp_path.rglob("*")) == before
