# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Three validation sets out of people who were held out of a training: clean, degraded, and turned faces.

A quality network that is chosen on clean faces alone may be blind to damage that it was not shown, and to faces in
profile. Each set is images and comparisons; what is measured is the share of the reachable gain
([`reachable_shares`]). The people are parted in two halves by their names: on one a network is *chosen*, and on the
other it is *reported*, since the best of many on the same people is better than it will be on others.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from ..alignment import YuNetFaceDetector, estimate_yaw
from ..degradations import photograph
from ..file_utils import replace_file
from ..scoring.names import Names
from ..scoring.tables import TableError
from .bootstrap import Interval, bootstrap_pauc
from .edc import EDCProtocol, edc_curves
from .held_out import HALVES, half_of, is_held_out
from .pair_lists import read_pairs
from .pair_sampling import sample_pairs
from .verification import compare_embeddings


SETS = ("clean", "degraded", "turned")


@dataclass(frozen=True)
class ValidationSet:
    """
    Aligned face images of one half of the people, and which of them are compared.

    Args:
        name (`str`): One of `SETS`.
        half (`str`): One of `HALVES`.
        images (`list[dict]`): `{"bytes": ..., "path": name}` each, as methods and pipelines take them.
        files (`list[str]`): The names of the images.
        identities (`np.ndarray` of shape `(I,)`): The name of each image's person.
        yaws (`np.ndarray` of shape `(I,)`): Degrees, as [`estimate_yaw`] finds them; NaN where nothing was found.
        degraded (`np.ndarray` of shape `(I,)`): Whether the image went through the imaging chain.
        pairs (`np.ndarray` of shape `(P, 2)`), mated (`np.ndarray` of shape `(P,)`): The comparisons.
    """

    name: str
    half: str
    images: list[dict]
    files: list[str]
    identities: np.ndarray
    yaws: np.ndarray
    degraded: np.ndarray
    pairs: np.ndarray
    mated: np.ndarray

    def counts(self) -> dict[str, int]:
        """Images and people that are compared, people with mated pairs, and pairs."""
        used = np.unique(self.pairs)
        return {
            "images": len(used),
            "degraded": int(self.degraded[used].sum()),
            "people": len(np.unique(self.identities[used])),
            "people with mated pairs": len(np.unique(self.identities[self.pairs[self.mated, 0]])),
            "mated pairs": int(self.mated.sum()),
            "non-mated pairs": int((~self.mated).sum()),
        }


