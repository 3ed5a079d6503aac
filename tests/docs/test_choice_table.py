# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The table of docs/choose.md is that of the cards and of the report."""

import runpy

from fixtures.code_blocks import ROOT


def test_the_table_is_that_of_the_cards_and_the_report():
    written = runpy.run_path(str(ROOT / "docs" / "make_choice_table.py"))["document"]()
    assert (ROOT / "docs" / "choose.md").read_text(encoding="utf-8") == written, "run python docs/make_choice_table.py"
