# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""That the method cards agree with what else is said of the methods, and with docs/methods.md."""

import importlib.util
import re
from pathlib import Path

import pytest

from diffiqa_hf.cli.methods import table
from diffiqa_hf.conversion import DIALECTS
from diffiqa_hf.methods import CARDS, get_card


ROOT = Path(__file__).resolve().parents[2]
every_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


def script(path: str):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_cards_in_the_docs_are_these():
    found = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert found == script("docs/make_method_cards.py").document(), "run python docs/make_method_cards.py"


def test_the_docs_have_a_table_and_a_section_of_each_method():
    lines = script("docs/make_method_cards.py").document().splitlines()
    cells = [line.split(" | ") for line in lines if line.startswith("| [")]
    assert [row[0] for row in cells] == [f"| [{card.name}](#{card.name})" for card in CARDS]
    assert {len(row) for row in cells} == {6}
    assert [line for line in lines if line.startswith("## ")] == [f"## {card.name}" for card in CARDS]


def test_markdown_takes_nothing_in_a_card_for_its_own():
    escaped = script("docs/make_method_cards.py")._escaped
    assert escaped("l*k of a_b, `c_d*`, (https://e.org/f_g), 2 < 3") == (
        r"l\*k of a\_b, `c_d*`, (<https://e.org/f_g>), 2 \< 3"
    )


def test_the_table_fits_in_a_terminal():
    assert max(map(len, table().splitlines())) <= 120


OF_METHODS = [(card, dialect) for card in CARDS for dialect in DIALECTS if dialect.name in (card.dialect, card.name)]


@pytest.mark.parametrize(("card", "dialect"), OF_METHODS, ids=[card.name for card, _ in OF_METHODS])
def test_a_card_says_of_published_weights_what_the_converter_says(card, dialect):
    words = {"mit": "MIT", "apache-2.0": "Apache-2.0", "cc-by-nc-4.0": "CC BY-NC 4.0", "unknown": r"none (is )?stated"}
    words["other"] = re.escape(re.split("[;(]", dialect.license)[0].strip())
    assert dialect.source in card.weights_source
    assert re.search(words[dialect.license_id], card.weights_license)


@every_card
def test_the_files_and_dialects_that_a_card_names_are_there(card):
    text = " ".join(value for _, value in card.rows())
    for path in re.findall(r"\b(?:tests|training|benchmarks|docs)/[\w/]+\.(?:py|md)", text):
        assert (ROOT / path).is_file(), path
    for name in re.findall(r"--from ([\w-]+)", text):
        assert name in [dialect.name for dialect in DIALECTS]


def test_each_recipe_is_on_the_card_of_its_method():
    recipes = script("training/train_quality.py").DEFAULTS
    for name in recipes:
        how, *ours = get_card(name).training
        assert how == f"`training/train_quality.py --recipe {name}`"
        assert ours, "what is not the authors' is to be named"
    presets = script("training/train_diffiqa_r.py").PRESETS
    for card in CARDS:
        for preset in re.findall(r"train_diffiqa_r.py --preset ([\w-]+)", " ".join(card.training)):
            assert preset in presets


def test_how_to_train_it_is_a_row_of_the_card():
    rows = dict(get_card("cr-fiqa").rows())
    assert rows["training"].startswith("`training/train_quality.py --recipe cr-fiqa`; ")
    assert "training" not in dict(get_card("embedding-norm").rows())
