# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa methods`."""

import argparse
import subprocess
import sys

import pytest

from diffiqa_hf.cli import methods
from diffiqa_hf.cli.errors import CommandError
from diffiqa_hf.methods import CARDS


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    methods.add_parser(parser.add_subparsers())
    args = parser.parse_args(["methods", *arguments])
    return args.run(args)


def test_the_table_has_a_line_for_each(capsys):
    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["method", *(card.name for card in CARDS)]
    titles = ["title", *(card.title for card in CARDS)]
    assert len({line.index(f"  {title}") for line, title in zip(lines, titles, strict=True)}) == 1


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_card_is_shown_whole(capsys, card):
    assert run(card.name) == 0
    out = capsys.readouterr().out
    for heading, _ in card.rows():
        assert f"\n{heading} " in f"\n{out}"
    # The texts stand there word for word, wrapped.
    start = out.index(card.name)
    texts = " ".join(line[start:].strip() for line in out.splitlines())
    assert texts == " ".join(value for _, value in card.rows())


def test_an_unknown_method():
    with pytest.raises(CommandError, match="unknown method 'nofiqa'; there are diffiqa, "):
        run("nofiqa")


def test_the_cards_are_read_without_torch():
    code = "import sys\nfrom diffiqa_hf.cli.methods import table\nprint(table())\n"
    code += "assert not {'torch', 'numpy', 'transformers'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
