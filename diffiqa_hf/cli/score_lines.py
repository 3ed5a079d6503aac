# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The lines of `diffiqa score`: one for each face, and one at the end."""

import statistics
import sys
from collections.abc import Sequence

from ..images.reasons import reasons
from ..quality_record import shown_score
from .errors import printable
from .scoring import write_line


def print_row(row: dict, width: int) -> None:
    """One row of a table on stdout, its name in so many columns."""
    name = printable(row["file"])
    score = "-" if row["error"] is not None else shown_score(row["score"])
    line = f"{name:<{width}}  {score:>7}"
    if row.get("percentile") is not None:
        line += f"  percentile {row['percentile']:5.1f}"
    if "iso" in row:
        line += f"  iso {row['iso']:3}"
    if row.get("face_probability") is not None:
        line += f"  face probability {row['face_probability']:.2f}"
    if "seconds" in row:
        line += f"  {row['seconds']:.2f} s, frame {row['frame']}, track {row['track']}"
    elif row["face"]:
        line += f"  face {row['face']}"
    if found := reasons(row):
        line += f"  ({'; '.join(found)})"
    write_line(line, sys.stdout)
    sys.stdout.flush()


def summarise(count: int, scores: Sequence[float]) -> None:
    """A line on stderr: how many rows there are, and of what scores."""
    failed = count - len(scores)
    line = f"{len(scores)} faces scored, {failed} failed"
    if scores:
        ends = {"min": min(scores), "median": statistics.median(scores), "max": max(scores)}
        line += "; " + ", ".join(f"{name} {shown_score(score)}" for name, score in ends.items())
    print(line, file=sys.stderr)


__all__ = ["print_row", "summarise"]
