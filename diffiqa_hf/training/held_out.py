# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The people whom a run does not train on, and what it measures on them."""

import argparse
import hashlib
import json
import logging
import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from ..calibration import Calibration, CalibrationMixin, fit_calibration
from ..evaluation.held_out import HALVES, half_of, is_held_out
from ..hub import training_source
from .data import ROW, source_row


logger = logging.getLogger(__name__)


def find_people(dataset, identity_column: str | None) -> list[str | None]:
    """
    The name of the person that each row shows, `None` where it has none. A column of classes, as `datasets` makes of
    the folders in a folder, holds numbers that another folder moves; the names are those of the folders.

    Raises:
        ValueError: There is no such column.
    """
    if identity_column not in dataset.column_names:
        raise ValueError(f"the dataset has no column {identity_column!r}; it has {dataset.column_names}")
    values = dataset[identity_column][:]
    names = getattr(dataset.features[identity_column], "names", None)
    if names is not None:  # of a ClassLabel, where -1 is no class
        return [None if value is None or value < 0 else names[value] for value in values]
    return [None if value is None or value != value else str(value) for value in values]  # NaN is not itself


def people_of(dataset, identity_column: str | None) -> list[str]:
    """
    As [`find_people`], where everybody has to have a name.

    Raises:
        ValueError: There is no such column, or a row has no person in it.
    """
    people = []
    for at, person in enumerate(find_people(dataset, identity_column)):
        if person is None:
            raise ValueError(f"row {source_row(dataset, at)} has no person in the column {identity_column!r}")
        people.append(person)
    return people


def hold_out(dataset, identity_column: str | None, modulo: int, heldout: bool):
    """
    The people whose name's CRC-32 is divisible by `modulo` (`heldout`), or all others: a split by person that depends
    on nothing but the name.

    Raises:
        ValueError: As [`people_of`].
    """
    people = people_of(dataset, identity_column)
    out = {name: is_held_out(name, modulo) for name in set(people)}
    return dataset.select([i for i, name in enumerate(people) if out[name] == heldout])


def split_people(dataset, identity_column: str | None, modulo: int | None, needed: bool = True):
    """
    A run's dataset in two, as [`hold_out`] does it.

    Args:
        modulo: 0 or `None` holds nobody out.
        needed: Whether the run measures on those held out, so that there have to be some.

    Returns:
        The rows to train on, those held out (`None` where nobody is to be), and the [`HeldOut`] of these.

    Raises:
        ValueError: As [`people_of`], or there is nobody in one of the parts that are needed.
    """
    if not modulo:
        return dataset, None, NOBODY
    train, out = (hold_out(dataset, identity_column, modulo, heldout) for heldout in (False, True))
    if not len(train) or (needed and not len(out)):
        raise ValueError(f"--holdout_modulo {modulo} leaves {len(train)} faces to train on and holds {len(out)} out")
    people = sorted(set(people_of(out, identity_column)))
    return train, out, HeldOut(f"{len(people)} people (--holdout_modulo {modulo})", _digest(people))


def split_halves(names: list[str], modulo: int, pairs: tuple[np.ndarray, int] | None = None) -> dict[str, np.ndarray]:
    """
    What is held out in two halves, to choose a model on the one and report what it reaches on the other.

    Args:
        names: (N,) of the people of the rows; or of whatever else belongs to one half.
        pairs: Which of the rows are compared with each other, (N,) bool, and how many non-mated pairs each half has to
            have, beside a mated one.

    Returns:
        `dict[str, np.ndarray]`: of each of `HALVES` the positions of its rows. Where one of them would have fewer than
        two names, or too few pairs, both have all.
    """
    people = np.array(names)
    halves = np.array([half_of(name, modulo) for name in names])
    rows = {half: np.flatnonzero(halves == half) for half in HALVES}

    def is_enough(part: np.ndarray) -> bool:
        if len(np.unique(people[part])) < 2:
            return False
        if pairs is None:
            return True
        counts = np.unique(people[part[pairs[0][part]]], return_counts=True)[1]
        mated, total = (counts * (counts - 1) // 2).sum(), counts.sum() * (counts.sum() - 1) // 2
        return mated > 0 and total - mated >= pairs[1]

    if not all(is_enough(part) for part in rows.values()):
        logger.warning("too few are held out for two halves: what a model is chosen by is what is reported")
        rows = {half: np.arange(len(names)) for half in HALVES}
    return rows


@dataclass(frozen=True)
class HeldOut:
    """
    Who is held out of a run, as its checkpoints remember it.

    Args:
        what (`str`): In words.
        digest (`str`): Of the people, or of whatever else was held out.
    """

    what: str
    digest: str

    @classmethod
    def rows(cls, dataset, what: str) -> "HeldOut":
        """Of the rows held out, by their numbers."""
        rows = [int(row) for row in dataset[ROW][:]]
        return cls(f"{len(rows)} faces ({what})", _digest(rows))


NOBODY = HeldOut("nobody", "")


def _digest(items: list) -> str:
    return hashlib.sha256(json.dumps(items).encode()).hexdigest()[:16]


@torch.no_grad()
def predict(model: torch.nn.Module, faces, rows: range, what: str) -> dict[str, torch.Tensor]:
    """
    What a model gives for clean faces.

    Args:
        model: In evaluation mode, from canonical faces to a transformers output.
        faces: Has them as `faces.clean(index)`, arrays (3, H, W).
        rows: Which of them.
        what: What the progress bar says.

    Returns:
        `dict[str, torch.Tensor]`: the fields of the output, each of `len(rows)` rows, float32 on the CPU.
    """
    device = next(model.parameters()).device
    size = 16 if device.type == "cpu" else 64  # a small batch stays in the cache of a CPU: about twice as fast there
    outputs = []
    for start in tqdm(range(rows.start, rows.stop, size), desc=what, leave=False):
        batch = np.stack([faces.clean(i) for i in range(start, min(start + size, rows.stop))])
        output = model(torch.from_numpy(batch).to(device))
        outputs.append({name: value.float().cpu() for name, value in output.items()})
    return {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}


def calibrate_held_out(
    method: CalibrationMixin,
    scores: ArrayLike,
    what: str,
    args: argparse.Namespace,
    *,
    embeddings: ArrayLike | None = None,
    identities: ArrayLike | None = None,
    embedded_by: str = "",
    **options,
) -> Calibration | None:
    """
    What the scores of a network mean, measured on the faces that its run has held out; it goes into the network's
    folder.

    Args:
        method: Of the network as it is saved, which the settings of the calibration are of.
        scores: (N,) of the faces.
        what: What they are: `"faces of 403 people"`.
        args: Of the run, with the options that say where its faces come from.
        embeddings, identities: (N, D) and (N,), for an FNMR; see [`~diffiqa_hf.calibration.fit_calibration`].
        embedded_by: What the embeddings are of.
        **options: More of `fit_calibration`.

    Returns:
        `None` where there are fewer than two faces.
    """
    if len(scores) < 2:
        return None
    data = f"{what} held out of {training_source(args)}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        settings = method.calibration_settings()
        calibration = fit_calibration(scores, embeddings, identities, settings=settings, data=data, **options)
    for warning in caught:  # too few pairs for an FNMR
        logger.warning(f"calibration: {warning.message}")
    if calibration.levels:
        calibration = replace(calibration, data=f"{data}; FNMR of {embedded_by}")
    return calibration
