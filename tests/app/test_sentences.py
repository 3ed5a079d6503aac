# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the page says of numbers."""

import numpy as np
import pytest

from diffiqa_hf.app.sentences import meaning, which_to_enrol, why_low
from diffiqa_hf.calibration import Calibration, FNMRLevel
from diffiqa_hf.quality_record import FaceQualityRecord


CALIBRATION = Calibration(
    tuple(np.linspace(0, 1, 101)),
    1234,
    (FNMRLevel(0, 0.0, 5000, 100, 300), FNMRLevel(50, 0.5, 2000, 10, 200), FNMRLevel(75, 0.75, 800, 0, 90),
     FNMRLevel(90, 0.9, 99, 0, 90)),
)  # fmt: skip


def record(score: float = 0.5, percentile: float | None = None, **others) -> FaceQualityRecord:
    return FaceQualityRecord(0, score=score, percentile=percentile, **others)


@pytest.mark.parametrize(
    "percentile, place, errors",
    [
        (20.4, "Better than 20 % of the 1,234 faces", "expect 2 % to fail at an FMR of 0.001 (100 of 5,000 did)"),
        (64.0, "Better than 64 % of the 1,234 faces", "expect 0.5 % to fail at an FMR of 0.001 (10 of 2,000 did)"),
        (80.0, "Better than 80 % of the 1,234 faces", "expect none to fail at an FMR of 0.001 (0 of 800 did)"),
        (95.0, "Better than 95 % of the 1,234 faces", "Too few pairs as good as this were measured"),
        (100.0, "Better than all of the 1,234 faces", "Too few pairs as good as this were measured"),
        (0.0, "Worse than all of the 1,234 faces", "how many pairs fail is not known"),
    ],
)
def test_a_score_has_its_place_and_its_errors(percentile, place, errors):
    text = " ".join(meaning(record(percentile=percentile), CALIBRATION))
    assert place in text and errors in text


def test_without_a_calibration_or_a_face_no_place_is_named():
    assert meaning(record(), None) == [
        "There is no calibration for this method: compare its scores with each other alone."
    ]
    (sentence,) = meaning(record(percentile=64.0, face_probability=0.2), CALIBRATION)
    assert "does not look like a face" in sentence
    assert "64 %" in meaning(record(percentile=64.0, face_probability=0.9), CALIBRATION)[0]


def test_reasons_are_those_of_the_commands():
    face = record(measures={"brightness": 10.0, "faces": 3})
    assert why_low(face) == ["dark: brightness 10 %", "one of 3 faces in the picture, the largest"]
    assert why_low(face, one_of_all=True) == ["dark: brightness 10 %"]


FAILED = FaceQualityRecord(0, error="no face found")


@pytest.mark.parametrize(
    "first, second, choice, said",
    [
        (record(0.6, 60.0), record(0.4, 40.0), 0, "Enrol the first: its score is 0.6000 against 0.4000."),
        (record(0.4, 40.0), record(0.6, 60.0), 1, "Enrol the second"),
        (record(0.4), record(0.6), 1, "Enrol the second"),
        (record(0.6, 60.0), record(0.58, 58.0), None, "There is little between them"),
        (record(0.6), record(0.6), None, "There is little between them"),
        (record(0.6, 60.0), FAILED, 0, "the other one can't be used"),
        (FAILED, record(0.6, 60.0), 1, "the other one can't be used"),
        (record(0.1, 60.0, face_probability=0.1), record(0.05, 40.0), 1, "the other one does not look like a face"),
        (FAILED, FAILED, None, "Neither will do"),
        (FAILED, record(0.6, 60.0, face_probability=0.1), None, "Neither will do"),
        (record(0.08, 8.0), record(0.01, 1.0), 0, "Both are among the lowest 10 %: take another"),
        (record(0.08, 8.0), FAILED, 0, "It is among the lowest 10 %: take another"),
    ],
)
def test_which_of_two_to_enrol(first, second, choice, said):
    chosen, sentences = which_to_enrol([first, second])
    assert chosen == choice
    assert said in " ".join(sentences)


def test_what_is_wrong_with_the_other_is_said():
    _, sentences = which_to_enrol([record(0.6, 60.0), record(0.2, 20.0, measures={"sharpness": 2.0})])
    assert sentences[1] == "What stands out of the second: blurred: sharpness 2 %."
