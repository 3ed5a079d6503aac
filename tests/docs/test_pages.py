# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The pages of the documentation: links that lead somewhere, answers to all questions, a site that needs no other."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.code_blocks import ROOT


DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]*)(?:#([^)\s]*))?\)")


def prose(path: Path) -> str:
    """A page without its code."""
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`", "code", text)


def anchors(path: Path) -> set[str]:
    """Of the headings of a page, as Python-Markdown names them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(prose(page)):
        if "://" in target:
            continue
        found = (page.parent / target) if target else page
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{target}#{anchor}"


def test_each_of_the_25_questions_is_answered_and_says_where_there_is_more():
    sections = re.split(r"^## ", (DOCS / "questions.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert [section.split(".")[0] for section in sections] == [str(number) for number in range(1, 26)]
    for section in sections:
        heading, _, answer = section.partition("\n")
        assert len(answer.split()) > 12, heading
        targets = {target for target, _ in LINK.findall(answer)}
        assert targets, heading
        assert all((DOCS / target).is_file() and target != "questions.md" for target in targets), heading


def test_the_notebook_has_no_large_outputs():
    assert (ROOT / "examples" / "quickstart.ipynb").stat().st_size < 200_000


def test_the_site_is_built_and_asks_no_other(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings_handlers.python")
    # Not with --quiet, with which --strict counts no warnings.
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert built.returncode == 0, built.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert {"index.html", "api.html", "questions.html", "methods.html"} <= {page.name for page in pages}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|iframe|source)\b[^>]*?\bsrc="?(https?:[^" >]+)', text)
        fetched += re.findall(r'<link\b[^>]*rel="?(?:stylesheet|preconnect|icon)[^>]*href="?(https?:[^" >]+)', text)
        assert not fetched, f"{page.name}: {fetched}"
    api = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    for name in ("load_method", "DifFIQAPipeline", "edc_from_embeddings", "QualityLabeller"):
        assert f'id="diffiqa_hf.{name}"' in api, name
    # From the docstrings, in words of their own.
    assert "Scores face images" in api and "[`" not in api
