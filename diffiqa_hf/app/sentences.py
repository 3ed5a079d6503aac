# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the page says of a face, and of two: plain functions of numbers."""

from collections.abc import Sequence

from ..calibration import Calibration
from ..face_check import LEAST_PROBABILITY
from ..images.reasons import reasons
from ..quality_record import FaceQualityRecord, shown_score


# Closer than this, in per cent of the calibration's faces, two photographs are said to be alike. Our choice: the score
# of one photograph moves by some per cent with its size alone.
ALIKE = 5.0
# Below this percentile also the better of two is worth another try.
LOW = 10.0


def meaning(record: FaceQualityRecord, calibration: Calibration | None) -> list[str]:
    """
    What a score means, in sentences: its place among the faces of the calibration, and how many pairs fail there.

    Args:
        record: With a score.
        calibration: That its percentile is of; `None` where there is none.
    """
    if no_face(record):
        return ["This does not look like a face, and its score means little."]
    if calibration is None or record.percentile is None:
        return ["There is no calibration for this method: compare its scores with each other alone."]
    lines = []
    among = f"the {calibration.num_faces:,} faces it was measured with"
    if record.percentile <= 0:
        return [f"Worse than all of {among}: how many pairs fail is not known."]
    if record.percentile >= 100:
        lines.append(f"Better than all of {among}.")
    else:
        lines.append(f"Better than {record.percentile:.0f} % of {among}.")
    level = calibration.level(record.percentile)
    if level is None:
        return lines
    if level.fnmr != level.fnmr:
        lines.append("Too few pairs as good as this were measured to say how many fail.")
        return lines
    share = f"{100 * level.fnmr:.2g} %" if level.errors else "none"
    lines.append(
        f"Of pairs of such photographs or better, expect {share} to fail at an FMR of {calibration.fmr:g} "
        f"({level.errors:,} of {level.pairs:,} did)."
    )
    return lines


def no_face(record: FaceQualityRecord) -> bool:
    """Whether the face check says that it is none; blur may make none of a face."""
    return record.face_probability is not None and record.face_probability < LEAST_PROBABILITY


def why_low(record: FaceQualityRecord, one_of_all: bool = False) -> list[str]:
    """
    What stands out of the measures of a face.

    Args:
        one_of_all: All the faces of the photograph are shown, so that there is no need to say that this is one.
    """
    measures = dict(record.measures or {})
    if one_of_all:
        measures.pop("faces", None)
    return reasons(measures)


def which_to_enrol(records: Sequence[FaceQualityRecord]) -> tuple[int | None, list[str]]:
    """
    Which of two photographs to enrol, 0 or 1, and why, in sentences; `None` where it does not matter, or neither will
    do.
    """
    names = ("the first", "the second")
    usable = [at for at, record in enumerate(records) if record.error is None and not no_face(record)]
    if not usable:
        return None, ["Neither will do: take another photograph."]
    if len(usable) == 1:
        better = usable[0]
        fault = "can't be used" if records[1 - better].error is not None else "does not look like a face"
        lines = [f"Enrol {names[better]}: the other one {fault}."]
        return better, [*lines, *_low(records[better], names[better], "It is")]
    better = 0 if records[0].score >= records[1].score else 1
    best, other = records[better], records[1 - better]
    scores = f"{shown_score(best.score)} against {shown_score(other.score)}"
    choice: int | None = better
    lines = [f"Enrol {names[better]}: its score is {scores}."]
    if best.percentile is not None and other.percentile is not None:
        alike = abs(best.percentile - other.percentile) < ALIKE
    else:
        alike = best.score == other.score
    if alike:
        choice, lines = None, [f"There is little between them (scores {scores}): take either."]
    elif found := why_low(other):
        lines.append(f"What stands out of {names[1 - better]}: {'; '.join(found)}.")
    return choice, [*lines, *_low(best, names[better], "Both are")]


def _low(record: FaceQualityRecord, name: str, it_is: str) -> list[str]:
    if record.percentile is None or record.percentile >= LOW:
        return []
    lines = [f"{it_is} among the lowest {LOW:.0f} %: take another photograph if you can."]
    if found := why_low(record):
        lines.append(f"What stands out of {name}: {'; '.join(found)}.")
    return lines


__all__ = ["meaning", "no_face", "which_to_enrol", "why_low"]
