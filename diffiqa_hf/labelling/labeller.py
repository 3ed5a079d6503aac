# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Quality labels for batches of rows of a dataset: what `training/label_quality.py` maps over its shards, and what
`datasets`, Ray Data (see `diffiqa_hf.labelling.ray`) and Spark can map over theirs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..fingerprints import recorded_fingerprint
from ..pipeline_output import TERMS, FaceQualityOutput
from ..scoring.image_columns import DEGRADED_COLUMN, as_image


if TYPE_CHECKING:
    import pyarrow as pa

    from ..methods import FaceQualityMethod


# The columns are the same for every method, so that their labels can be compared; a term that it has not is NaN.
TERM_COLUMNS = tuple(f"quality_{term}" for term in TERMS)
ERROR_COLUMN = "quality_error"
LABEL_COLUMNS = ("quality", *TERM_COLUMNS, ERROR_COLUMN)
ROWS_AT_A_TIME = 32  # go to the method together, counted from the first row of a batch


class QualityLabeller:
    """
    Adds to rows the quality of their faces: `quality`, the five terms `quality_noisy`, `quality_restored`,
    `quality_flipped`, `quality_noisy_flipped` and `quality_restored_flipped` (all float32, higher is better), and
    `quality_error`: where the rest is NaN, the reason in one line.

    The model is loaded at the first batch, and left out when a labeller is pickled, so that a labeller travels to
    where the rows are:

    ```python
    labelled = dataset.map(QualityLabeller().label, batched=True, batch_size=64,                # datasets
                           features=labelled_features(dataset.features))
    labelled = label_ray_dataset(rows, num_actors=4, num_gpus=1, model="default")                # Ray Data
    labelled = frame.mapInPandas(QualityLabeller().map_frames, schema)                          # Spark
    ```

    Args:
        method (`str` or callable): A name that [`~diffiqa_hf.methods.load_method`] knows; or what is called as
            `method(images, landmarks)` with lists of N and returns a [`FaceQualityOutput`] with N scores. The
            attribute `settings` of the latter, if it has one, is a dictionary of what the scores depend on.
        model (`str`, *optional*): Folder or Hub id of the method's own network: of a [`DifFIQAPipeline`] for
            `"diffiqa"`, which has a default.
        fr_model (`str`, *optional*): Folder or Hub id of the FR model that the method probes, or `"dlib"`, in place of
            its default.
        device (`str` or `torch.device`, *optional*): Where it runs; an accelerator where there is one.
        dtype (`str`): `"float32"`, `"float16"` or `"bfloat16"`.
        batch_size (`int`): Images that go through the network at a time (the noisy copies, for DifFIQA). It is not
            chosen by the free memory, because the last bits of a score may depend on it.
        seed (`int`): Of what the method draws.
        image_column (`str`): Column of the faces: what [`~diffiqa_hf.scoring.image_columns.as_image`] takes.
        align (`bool` or `"auto"`): Whether faces are looked for and aligned, as for
            [`~diffiqa_hf.methods.load_method`]; without it images are taken as aligned crops.
        detector (*optional*): As there.
        landmarks_column (`str`, *optional*): Column of five points (5, 2) in pixels, or `None`, to align them by.
        **options: The method's own, such as `num_repeats`.

    Raises (at the first batch, or when `settings` is read):
        ValueError, TypeError, OSError: As [`~diffiqa_hf.methods.load_method`].
    """

    def __init__(
        self,
        method: str | Callable[..., FaceQualityOutput] = "diffiqa",
        model: str | None = None,
        fr_model: str | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: str = "float32",
        batch_size: int = 20,
        seed: int = 0,
        image_column: str = "image",
        landmarks_column: str | None = None,
        align: bool | str = False,
        detector: str | None = None,
        **options: Any,
    ):
        self.method, self.model, self.fr_model = method, model, fr_model
        self.device, self.dtype, self.batch_size, self.seed = device, dtype, batch_size, seed
        self.image_column, self.landmarks_column = image_column, landmarks_column
        self.align, self.detector = align, detector
        self.options = options
        # Fingerprints of weights in the record that the labels go on with, if there is one.
        self.recorded: Iterable[str | None] = ()
        self._score: Callable[..., FaceQualityOutput] | None = None
        self._settings: dict[str, Any] = {}

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_score": None, "_settings": {}}

    @property
    def settings(self) -> dict[str, Any]:
        """What the labels depend on besides the faces, the hash of the weights included; JSON."""
        self._load()
        return self._settings

    def label(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """
        The new columns alone. The same rows in the same order give the same labels to the bit on one kind of device;
        among other rows the last bits may differ, because what goes through a network together does.

        Args:
            batch: Columns by name, each a list or an array of N.

        Returns:
            `dict`: of `LABEL_COLUMNS`, arrays of N float32, and for `quality_error` N strings or `None`.
        """
        images = [as_image(image) for image in batch[self.image_column]]
        landmarks = None if self.landmarks_column is None else list(batch[self.landmarks_column])
        columns: dict[str, Any] = {name: np.full(len(images), np.nan, np.float32) for name in LABEL_COLUMNS[:-1]}
        columns[ERROR_COLUMN] = np.full(len(images), None, object)
        for start in range(0, len(images), ROWS_AT_A_TIME):
            rows = slice(start, start + ROWS_AT_A_TIME)
            self._label_rows(
                images[rows],
                None if landmarks is None else landmarks[rows],
                {name: values[rows] for name, values in columns.items()},
            )
        return columns

    def _label_rows(self, images: list, landmarks: list | None, columns: dict[str, np.ndarray]) -> None:
        """Fills the columns of a few rows."""
        output = self._load()(images, landmarks)
        if len(output.scores) != len(images):
            raise ValueError(
                f"the method gave {len(output.scores)} scores for {len(images)} images; one each is needed"
            )
        columns["quality"][:] = output.scores.float().cpu().numpy()
        for term, column in zip(TERMS, TERM_COLUMNS, strict=True):
            if term in output.terms:
                columns[column][:] = output.terms[term].float().cpu().numpy()
        for i in range(len(images)):
            error = output.errors[i]
            if error is None and not np.isfinite(columns["quality"][i]):
                error = "the score is not a number"
            if error is not None:
                for column in LABEL_COLUMNS[:-1]:
                    columns[column][i] = np.nan
                columns[ERROR_COLUMN][i] = error

    def label_table(self, table: "pa.Table") -> "pa.Table":
        """
        An Arrow table with the new columns behind its own, which stay as they are.

        Raises:
            ValueError: It has a column of one of these names already.
        """
        import pyarrow as pa

        taken = [name for name in LABEL_COLUMNS if name in table.column_names]
        if taken:
            raise ValueError(f"the rows have a column {taken[0]!r} already; rename it, or are they labelled?")
        names = [name for name in (self.image_column, self.landmarks_column) if name is not None]
        labels = self.label({name: table[name].to_pylist() for name in names})
        for name in LABEL_COLUMNS:
            # The type is said, for a column of errors may hold none; a score that is NaN stays so and is not null.
            kind = pa.string() if name == ERROR_COLUMN else pa.float32()
            table = table.append_column(name, pa.array(labels[name], kind, from_pandas=False))
        return table

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of the batch and the new ones."""
        return {**batch, **self.label(batch)}

    def map_frames(self, frames: Iterable) -> Iterator:
        """Data frames with the new columns, from an iterator of pandas data frames, as Spark's `mapInPandas` does."""
        for frame in frames:
            yield frame.assign(**self.label({name: list(frame[name]) for name in frame.columns}))

    def _load(self) -> Callable[..., FaceQualityOutput]:
        if self._score is None:
            if callable(self.method):
                self._score = self.method
                name = getattr(self.method, "__qualname__", type(self.method).__qualname__)
                self._settings = {"method": name, **getattr(self.method, "settings", {})}
            else:
                self._score = self._load_by_name(self.method)
        return self._score

    def _load_by_name(self, name: str) -> Callable[..., Any]:
        # The record does not depend on whether a default was spelled out.
        method, found = load_scorer(
            name,
            self.model,
            self.fr_model,
            device=self.device,
            dtype=self.dtype,
            align=self.align,
            recorded=self.recorded,
            detector=self.detector,
            **self.options,
        )
        settings = {"dtype": self.dtype, "batch_size": self.batch_size, "seed": self.seed, **self.options}
        settings |= {"align": self.align} if self.align else {}  # a record of an earlier version has none
        self._settings = {**found, **settings}
        return partial(method, batch_size=self.batch_size, seed=self.seed)


def load_scorer(
    name: str,
    weights: str | None = None,
    fr_model: str | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str = "float32",
    recorded: Iterable[str | None] = (),
    **options: Any,
) -> "tuple[FaceQualityMethod, dict[str, Any]]":
    """
    A method as it runs where many faces are scored: on its device, folded where it is float32.

    Args:
        name, weights, fr_model, **options: As [`~diffiqa_hf.methods.load_method`] takes them, with `align` and
            `detector`.
        device: An accelerator where there is one, if not given.
        dtype: `"float32"`, `"float16"` or `"bfloat16"`.
        recorded: Fingerprints in the record that is gone on with, if there is one.

    Returns:
        The method, and what its scores depend on besides the options: its name, the fingerprint of the weights, and of
        DifFIQA the settings of the pipeline that no option sets.
    """
    from ..methods import load_method

    method = load_method(name, weights, fr_model, **options)
    settings = {"method": name, "weights": recorded_fingerprint(method, recorded)}
    if hasattr(method, "pipeline"):
        config = method.pipeline.config
        names = ("num_timesteps", "num_inference_steps", "num_repeats", "off_by_one", "duplicate_last_step")
        settings |= {name: config[name] for name in names if name not in options}
    place = torch.device(device or torch.accelerator.current_accelerator(check_available=True) or "cpu")
    if dtype == "float32":
        method.enable_folding(winograd=place.type == "cpu")
    method.to(place, getattr(torch, dtype))
    return method, settings


def labelled_features(features: Mapping[str, Any]):
    """
    The `datasets.Features` of labelled rows, for `dataset.map`: it would make the column of errors one that can hold
    none, where the first batch has none.

    Args:
        features (`datasets.Features`): Of the rows without labels.
    """
    from datasets import Features, Value

    labels = {name: Value("string" if name == ERROR_COLUMN else "float32") for name in LABEL_COLUMNS}
    return Features({**features, **labels})


def find_sources(degraded: ArrayLike, identities: ArrayLike | None = None) -> np.ndarray:
    """
    The row that each row is a copy of, in the order of `training/label_quality.py --degraded_copies`: the last one
    before it that is not degraded; itself where it is not.

    Args:
        degraded: (N,) bool, which rows are copies: the column `degraded`.
        identities: (N,) labels of any kind, to check that a row and its copies show the same person.

    Returns:
        (N,) int64

    Raises:
        ValueError: The first row is a copy, or a copy shows another person than the row before.
    """
    degraded = np.asarray(degraded, dtype=bool)
    if degraded[:1].any():
        raise ValueError(f"row 0 is degraded ({DEGRADED_COLUMN!r}), and the row that it is a copy of is not there")
    sources = np.maximum.accumulate(np.where(degraded, 0, np.arange(len(degraded))))
    if identities is not None:
        identities = np.asarray(identities)
        wrong = np.flatnonzero(identities != identities[sources])
        if len(wrong):
            row, before = wrong[0], sources[wrong[0]]
            raise ValueError(
                f"row {row} is degraded ({DEGRADED_COLUMN!r}) and of {identities[row]}, the clean row before it, "
                f"{before}, of {identities[before]}: a row and its copies have to lie together, as label_quality.py "
                "--degraded_copies writes them"
            )
    return sources


__all__ = [
    "ERROR_COLUMN",
    "LABEL_COLUMNS",
    "TERM_COLUMNS",
    "QualityLabeller",
    "find_sources",
    "labelled_features",
    "load_scorer",
]
