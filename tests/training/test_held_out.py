# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa_hf.training.held_out`: who is held out depends on the people's names alone, and a run keeps to it."""

import zlib

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from PIL import Image

from diffiqa_hf.training.checkpoints import TrainingState
from diffiqa_hf.training.data import load_face_dataset
from diffiqa_hf.training.held_out import (
    NOBODY,
    HeldOut,
    find_people,
    hold_out,
    people_of,
    split_halves,
    split_people,
)


NAMES = [f"person {i}" for i in range(12)]
OUT = {name for name in NAMES if zlib.crc32(name.encode()) % 3 == 0}


def class_folders(folder, names):
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(folder / name / f"{i}.png")
    return load_face_dataset(train_data_dir=str(folder))


def test_class_folders_are_held_out_by_their_names(tmp_path):
    assert 0 < len(OUT) < len(NAMES)
    dataset = class_folders(tmp_path / "few", NAMES)
    out = hold_out(dataset, "label", 3, heldout=True)
    assert set(people_of(out, "label")) == OUT and len(out) == 2 * len(OUT)
    assert set(people_of(hold_out(dataset, "label", 3, heldout=False), "label")) == set(NAMES) - OUT
    # One folder more, the first by name, gives all others another number, and no other place.
    more = class_folders(tmp_path / "more", ["a new person", *NAMES])
    assert set(people_of(hold_out(more, "label", 3, heldout=True), "label")) - {"a new person"} == OUT


def test_a_person_has_one_name_in_every_kind_of_column():
    names = Dataset.from_dict({"who": NAMES})
    classes = names.cast_column("who", ClassLabel(names=NAMES[::-1]))
    numbers = Dataset.from_dict({"who": [7, 8, 9]})
    assert people_of(names, "who") == people_of(classes, "who") == NAMES
    assert people_of(numbers, "who") == ["7", "8", "9"]
    assert find_people(Dataset.from_dict({"who": ["a", None]}), "who") == ["a", None]
    assert find_people(Dataset.from_dict({"who": [1.5, float("nan")]}), "who") == ["1.5", None]
    no_class = Dataset.from_dict({"who": [0, -1, None]}, features=Features({"who": ClassLabel(names=["a"])}))
    assert find_people(no_class, "who") == ["a", None, None]
    with pytest.raises(ValueError, match="row 1 has no person in the column 'who'"):
        people_of(no_class, "who")
    with pytest.raises(ValueError, match="no column 'label'; it has"):
        people_of(names, "label")


def test_both_parts_have_somebody():
    dataset = Dataset.from_dict({"who": NAMES}, features=Features({"who": Value("string")}))
    assert split_people(dataset, "who", 0) == (dataset, None, NOBODY)
    train, out, record = split_people(dataset, "who", 3)
    assert set(out["who"]) == OUT and len(train) + len(out) == len(NAMES)
    assert record.what == f"{len(OUT)} people (--holdout_modulo 3)"
    with pytest.raises(ValueError, match="leaves 0 faces to train on"):
        split_people(dataset, "who", 1)
    with pytest.raises(ValueError, match="holds 0 out"):
        split_people(dataset, "who", 10**9)
    assert len(split_people(dataset, "who", 10**9, needed=False)[0]) == len(NAMES)


def test_a_checkpoint_with_other_people_held_out_is_refused():
    dataset = Dataset.from_dict({"who": NAMES})
    *_, record = split_people(dataset, "who", 3)
    saved = TrainingState(None, record).state_dict()
    same = TrainingState(None, split_people(dataset.shuffle(seed=0), "who", 3)[2])
    same.load_state_dict(saved)
    for other in (
        split_people(dataset, "who", 4)[2],
        NOBODY,
        HeldOut.rows(Dataset.from_dict({"source_row": [0]}), "some"),
    ):
        with pytest.raises(ValueError, match=f"other people held out: {len(OUT)} people .* then, {other.what[:6]}"):
            TrainingState(None, other).load_state_dict(saved)


def test_two_halves_of_those_held_out():
    names = [f"person {i // 3}" for i in range(300)]
    out = [name for name in names if zlib.crc32(name.encode()) % 4 == 0]
    halves = split_halves(out, 4)
    people = [{out[row] for row in rows} for rows in halves.values()]
    assert not people[0] & people[1] and people[0] | people[1] == set(out)
    assert 0.2 < len(people[0]) / len(set(out)) < 0.8
    # Nobody changes sides when others come.
    more = split_halves(["somebody", *out], 4)
    assert people[0] - {"somebody"} == {["somebody", *out][row] for row in more["choose"]} - {"somebody"}
    for rows in split_halves(out[:3], 4).values():  # one person
        assert rows.tolist() == [0, 1, 2]


def test_a_half_without_enough_pairs_is_none():
    names = [name for name in (f"person {i // 3}" for i in range(300)) if zlib.crc32(name.encode()) % 4 == 0]
    clean = np.ones(len(names), bool)
    counts = [len(rows) * (len(rows) - 1) // 2 - len(rows) for rows in split_halves(names, 4).values()]
    assert all(len(rows) < len(names) for rows in split_halves(names, 4, (clean, min(counts))).values())
    assert all(len(rows) == len(names) for rows in split_halves(names, 4, (clean, min(counts) + 1)).values())
    clean[:] = np.arange(len(names)) % 3 == 0  # no mated pair
    assert all(len(rows) == len(names) for rows in split_halves(names, 4, (clean, 1)).values())
