# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Scores for batches of rows of images, on any machine, and the folder of parts that several machines write together.
Needs pyarrow.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..file_utils import replace_file, write_text
from ..quality_record import FaceQualityRecord
from ..scoring.image_columns import as_image
from ..scoring.names import row_name
from ..scoring.row_formats import score_row, table_columns, table_schema, write_table
from ..version import __version__
from .manifest import begin_manifest


if TYPE_CHECKING:
    from ..calibration import Calibration

logger = logging.getLogger(__name__)

Stream = Callable[[Sequence[Any], Sequence[Any] | None], Iterable[FaceQualityRecord]]


class RowScorer:
    """
    Images with names to rows of a table of scores, one for each face: `file`, `face` (which of its image), `score`,
    the terms of the method, and `error`, the reason where there is no score.

    Args:
        stream: Called with images and with five points for each or `None`; gives [`FaceQualityRecord`]s in order.
        terms: Names of the terms.
        settings: What the scores depend on; JSON.
        calibration ([`Calibration`], *optional*): There is a column `percentile`.
        measures: Further columns, as for [`~diffiqa_hf.scoring.row_formats.table_columns`].
        **shown: For [`~diffiqa_hf.scoring.row_formats.score_row`].
    """

    def __init__(
        self,
        stream: Stream,
        terms: Sequence[str],
        settings: Mapping[str, Any],
        calibration: "Calibration | None" = None,
        measures: Sequence[str] = (),
        **shown: bool,
    ):
        self.stream, self.terms, self.settings = stream, tuple(terms), dict(settings)
        self.calibration, self.shown = calibration, shown
        self.columns = table_columns(self.terms, measures)

    def __call__(
        self, images: Sequence[Any], names: Sequence[str], landmarks: Sequence[Any] | None = None
    ) -> pa.Table:
        """A table with [`columns`] of these images, in their order, each called by its name."""
        rows = [
            score_row(names[record.index], record, self.terms, self.calibration, **self.shown)
            for record in self.stream(images, landmarks)
        ]
        return pa.Table.from_pylist(rows, schema=table_schema(self.columns))


def make_row_scorer(
    method: str = "diffiqa-r",
    weights: str | None = None,
    fr_model: str | None = None,
    *,
    device: str | None = None,
    dtype: str = "float32",
    batch_size: int | None = None,
    seed: int = 0,
    align: bool | str = "auto",
    detector: str | None = None,
    faces: str = "largest",
    threads: int | None = None,
    **options: Any,
) -> RowScorer:
    """
    The [`RowScorer`] of a method by name.

    Args:
        method, weights, fr_model, align, detector, **options: As [`~diffiqa_hf.methods.load_method`] has them.
        device, dtype: Where and in which floating point type it runs.
        batch_size, seed: As for a call of the method.
        faces: `"largest"`, or `"all"` faces of a photograph, which then has several rows.
        threads: That read images; as many as there are processors when not given.
    """
    from .labeller import load_scorer

    scorer, settings = load_scorer(
        method, weights, fr_model, device=device, dtype=dtype, align=align, detector=detector, **options
    )
    scorer.image_processor.multiple_faces = faces
    scorer.reading_threads = threads
    settings |= {"options": options, "dtype": dtype, "seed": seed, "align": align, "faces": faces}

    def stream(images: Sequence[Any], landmarks: Sequence[Any] | None) -> Iterable[FaceQualityRecord]:
        return scorer.stream(images, landmarks, batch_size=batch_size, seed=seed)

    calibration = scorer.usable_calibration()
    measures = () if calibration is None else ("percentile",)
    return RowScorer(stream, scorer.term_names(), settings, calibration, measures)


def names_of_rows(table: pa.Table, image_column: str, id_column: str | None) -> list[str]:
    """
    What the rows of a table are called: by the column of ids, or by the path of the image.

    Raises:
        ValueError: There is no such column, or a row has no name.
    """
    column = image_column if id_column is None else id_column
    if column not in table.column_names:
        raise ValueError(f"the rows have no column {column!r}; they have {', '.join(table.column_names)}")
    values = table[column]
    if id_column is None and pa.types.is_struct(values.type) and "path" in [field.name for field in values.type]:
        values = pa.chunked_array([pc.struct_field(chunk, "path") for chunk in values.chunks], pa.string())
    elif id_column is None and not pa.types.is_string(values.type) and not pa.types.is_large_string(values.type):
        raise ValueError(
            f"the images of column {image_column!r} have no paths to be named by: id_column names another"
        )
    names = values.to_pylist()
    if None in names:
        where = f"column {id_column!r}" if id_column else f"paths in column {image_column!r}"
        raise ValueError(f"row {names.index(None)} of a batch has no name: {where}")
    return [row_name(str(name)) for name in names]


