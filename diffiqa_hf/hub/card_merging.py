# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The text of a card in parts, and which of them a person has written.

The last line of a card that we fill in is a mark: the repository that it was made for, a digest of all that stands
above, and digests of the parts, which are the entries of the metadata, what stands before the first heading, and the
sections. While the first digest fits, nobody has changed the card. Where it does not, the others tell the parts that
are still ours, which follow the figures of a new run, from those that are somebody's, which stay.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml


_START = "<!-- Filled in by diffiqa_hf; a card that is changed by hand is only completed from then on. "
_MARK = re.compile(re.escape(_START) + r"(?P<repo>\S*) (?P<digest>[0-9a-f]{16})(?: (?P<parts>\S+))? -->")
_CHANGED = "0" * 16  # in place of the digest, in a card that is partly somebody's
_FRONT_MATTER = re.compile(r"\A---[ ]*\n(.*?)\n---[ ]*(?:\n|\Z)", re.DOTALL)


@dataclass
class Card:
    """
    Args:
        metadata: The entries of the YAML at the head.
        sections: What stands under each `## ` heading, by the heading, and before the first under `""`.
        ours: By the digest of the name of each part that we have written the digest of what it was then; `None` where
            the mark is missing or does not say.
    """

    metadata: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, str] = field(default_factory=dict)
    ours: dict[str, str] | None = None

    @classmethod
    def parse(cls, text: str) -> "Card":
        """
        Raises:
            yaml.YAMLError, ValueError: The head of the text is no YAML, or no mapping.
        """
        text = text.replace("\r\n", "\n")
        mark = None
        for mark in _MARK.finditer(text):  # noqa: B007 - the last one counts
            pass
        head = _FRONT_MATTER.match(text)
        metadata = (yaml.safe_load(head[1]) if head else None) or {}
        if not isinstance(metadata, Mapping):
            raise ValueError("its metadata is no mapping")
        body = _MARK.sub("", text[head.end() :] if head else text)
        sections = {"": body.strip()}
        found = split_sections(body)
        if found and (first := re.search(rf"^{re.escape(found[0][0])}\s*$", body, re.MULTILINE)):
            sections = {"": body[: first.start()].strip(), **_by_heading(found)}
        ours = None
        if mark is not None and mark["parts"]:
            ours = dict(part.split(":") for part in mark["parts"].split(","))
        return cls(dict(metadata), sections, ours)

    def parts(self) -> dict[str, str]:
        """Texts by names: the metadata under `key:`, the sections under their headings."""
        entries = {f"{name}:": json.dumps(value, sort_keys=True, default=str) for name, value in self.metadata.items()}
        return entries | self.sections

    def is_ours(self, name: str) -> bool:
        """Whether a part is as we have written it."""
        return self.ours is not None and self.ours.get(_short(name)) == _short(self.parts()[name])

    def has_lost(self, name: str) -> bool:
        """Whether we had written a part that somebody has taken out."""
        return self.ours is not None and _short(name) in self.ours and name not in self.parts()


def split_sections(text: str) -> list[tuple[str, str]]:
    """The parts of a card under `## ` headings, with their headings."""
    parts: list[list[str]] = []
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            parts.append([line])
        elif parts:
            parts[-1].append(line)
    return [(part[0].strip(), "\n".join(part).strip()) for part in parts]


def _by_heading(sections: list[tuple[str, str]]) -> dict[str, str]:
    """Sections by their headings, of which the second of a name is called so."""
    found: dict[str, str] = {}
    for title, text in sections:
        number = 1 + sum(name.partition("\n")[0] == title for name in found)
        found[title if number == 1 else f"{title}\n{number}"] = text
    return found


def sign(text: str, repo_id: str | None) -> str:
    """A card that was filled in, with its mark."""
    text = text.rstrip()
    parts = {_short(name): _short(content) for name, content in Card.parse(text).parts().items()}
    return f"{text}\n\n{_mark(repo_id, _digest(text), parts)}\n"


def filled_in_for(text: str) -> str | None:
    """The repository of a card that is as it was filled in, "" where it had none; `None` for any other card."""
    above, _, last = text.rstrip().rpartition("\n\n")
    found = _MARK.fullmatch(last)
    return found["repo"] if found is not None and found["digest"] == _digest(above) else None


def merge_cards(there: str, new: str) -> str:
    """
    The card that takes the place of one on the Hub, which somebody may have changed there.

    Args:
        there: The card on the Hub.
        new: That of the folder which is pushed.

    Returns:
        `str`: `new` where nobody has changed the one that is there. Otherwise `new` with what is somebody's in the
        other: entries and sections that were added or changed stay, and those that were taken out stay out. Where
        both are somebody's, the folder's counts.

    Raises:
        yaml.YAMLError, ValueError: The metadata of one of them can't be read.
    """
    if filled_in_for(there) is not None:
        return new
    theirs, ours, changed = Card.parse(there), Card.parse(new), filled_in_for(new) is None
    result = Card(dict(ours.metadata), dict(ours.sections))
    for own, kind in ((theirs.metadata, "metadata"), (theirs.sections, "sections")):
        target = getattr(result, kind)
        end = ":" if kind == "metadata" else ""
        for name, value in own.items():
            if not theirs.is_ours(name + end) and not (changed and name in target and not ours.is_ours(name + end)):
                target[name] = value
        for name in list(target):
            if theirs.has_lost(name + end) and (not changed or ours.is_ours(name + end)):
                del target[name]
    made, parts = Card.parse(new).parts(), result.parts()
    known = {_short(name): _short(text) for name, text in made.items() if parts.get(name) == text}
    # What was taken out is remembered as ours, or it would come back with the push after this one.
    gone = {_short(name): _short(text) for name, text in made.items() if name not in parts}
    repo = next((mark["repo"] for mark in _MARK.finditer(new)), "")
    head = yaml.dump(result.metadata, sort_keys=False, allow_unicode=True, width=float("inf"))
    body = "\n\n".join(section for section in result.sections.values() if section)
    return f"---\n{head}---\n\n{body}\n\n{_mark(repo, _CHANGED, known | gone)}\n"


def _mark(repo_id: str | None, digest: str, parts: Mapping[str, str]) -> str:
    listed = ",".join(f"{name}:{content}" for name, content in parts.items())
    return f"{_START}{repo_id or ''} {digest}{f' {listed}' if listed else ''} -->"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _short(text: str) -> str:
    return _digest(text.strip())[:8]


__all__ = ["Card", "filled_in_for", "merge_cards", "sign", "split_sections"]
