# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Every block of code of the README and of the documentation does what it says.

Blocks in bash and Python run one after the other, in a folder with what the pages speak of: `examples/` and
`training/` of the repository, `people/` with a folder for each person, `photos/`, `faces/`, an FR model `arcface/`.
`<!-- parsed: reason -->` before a block that needs more (a download, hours) has it checked instead: files and extras
that it names are there, options are known. So are commands on whole photographs, whose detector is fetched.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
from fixtures.code_blocks import ROOT, blocks_of, run_block

from diffiqa_hf.default_weights import FR_MODEL


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def lay_out(folder: Path) -> None:
    """What a reader has at hand."""
    for name in ("examples", "training"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "examples" / "photos", folder / "photos")
    shutil.copytree(FR_MODEL, folder / "arcface")
    (folder / "faces").mkdir()
    for name in ("astronaut.jpg", "sample2_hair.jpg"):
        shutil.copy(ROOT / "examples" / "faces" / name, folder / "faces")
    groups = json.loads((ROOT / "examples" / "faces" / "faces.json").read_text())["groups_best_first"]
    for person, files in groups.items():
        (folder / "people" / person).mkdir(parents=True)
        for file in files:
            shutil.copy(ROOT / "examples" / "faces" / file, folder / "people" / person)


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_its_blocks_do_what_they_say(page, tmp_path, monkeypatch):
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    names = {"__name__": "page"}
    for block in blocks_of(page.read_text(encoding="utf-8")):
        try:
            run_block(block, names)
        except BaseException as error:
            name = os.path.relpath(page, ROOT)
            raise AssertionError(f"{name}:{block.line}: {type(error).__name__}: {error}\n{block.text}") from error


def test_blocks_are_found_with_what_stands_before_them():
    page = "# A\n\n<!-- parsed: hours -->\n```bash\na \\\n  b  # c\n```\ntext\n\n"
    page += '<!-- first:\nx = 1\n-->\n```python title="a.py"\nx\n```\n- in a list:\n\n  ```python\n  y\n  ```\n'
    first, second, third = blocks_of(page)
    assert (first.line, first.language, first.parsed, first.title) == (4, "bash", "hours", None)
    assert (second.first, second.title, second.parsed) == ("x = 1", "a.py", None)
    assert (third.text, third.first) == ("y\n", None)


@pytest.mark.parametrize(
    "text",
    ["diffiqa score --no-such-option", "make nothing", "pip install '.[nothing]'", "accelerate launch training/no.py"]
    + ["accelerate launch training/train_ddpm.py ... --no_such_option", "rm -r /"],
)
def test_a_wrong_command_is_found_even_where_it_is_only_parsed(text):
    (block,) = blocks_of(f"<!-- parsed: no -->\n```bash\n{text}\n```\n")
    with pytest.raises((AssertionError, ImportError)):
        run_block(block, {})


def test_a_wrong_import_is_found_even_where_it_is_only_parsed():
    (block,) = blocks_of("<!-- parsed: no -->\n```python\nfrom diffiqa_hf import nothing\n```\n")
    with pytest.raises(AssertionError):
        run_block(block, {})