def read_held_out(
    paths: Sequence[str | Path],
    modulo: int = 10,
    *,
    identity_column: str = "identity",
    name_column: str = "name",
    image_column: str = "image",
    landmarks_column: str = "landmarks",
    detector: YuNetFaceDetector | None = None,
) -> ValidationSet:
    """
    The faces of those people of Parquet files who are held out, both halves of them, without comparisons.

    Args:
        paths: Parquet files with aligned face crops, as `datasets` writes them.
        modulo: As `--holdout_modulo` of the training scripts.
        identity_column, name_column, image_column: Where the person, the name of the image and the image are.
        landmarks_column: Where five landmarks are, in pixels of any picture; need not be there.
        detector: Finds the landmarks where there is no such column. Without it the yaw is NaN.

    Raises:
        TableError: A file is not there or lacks a column; a name occurs twice; nobody is held out.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    images, files, identities, yaws = [], [], [], []
    for path in paths:
        try:
            names = pq.read_schema(path).names
        except (OSError, pa.ArrowInvalid) as error:
            raise TableError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
        wanted = [identity_column, name_column, image_column]
        if lacking := [name for name in wanted if name not in names]:
            raise TableError(f"{path}: has no column {lacking[0]!r}; it has {', '.join(names)}")
        with_landmarks = landmarks_column in names
        table = pq.read_table(path, columns=wanted + [landmarks_column] * with_landmarks)
        out = [is_held_out(str(name), modulo) for name in table[identity_column].to_pylist()]
        rows = table.filter(pa.array(out)).to_pydict()
        identities += [str(name) for name in rows[identity_column]]
        files += [str(name) for name in rows[name_column]]
        images += [
            {"bytes": image["bytes"], "path": str(name)}
            for image, name in zip(rows[image_column], rows[name_column], strict=True)
        ]
        if with_landmarks:
            points = np.array(rows[landmarks_column], float).reshape(-1, 5, 2)
        elif detector is not None:
            found = [detector.detect(_pixels(image["bytes"])) for image in rows[image_column]]
            points = np.array([faces[0].landmarks if faces else np.full((5, 2), np.nan) for faces in found])
        else:
            points = np.full((len(rows[image_column]), 5, 2), np.nan)
        if len(points):
            yaws.append(estimate_yaw(points))
    if not files:
        raise TableError(f"nobody in {', '.join(map(str, paths))} is held out with the modulus {modulo}")
    Names(files, "the held-out people")  # a name that occurs twice
    nothing = np.empty((0, 2), np.int32)
    return ValidationSet(
        "clean", "both", images, files, np.array(identities), np.concatenate(yaws),
        np.zeros(len(files), bool), nothing, np.empty(0, bool),
    )  # fmt: skip


def make_validation_sets(
    faces: ValidationSet,
    modulo: int = 10,
    *,
    mated_per_person: int = 50,
    nonmated: int = 200_000,
    degraded_share: float = 0.2,
    turned: float = 25.0,
    frontal: float = 15.0,
    seed: int = 0,
) -> dict[tuple[str, str], ValidationSet]:
    """
    The three sets, for each half of the people.

    - *clean*: the faces as they are; all mated pairs, at most `mated_per_person`, and non-mated ones, drawn.
    - *degraded*: the same comparisons; a share of the images went through
      [`~diffiqa_hf.degradations.photograph`], of which nobody's training knows, and lies there as PNG.
    - *turned*: the faces as they are; in each pair, mated or not, one face is turned by `turned` degrees or more and
      the other one by `frontal` or less.

    Args:
        faces: As [`read_held_out`] gives them.
        modulo: With which they were held out.
        degraded_share: Of the images; which ones depends on their names.
        seed: Of the draw of pairs and, with the names, of the damage.

    Returns:
        The sets by name and half. A half without mated pairs of a kind has no such set.
    """
    damaged = [_draw(f"{seed} damaged? {file}") < degraded_share * 2**32 for file in faces.files]
    worse = [_photographed(image, seed) if bad else image for image, bad in zip(faces.images, damaged, strict=True)]
    halves = np.array([half_of(name, modulo) for name in faces.identities])
    sets = {}
    for half in HALVES:
        rows = np.flatnonzero(halves == half)
        part = _rows_of(faces, rows, half)
        if len(np.unique(part.identities)) < 2:
            continue
        if len(np.unique(part.identities)) < len(rows):
            pairs, mated = sample_pairs(part.identities, mated_per_person, nonmated, seed)
            clean = replace(part, pairs=pairs, mated=mated)
            sets["clean", half] = clean
            sets["degraded", half] = replace(
                clean, name="degraded", images=[worse[row] for row in rows], degraded=np.array(damaged)[rows]
            )
        pairs, mated = _turned_pairs(part, turned, frontal, mated_per_person, nonmated, seed)
        if mated.any():
            sets["turned", half] = replace(part, name="turned", pairs=pairs, mated=mated)
    return sets


def _rows_of(faces: ValidationSet, rows: np.ndarray, half: str) -> ValidationSet:
    return replace(
        faces,
        half=half,
        images=[faces.images[row] for row in rows],
        files=[faces.files[row] for row in rows],
        identities=faces.identities[rows],
        yaws=faces.yaws[rows],
        degraded=faces.degraded[rows],
    )


def _turned_pairs(faces, turned, frontal, mated_per_person, nonmated, seed):
    random = np.random.RandomState(seed)
    side = np.flatnonzero(np.abs(faces.yaws) >= turned)  # NaN is neither
    front = np.flatnonzero(np.abs(faces.yaws) <= frontal)
    first, second = (part.ravel() for part in np.meshgrid(side, front, indexing="ij"))
    same = faces.identities[first] == faces.identities[second]
    kept = []
    for name in dict.fromkeys(faces.identities[side]):
        own = np.flatnonzero(same & (faces.identities[first] == name))
        kept.append(np.sort(random.permutation(own)[:mated_per_person]))
    other = np.flatnonzero(~same)
    kept.append(np.sort(random.permutation(other)[:nonmated]))
    rows = np.concatenate(kept)
    return np.stack([first[rows], second[rows]], 1).astype(np.int32), same[rows]


def _draw(text: str) -> int:
    """A number below 2**32 for a text, evenly spread."""
    return int(np.random.RandomState(zlib.crc32(text.encode())).randint(2**32, dtype=np.uint32))


def _photographed(image: dict, seed: int) -> dict:
    picture = photograph(_pixels(image["bytes"]), _draw(f"{seed} damage of {image['path']}"))
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": image["path"]}


def _pixels(content: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(content)).convert("RGB"))


# ---------------------------------------------------------------------------------------------------------------------
# On disk: what `diffiqa benchmark` reads as `parquet` and `pairs`


def write_validation_sets(folder: str | Path, sets: Iterable[ValidationSet]) -> list[Path]:
    """
    Writes each set as `HALF/SET.parquet` (columns image, file, identity, yaw, degraded) and `HALF/SET_pairs.parquet`
    (file_a, file_b, mated), which a study takes as `parquet` and `pairs`; returns the files.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    written = []
    for part in sets:
        images = pa.table(
            {
                "image": pa.array(part.images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
                "file": part.files,
                "identity": part.identities.tolist(),
                "yaw": part.yaws,
                "degraded": part.degraded,
            }
        )
        names = np.array(part.files)
        columns = {"file_a": names[part.pairs[:, 0]].tolist(), "file_b": names[part.pairs[:, 1]].tolist()}
        pairs = pa.table({**columns, "mated": part.mated})
        for ending, table in (("", images), ("_pairs", pairs)):

            def write(temporary, table=table):
                pq.write_table(table, temporary)

            written.append(replace_file(Path(folder) / part.half / f"{part.name}{ending}.parquet", write))
    return written


def load_validation_set(folder: str | Path, name: str, half: str = "report") -> ValidationSet:
    """
    A set that [`write_validation_sets`] wrote.

    Raises:
        TableError: It is not there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if name not in SETS or half not in HALVES:
        raise ValueError(f"a set is one of {', '.join(SETS)} and a half {' or '.join(HALVES)}, not {name}, {half}")
    path = Path(folder) / half / f"{name}.parquet"
    try:
        columns = pq.read_table(path).to_pydict()
    except (OSError, pa.ArrowInvalid) as error:
        raise TableError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    listed = read_pairs(path.with_name(f"{name}_pairs.parquet"))
    place = {file: row for row, file in enumerate(columns["file"])}
    pairs = np.array([[place[file] for file in side] for side in (listed.first, listed.second)], np.int32).T
    return ValidationSet(
        name, half, columns["image"], columns["file"], np.array(columns["identity"]), np.array(columns["yaw"], float),
        np.array(columns["degraded"], bool), pairs, listed.mated,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# What is measured


@dataclass(frozen=True)
class Shares:
    """
    Shares of the reachable gain of M methods with F FR models on one set, with replicates over people.

    Args:
        methods (`tuple[str, ...]`), fr_models (`tuple[str, ...]`): Names of the axes.
        limit (`float`): Discard fraction up to which the gain counts.
        estimates (`np.ndarray` of shape `(M, F)`): 0 is as good as random, 1 as good as any quality could be.
        replicates (`np.ndarray` of shape `(B, M, F)`): On B draws of the people, the same for all; NaN where a draw
            has no error.
        errors (`tuple[int, ...]`): False non-matches of each FR model.
        mated, nonmated, people (`int`): How many pairs there are, and people to draw from.
    """

    methods: tuple[str, ...]
    fr_models: tuple[str, ...]
    limit: float
    estimates: np.ndarray
    replicates: np.ndarray
    errors: tuple[int, ...]
    mated: int
    nonmated: int
    people: int

    def interval(self, method: str, fr_model: str | None = None, confidence: float = 0.95) -> Interval:
        """Of the share with one FR model, or of the mean over all of them."""
        at = self.methods.index(method)
        return self._interval(self.estimates[at], self.replicates[:, at], fr_model, confidence)

    def difference(self, method: str, other: str, fr_model: str | None = None, confidence: float = 0.95) -> Interval:
        """Of share(`method`) - share(`other`), above 0 where `method` is better, on the same draws."""
        first, second = self.methods.index(method), self.methods.index(other)
        estimate = self.estimates[first] - self.estimates[second]
        replicates = self.replicates[:, first] - self.replicates[:, second]
        return self._interval(estimate, replicates, fr_model, confidence)

    def _interval(self, estimate, replicates, fr_model, confidence) -> Interval:
        if fr_model is None:
            estimate, replicates = estimate.mean(), replicates.mean(1)
        else:
            at = self.fr_models.index(fr_model)
            estimate, replicates = estimate[at], replicates[:, at]
        defined = replicates[~np.isnan(replicates)]
        ends = [(1 - confidence) / 2, (1 + confidence) / 2]
        low, high = np.quantile(defined, ends) if len(defined) else (np.nan, np.nan)
        return Interval(float(estimate), float(low), float(high), confidence, len(replicates) - len(defined))

    def table(self) -> str:
        """As a table in Markdown: a method a row, an FR model a column, with 95 % intervals, and the mean."""
        errors = [f"{name} ({count} errors)" for name, count in zip(self.fr_models, self.errors, strict=True)]
        rows = [["method", *errors, "mean"]]
        rows.append(["---"] * len(rows[0]))
        for method in self.methods:
            cells = [self.interval(method, fr_model) for fr_model in (*self.fr_models, None)]
            rows.append([method, *(f"{cell.estimate:.2f} [{cell.low:.2f}, {cell.high:.2f}]" for cell in cells)])
        return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def reachable_shares(
    part: ValidationSet,
    qualities: Mapping[str, ArrayLike | Mapping[str, ArrayLike]],
    embeddings: Mapping[str, ArrayLike],
    *,
    limit: float = 0.3,
    fmr: float = 1e-3,
    replicates: int = 1000,
    seed: int = 0,
) -> Shares:
    """
    How much of the gain that a quality could bring each method reaches, with intervals over people.

    In a draw the pairs of a person who was drawn twice leave together, which keeps a share near 1 from being reached
    by about a hundredth; in differences this drops out.

    Args:
        part: The set.
        qualities: Of each method (I,), in the order of the images, higher is better, NaN leaves first; or for each FR
            model (I,), as of a method that probes the one that recognises.
        embeddings: Of each FR model (I, D).
        limit, fmr: Discard fraction, and false match rate of the threshold; the rest is the protocol `default`.
        replicates: Draws of the people for the intervals.
        seed: Of these draws.

    Raises:
        ValueError: Shapes that don't fit, or an embedding that is not finite.
    """
    protocol = EDCProtocol.from_preset("default", limits=(limit,), fmr=fmr, nan_quality="lowest")
    estimates, samples, errors = [], [], []
    people = 0
    for fr_model, rows in embeddings.items():
        compared = compare_embeddings(rows, part.identities, part.pairs)
        own = {
            method: np.asarray(values[fr_model] if isinstance(values, Mapping) else values, float)
            for method, values in qualities.items()
        }
        if wrong := [method for method, values in own.items() if values.shape != (len(part.files),)]:
            raise ValueError(f"{wrong[0]}: {len(part.files)} qualities are needed, not {own[wrong[0]].shape}")
        curves = edc_curves(compared.similarities, compared.mated, own, protocol, pairs=compared.pairs)
        drawn = bootstrap_pauc(
            compared.similarities, compared.mated, own, part.identities, protocol,
            pairs=compared.pairs, replicates=replicates, seed=seed,
        )  # fmt: skip
        floors = np.array([_floor(rate, int(part.mated.sum()), limit) for rate in drawn.fnmr_replicates])
        samples.append((1 - drawn.replicates[:, :, 0]) / (1 - floors)[:, None])
        estimates.append([curve.share[limit] for curve in curves.values()])
        errors.append(next(iter(curves.values())).false_non_matches)
        people = drawn.identities
    return Shares(
        tuple(qualities), tuple(embeddings), limit, np.array(estimates).T, np.stack(samples, 2), tuple(errors),
        int(part.mated.sum()), int((~part.mated).sum()), people,
    )  # fmt: skip


def _floor(rate: float, pairs: int, limit: float) -> float:
    """The least pAUC up to `limit`, over `rate`, of so many mated pairs: each pair that leaves is an error."""
    if not rate > 0:
        return np.nan
    left = np.arange(int(np.ceil(limit * pairs))) / pairs
    widths = np.minimum(limit - left, 1 / pairs)
    return float((np.maximum(rate - left, 0) / (1 - left) * widths).sum() / (rate * limit))


__all__ = [
    "HALVES",
    "SETS",
    "Shares",
    "ValidationSet",
    "half_of",
    "is_held_out",
    "load_validation_set",
    "make_validation_sets",
    "reachable_shares",
    "read_held_out",
    "write_validation_sets",
]
