# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What `diffiqa best` decides of each person: which photographs are good enough, and who must come again."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..images.reasons import reasons
from ..scoring.score_rows import Rows


@dataclass
class Threshold:
    """
    The least that a photograph must have.

    Args:
        name: `"score"` or `"percentile"`, which of its numbers is meant; `None`: there is no threshold.
        least: That number.
    """

    name: str | None = None
    least: float = 0.0

    def passes(self, row: dict[str, Any]) -> bool:
        """Whether the photograph of a row is good enough."""
        if self.name is None:
            return True
        value = row.get(self.name)
        return value is not None and value >= self.least

    def __str__(self) -> str:
        return f"{self.name} {self.least:g}"


@dataclass
class Decision:
    """
    Of one person.

    Args:
        person (`str`): As the groups have it.
        chosen (`list[dict]`): The rows of the best photographs that pass, best first.
        best (`dict`, *optional*): The row of the best photograph, whether or not it passes.
        scored, failed (`int`): How many photographs have a score, and how many have none.
        why_failed (`list[str]`): Why those have none, the most frequent reason first.
    """

    person: str
    chosen: list[dict[str, Any]]
    best: dict[str, Any] | None
    scored: int = 0
    failed: int = 0
    why_failed: list[str] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether there is a photograph that could be scored."""
        return self.best is not None


def decide(rows: Rows, best: dict[str, list[int]], top: int, threshold: Threshold) -> list[Decision]:
    """
    Args:
        rows: With `group`, `score` and `error`, and what the threshold asks for.
        best: By group the positions of its best rows, best first, as many as there are up to `top`.
        top: How many are chosen of each group, at most.

    Returns:
        One decision for each group, in the order of `best`.
    """
    errors: dict[str, Counter[str]] = {}
    scored: Counter[str] = Counter()
    for row in rows:
        if row["group"] is not None:
            if row["error"] is None:
                scored[row["group"]] += 1
            else:
                errors.setdefault(row["group"], Counter())[row["error"]] += 1
    decisions = []
    for person, positions in best.items():
        failed = errors.get(person, Counter())
        of_person = [rows[at] for at in positions]
        decisions.append(
            Decision(
                person,
                [row for row in of_person[:top] if threshold.passes(row)],
                of_person[0] if of_person else None,
                scored[person],
                failed.total(),
                [f"{error} ({count})" if count > 1 else error for error, count in failed.most_common()],
            )
        )
    return decisions


def why_again(decision: Decision, threshold: Threshold) -> str:
    """Why a person must come again, in one line; empty where there is no need."""
    if decision.best is None:
        if not decision.failed:
            return "no photograph"
        return f"no usable photograph of {decision.failed}: {'; '.join(decision.why_failed)}"
    if decision.chosen:
        return ""
    found = why_low(decision.best)
    return f"the best of {decision.scored} is below {threshold}{': ' if found else ''}{found}"


def why_low(row: dict[str, Any]) -> str:
    """What stands out of the measures of a photograph, in one line."""
    return "; ".join(reasons(row.get("measures") or {}))


# -- tables -----------------------------------------------------------------------------------------------------------

CHOSEN_COLUMNS = ("identity", "rank", "file", "face", "score", "percentile", "photographs", "reasons")
AGAIN_COLUMNS = ("identity", "file", "score", "percentile", "photographs", "reason")


def chosen_csv(decisions: Sequence[Decision]) -> str:
    """The photographs that were chosen, a line each, below a line of names."""
    rows = [
        (
            *(decision.person, rank, row["file"], row.get("face"), _number(row["score"])),
            *(_number(row.get("percentile")), decision.scored + decision.failed, why_low(row)),
        )
        for decision in decisions
        for rank, row in enumerate(decision.chosen, 1)
    ]
    return _csv(CHOSEN_COLUMNS, rows)


def again_csv(decisions: Sequence[Decision], threshold: Threshold) -> str:
    """The people who must come again, a line each, with their best photograph, below a line of names."""
    rows = []
    for decision in decisions:
        if not decision.chosen:
            best = decision.best or {}
            rows.append(
                (
                    *(decision.person, best.get("file"), _number(best.get("score")), _number(best.get("percentile"))),
                    *(decision.scored + decision.failed, why_again(decision, threshold)),
                )
            )
    return _csv(AGAIN_COLUMNS, rows)


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def _number(value: float | None) -> str:
    # Seven digits are what float32 has.
    return "" if value is None or value != value else f"{value:.7g}"


def summary(decisions: Sequence[Decision], threshold: Threshold) -> str:
    """One line: how many people have a photograph that is good enough, and how many must come again."""
    again = [decision for decision in decisions if not decision.chosen]
    none = sum(not decision.usable for decision in again)
    people = "1 person" if len(decisions) == 1 else f"{len(decisions):,} people"
    line = f"{people}: {len(decisions) - len(again):,} with a photograph"
    line += f" at {threshold} or above" if threshold.name is not None else ""
    if again:
        line += f", {len(again):,} must come again"
        line += f" ({none:,} without a usable photograph)" if none else ""
    return line


__all__ = ["Decision", "Threshold", "again_csv", "chosen_csv", "decide", "summary", "why_again", "why_low"]