def name_digests(names: Iterable[str]) -> np.ndarray:
    """(N,) uint64 of names. Of a million two have the same one in one of 37 million cases, of 10^9 in one of 37."""
    digests = (hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), np.uint64)


class ScoreParts:
    """
    A folder of scores: parts `part-DIGEST.parquet`, which any number of processes on machines that see it write, and
    `manifest.json` with what the scores depend on. A part is called by the names of its rows: the same rows, done
    again because a machine was lost, are the same part. What is there is whole.

    Args:
        folder: Made where it is not there.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def begin(self, settings: Mapping[str, Any], columns: Sequence[str]) -> None:
        """
        Begins the manifest.

        Raises:
            ValueError: The folder has scores that were made with other settings.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        described = {"diffiqa_hf": __version__, "columns": list(columns)}
        begin_manifest(self.folder / "manifest.json", {"complete": False, **described, "settings": dict(settings)})

    def path(self, names: Sequence[str]) -> Path:
        """Of the part of these rows, in any order."""
        digest = hashlib.blake2b(np.sort(name_digests(names)).tobytes(), digest_size=10).hexdigest()
        return self.folder / f"part-{digest}.parquet"

    def files(self) -> list[Path]:
        """The parts that are there, by their names."""
        return sorted(self.folder.glob("part-*.parquet"))

    def read(self, names: Sequence[str]) -> pa.Table | None:
        """The part of these rows, where it is there and can be read."""
        path = self.path(names)
        try:
            return pq.read_table(path) if path.is_file() else None
        except (pa.ArrowInvalid, OSError) as error:
            logger.warning(f"{path} can't be read and is made again: {error}")
            return None

    def write(self, names: Sequence[str], table: pa.Table) -> None:
        """Writes the part of these rows."""
        replace_file(self.path(names), lambda path: pq.write_table(table, path))

    def digests(self) -> np.ndarray:
        """(N,) uint64, ascending: of the names in all parts."""
        parts = [name_digests(pq.read_table(path, columns=["file"])["file"].to_pylist()) for path in self.files()]
        return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.uint64)

    def rows(self) -> Iterator[dict]:
        """All rows, each face once, however often it was scored."""
        seen: set[tuple[int, int]] = set()
        for path in self.files():
            rows = pq.read_table(path).to_pylist()
            for row, digest in zip(rows, name_digests(row["file"] for row in rows).tolist(), strict=True):
                if (digest, row["face"]) not in seen:
                    seen.add((digest, row["face"]))
                    yield row

    def complete(self) -> dict[str, Any]:
        """Completes the manifest with the number of parts, rows and failed ones, and gives it."""
        path = self.folder / "manifest.json"
        if not path.is_file():
            return {}
        manifest = json.loads(path.read_text())
        rows = failed = 0
        for part in self.files():
            errors = pq.read_table(part, columns=["error"])["error"]
            rows, failed = rows + len(errors), failed + len(errors) - errors.null_count
        manifest |= {"complete": True, "parts": len(self.files()), "rows": rows, "failed": failed}
        write_text(path, json.dumps(manifest, indent=2) + "\n")
        return manifest


def join_score_parts(folder: str | Path, table: str | Path) -> int:
    """
    Writes the parts that [`score_ray_dataset`] has written as one table, as `diffiqa score` writes it.

    Args:
        folder: Of the parts.
        table: File to write: `.csv`, `.jsonl` or `.parquet`.

    Returns:
        `int`: its rows.

    Raises:
        ValueError: The folder has no parts, or not all of them yet; the ending is another one.
    """
    parts = ScoreParts(folder)
    path = parts.folder / "manifest.json"
    manifest: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"complete": False}
    if not manifest["complete"]:
        raise ValueError(f"{folder} has not all scores: score_ray_dataset with output={str(folder)!r} goes on")
    count = 0

    def counted() -> Iterator[dict]:
        nonlocal count
        for row in parts.rows():
            count += 1
            yield row

    ending = Path(table).suffix
    if ending not in (".csv", ".jsonl", ".parquet"):
        raise ValueError(f"{table}: the ending is one of .csv, .jsonl, .parquet")
    replace_file(table, lambda beside: write_table(beside, counted(), manifest["columns"], ending))
    return count


def images_of_rows(table: pa.Table, image_column: str) -> list[Any]:
    """The images of a table's rows, as they are scored."""
    return [as_image(image) for image in table[image_column].to_pylist()]


__all__ = [
    "RowScorer",
    "ScoreParts",
    "images_of_rows",
    "join_score_parts",
    "make_row_scorer",
    "name_digests",
    "names_of_rows",
]
