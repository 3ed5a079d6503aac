# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Reports and cards that lie beside docs/ are pages of the site as well, where they are, and links to them hold."""

import os
import re
from pathlib import Path

from mkdocs.structure.files import File


ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = ("benchmarks/results/*.md", "diffiqa_hf/checkpoints/*/README.md", "examples/README.md")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files, config):
    """Adds the pages that lie elsewhere in the repository, with the path that they have there."""
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            _add(files, config, path)
    return files


def on_page_markdown(markdown, page, config, files):
    """Links to what lies outside docs/: to its page, its picture, or, for code, none."""
    folder = Path(page.file.abs_src_path).parent

    def mended(match: re.Match) -> str:
        picture, text, target, anchor = match.groups()
        path = Path(os.path.normpath(folder / target))
        if "://" in target or not path.is_relative_to(ROOT) or not path.exists():
            return match[0]
        uri = path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT).as_posix()
        if picture and files.get_file_from_path(uri) is None:
            _add(files, config, path)
        if files.get_file_from_path(uri) is None:
            return text  # a script, a folder: not part of the site
        relative = os.path.relpath(uri, Path(page.file.src_uri).parent).replace(os.sep, "/")
        return f"{picture}[{text}]({relative}{anchor or ''})"

    return LINK.sub(mended, markdown)


def _add(files, config, path: Path) -> None:
    files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
