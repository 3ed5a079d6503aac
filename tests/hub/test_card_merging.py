# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa_hf.hub.card_merging`: what people write into a card on the Hub outlives the next push."""

import pytest
import yaml

from diffiqa_hf.hub.card_merging import Card, filled_in_for, merge_cards, sign, split_sections


def made(figure: str = "0.5", note: str = "") -> str:
    """A card as it is filled in after a run."""
    head = f"---\ntags:\n- diffiqa_hf\nlicense: other\nmodel-index:\n- figure: {figure}\n---\n\n"
    body = f"# A model\n\nIt scores faces.\n\n## Results\n\nThe pAUC is {figure}.\n\n## Limits\n\nFew faces.{note}\n"
    return sign(head + body, "ann/model")


def test_a_card_that_nobody_has_changed_gives_way():
    assert filled_in_for(made()) == "ann/model" and filled_in_for(sign("# A", None)) == ""
    assert merge_cards(made(), made("0.4")) == made("0.4")


def test_what_somebody_adds_stays_and_the_figures_are_the_new_ones():
    edited = made().replace("---\n", "---\nextra_gated_prompt: Research only.\nlanguage: en\n", 1)
    edited += "\n\n## Known failures\n\nMasks.\n"
    merged = merge_cards(edited, made("0.4"))
    card = Card.parse(merged)
    assert card.metadata["extra_gated_prompt"] == "Research only." and card.metadata["language"] == "en"
    assert card.metadata["model-index"] == [{"figure": 0.4}] and card.metadata["license"] == "other"
    assert [title for title, _ in split_sections(merged)] == ["## Results", "## Limits", "## Known failures"]
    assert "0.4" in card.sections["## Results"] and "0.5" not in merged and "Masks." in merged
    # And the push after that one.
    again = merge_cards(merged, made("0.3"))
    assert "0.3" in again and "0.4" not in again and "Masks." in again and "Research only." in again
    assert merge_cards(again, made("0.3")) == again


def test_what_somebody_has_changed_or_taken_out_stays_so():
    edited = made().replace("license: other", "license: mit").replace("Few faces.", "Few faces, of adults alone.")
    edited = edited.replace("It scores faces.", "It scores our faces.").replace("tags:\n- diffiqa_hf\n", "")
    merged = merge_cards(edited, made("0.4"))
    card = Card.parse(merged)
    assert card.metadata == {"license": "mit", "model-index": [{"figure": 0.4}]}
    assert "adults alone" in merged and "our faces" in merged and "0.4" in merged and "0.5" not in merged
    again = Card.parse(merge_cards(merged, made("0.3")))
    assert again.metadata == {"license": "mit", "model-index": [{"figure": 0.3}]}
    without = made()[: made().index("## Results")] + made()[made().index("## Limits") :]
    merged = merge_cards(without, made("0.4"))
    assert "## Results" not in merged and "## Limits" in merged
    assert "## Results" not in merge_cards(merged, made("0.3"))


def test_between_two_people_the_folder_counts():
    there, new = (made().replace("Few faces.", text) for text in ("Theirs.", "Ours."))
    merged = merge_cards(there + "\n## More\n\nTheirs too.\n", new)
    assert "Ours." in merged and "Theirs." not in merged and "Theirs too." in merged


def test_cards_of_others_are_kept_and_completed():
    """One without a mark, as the web editor or another library makes it, is somebody's from top to bottom."""
    merged = merge_cards("---\ntags: [mine]\n---\n# Mine\n\n## Limits\n\nMine.\n", made("0.4"))
    card = Card.parse(merged)
    assert card.metadata["tags"] == ["mine"] and card.metadata["license"] == "other"
    assert card.sections[""] == "# Mine" and card.sections["## Limits"] == "## Limits\n\nMine."
    assert "0.4" in card.sections["## Results"]
    windows = "---\r\nlanguage: en\r\n---\r\n# Mine\r\n\r\n## Limits\r\n\r\nMine.\r\n"
    assert Card.parse(windows).sections["## Limits"] == "## Limits\n\nMine."
    with pytest.raises((yaml.YAMLError, ValueError)):
        merge_cards("---\n[\n---\n", made())


def test_sections_are_told_apart():
    text = "# A\n\n## B\n1\n```\n## no heading\n```\n## B\n2\n"
    card = Card.parse(text)
    assert list(card.sections.values()) == ["# A", "## B\n1\n```\n## no heading\n```", "## B\n2"]
    assert card.metadata == {} and card.ours is None and Card.parse("only text").sections == {"": "only text"}
