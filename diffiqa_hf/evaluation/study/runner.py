# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Runs a study: embeddings and scores are computed in shards, kept on disk by what they depend on, and put together.

Any number of processes that see the same cache share the work without talking to each other: process p of P takes
every P-th shard and skips those that are there, and then what others, slower or dead, have left, from the end. A shard
is written beside and renamed, so that it is whole or absent; a run that was killed is started again by the same
command. The first process makes the report.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...file_utils import replace_file, write_text
from ...scoring.image_files import find_images
from ...scoring.names import Names
from ...scoring.score_files import read_scores
from ...scoring.tables import TableError
from ..benchmarks import Benchmark, BenchmarkWarning, crop_to_box
from ..comparison import Evaluation, evaluate_methods, noted
from ..identities import is_known
from ..protocol import EDCProtocol, EDCWarning
from ..verification import compare_embeddings
from .config import ConfigError, FRModelConfig, MethodConfig, StudyConfig
from .images import example_faces, open_benchmark
from .report import Study
from .result_tables import Ablation, Runtime


if TYPE_CHECKING:
    import torch

    from ...image_processing_face import FaceImageProcessor


logger = logging.getLogger(__name__)

CACHE_VERSION = 1  # goes up when what is in a shard, or how it is computed, changes
FACES = "example faces"


def embed_images(
    model: torch.nn.Module,
    images: Sequence[Any],
    landmarks: Sequence[Any] | None = None,
    *,
    image_processor: FaceImageProcessor | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> tuple[np.ndarray, list[str | None]]:
    """
    Embeddings of images by an FR model, where it is and in its own precision.

    Args:
        model: Gives `embeddings` (B, D) for canonical faces (B, 3, H, W).
        images: N, as [`~diffiqa_hf.image_processing_face.load_image`] takes them.
        landmarks: For each image five points (5, 2) or `None`, to align it by.
        image_processor: Makes the faces; without one images are taken as aligned crops.
        batch_size: Faces at a time.
        progress: Whether there is a bar.

    Returns:
        (N, D) float32, NaN where an image can't be read; and for each image the reason, or `None`.
    """
    import torch

    from ...image_processing_face import FaceImageProcessor
    from ...inference.network_views import for_inference, output_of
    from ...scoring.image_stream import stream_faces

    rows: list[np.ndarray | None] = [None] * len(images)
    errors: list[str | None] = [None] * len(images)
    bar = {"disable": not progress, "leave": False, "desc": "embedding"}
    processor = image_processor or FaceImageProcessor()
    parameter = next(model.parameters())
    model = for_inference(model)
    with torch.inference_mode():
        for batch in stream_faces(images, landmarks, processor, batch_size, progress_bar_config=bar):
            for record, face in batch:
                if face is None:
                    errors[record.index] = record.error
            found = [(record.index, face) for record, face in batch if face is not None]
            for start in range(0, len(found), batch_size):
                part = found[start : start + batch_size]
                faces = torch.stack([face for _, face in part]).to(parameter.device, parameter.dtype)
                found_rows = output_of(model, faces, "embeddings").float().cpu().numpy()
                for (index, _), row in zip(part, found_rows, strict=True):
                    rows[index] = row
                    if not np.isfinite(row).all():
                        errors[index] = "the embedding is not finite (NaN or infinite weights?)"
    size = next((len(row) for row in rows if row is not None), 0)
    missing = np.full(size, np.nan, np.float32)
    return np.stack([missing if row is None else row for row in rows]).astype(np.float32), errors


# ---------------------------------------------------------------------------------------------------------------------
# The images


class _Images:
    """The images of a benchmark as files, a few at a time, and the hash of their content."""

    def __init__(self, rows):
        import datasets

        self.rows = rows.cast_column("image", datasets.Image(decode=False))
        self.has_landmarks = "landmarks" in rows.column_names
        self.has_boxes = "box" in rows.column_names
        self._digest: str | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Sequence[int]) -> tuple[Sequence[Any], list | None]:
        columns = self.rows[list(indices)]
        images = _Crops(columns["image"], columns["box"], columns["file"]) if self.has_boxes else columns["image"]
        return images, columns["landmarks"] if self.has_landmarks else None

    def digest(self, bar: Callable[..., Any]) -> str:
        """16 hexadecimal digits of the files, landmarks and boxes, wherever they lie and whatever they are called."""
        if self._digest is None:
            digest = hashlib.sha256()
            with bar(total=len(self), desc="hashing images", unit="image") as progress:
                for start in range(0, len(self), 256):
                    stop = min(start + 256, len(self))
                    columns = self.rows[start:stop]
                    for at, image in enumerate(columns["image"]):
                        content = image["bytes"]
                        if content is None:
                            path = Path(image["path"])
                            # One that is missing is reported when it is embedded.
                            content = path.read_bytes() if path.is_file() else str(path).encode()
                        digest.update(hashlib.sha256(content).digest())
                        for name in ("landmarks", "box"):
                            if name in columns:
                                digest.update(json.dumps(columns[name][at]).encode())
                    progress.update(stop - start)
            self._digest = digest.hexdigest()[:16]
        return self._digest


class _Crops(Sequence):
    """Images, of each of which a box is meant; cut out when it is read, so that one whole picture is in memory."""

    def __init__(self, images: list[dict], boxes: list[list[float]], files: list[str]):
        self.images, self.boxes, self.files = images, boxes, files

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        from ...image_processing_face import FaceImageError, load_image

        try:
            picture = load_image(self.images[index])
        except FaceImageError:
            return self.images[index]  # whoever reads it meets the same error, and has a record to put it in
        try:
            return crop_to_box(picture, self.boxes[index])
        except FaceImageError as error:
            raise ConfigError(f"{self.files[index]}: {error}") from error


# ---------------------------------------------------------------------------------------------------------------------
# The cache


def _key(settings: dict) -> str:
    """What the cache calls that which was computed with these settings."""
    text = json.dumps({"version": CACHE_VERSION, **settings}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Entry:
    """Arrays of one row for each of N images in shards: `rows-000000.npz`, ... beside `settings.json`."""

    def __init__(self, folder: Path, settings: dict, count: int, shard_size: int):
        self.folder = folder / _key(settings)
        self.settings, self.count, self.shard_size = settings, count, shard_size

    def shards(self) -> Iterator[tuple[Path, range]]:
        for start in range(0, self.count, self.shard_size):
            # The name has both ends: with another shard size others are made, and none is taken for another.
            stop = min(start + self.shard_size, self.count)
            yield self.folder / f"rows-{start:07d}-{stop:07d}.npz", range(start, stop)

    def missing(self) -> int:
        return sum(not path.exists() for path, _ in self.shards())

    def compute(self, rows_of: Callable[[range], dict[str, np.ndarray]], share: tuple[int, int] | None, bar) -> None:
        """
        Makes shards that aren't there: those of the process `share[0]` of `share[1]`; with `None` all, from the last
        one on.
        """
        todo = list(self.shards())
        if share is None:
            todo.reverse()
        else:
            offset = int(self.folder.name, 16)  # or entries of a few shards would all fall to the first processes
            todo = [entry for at, entry in enumerate(todo) if (at + offset) % share[1] == share[0]]
        todo = [(path, rows) for path, rows in todo if not path.exists()]
        if not todo:
            return
        write_text(self.folder / "settings.json", json.dumps(self.settings, indent=2, default=str) + "\n")
        with bar(total=sum(len(rows) for _, rows in todo), desc=self.settings["what"], unit="image") as progress:
            for path, rows in todo:
                if path.exists():  # another process has made it meanwhile
                    progress.update(len(rows))
                    continue
                arrays = rows_of(rows)

                def write(temporary: Path, arrays=arrays) -> None:
                    with open(temporary, "wb") as file:
                        np.savez(file, **arrays)

                replace_file(path, write)
                progress.update(len(rows))

    def load(self) -> dict[str, np.ndarray]:
        """All rows. Raises `FileNotFoundError` where some aren't there."""
        parts: list[dict[str, np.ndarray]] = []
        for path, _ in self.shards():
            with np.load(path, allow_pickle=False) as file:
                parts.append({name: file[name] for name in file.files})
        width = max(part["embeddings"].shape[1] for part in parts) if "embeddings" in parts[0] else 0
        for part in parts:
            if width and part["embeddings"].shape[1] == 0:  # a shard in which no image could be read
                part["embeddings"] = np.full((len(part["errors"]), width), np.nan, np.float32)
        # A shard in which nothing could be scored has no terms.
        names = dict.fromkeys(name for part in parts for name in part)
        return {
            name: np.concatenate([part.get(name, np.full(len(part["errors"]), np.nan)) for part in parts])
            for name in names
        }


class _Given:
    """Scores out of a table, in place of an [`_Entry`]."""

    def __init__(self, path: str, file_column: str, score_column: str, files: Sequence[str], what: str):
        read = read_scores(path, file_column, (score_column,))
        self.scores = np.array(read.scores[score_column])[Names(read.names, path).find(files, what)]
        self.folder = Path(path)
        digest = hashlib.sha256(self.folder.read_bytes()).hexdigest()[:16]
        self.settings = {"what": what, "kind": "scores", "table": path, "column": score_column, "digest": digest}

    def missing(self) -> int:
        return 0

    def load(self) -> dict[str, np.ndarray]:
        errors = ["the table has no score" if score else None for score in np.isnan(self.scores)]
        return {"scores": self.scores, "errors": _texts(errors)}


# ---------------------------------------------------------------------------------------------------------------------
# The run


class StudyRunner:
    """
    Computes what a study needs, and makes of it what a report is made of.

    Args:
        config ([`StudyConfig`]): The study.
        device: Where models run.
        process, num_processes: Which process this one is, of how many that share the cache.
        progress: Whether there are bars.
    """

    def __init__(
        self,
        config: StudyConfig,
        device: str | torch.device = "cpu",
        process: int = 0,
        num_processes: int = 1,
        progress: bool = False,
    ):
        self.config, self.device, self.progress = config, device, progress
        self.share = (process, num_processes)
        self.cache = Path(config.cache or Path(config.output) / "cache")
        with noted(BenchmarkWarning) as self.notes:
            self.benchmarks = {entry.name: open_benchmark(entry, config.paired_only) for entry in config.benchmarks}
        # Means over benchmarks are of the same people where these share them: all are drawn together, by name.
        self.people = {name: _named_people(benchmark) for name, benchmark in self.benchmarks.items()}
        self.population = sorted({p for people in self.people.values() for p in people.tolist() if p is not None})
        self.images = {name: _Images(benchmark.images) for name, benchmark in self.benchmarks.items()}
        # Where mated pairs alone are discarded, the quality of images in no mated pair changes nothing.
        mated_only = all(self._protocol(name).discard == "mated" for name in config.protocols)
        self.scored_rows = {
            name: benchmark.image_rows(benchmark.pairs[benchmark.mated])
            if mated_only
            else np.arange(len(benchmark.images))
            for name, benchmark in self.benchmarks.items()
        }
        self.scored = {name: _Images(self.images[name].rows.select(rows)) for name, rows in self.scored_rows.items()}
        self.align = {
            entry.name: not self.benchmarks[entry.name].aligned if entry.align is None else entry.align
            for entry in config.benchmarks
        }
        if config.faces is not None:
            try:
                self.scored[FACES] = _Images(example_faces(config.faces))
            except TableError as error:
                raise ConfigError(str(error)) from error
            self.align[FACES] = False
        self.entries: dict[tuple[str, ...], _Entry | _Given] = {}
        # FROQ's layers in place of the images that they were chosen by, by method and FR model.
        self.chosen: dict[tuple[str, ...], dict[str, Any]] = {}

    def compute(self, only_find: bool = False) -> int:
        """
        Makes what isn't in the cache: this process's share, and then whatever others have left.

        Args:
            only_find: Compute nothing; models are loaded all the same, for their hash.

        Returns:
            How many shards are missing afterwards: 0, unless `only_find`.
        """
        tasks = [
            partial(self._embed, fr_model, name) for fr_model in self.config.fr_models for name in self.benchmarks
        ]
        tasks += [
            partial(self._score, method, fr_model, name)
            for method in self.config.all_methods
            for fr_model in self._fr_models_of(method)
            for name in self.scored
            if method.scores is None or name != FACES
        ]
        for task in tasks:
            task(self.share, only_find)
        if self.share[1] > 1 and not only_find:
            # What the others haven't come to, or never will: from the end, so that it is seldom made twice.
            for task in reversed(tasks):
                task(None)
        # Methods that differ in their terms alone have one entry.
        return sum(entry.missing() for entry in {entry.folder: entry for entry in self.entries.values()}.values())

    def _fr_models_of(self, method: MethodConfig) -> list[FRModelConfig | None]:
        if method.fr_model != "each":
            return [None]
        return [entry for entry in self.config.fr_models if method in self.config.methods_with(entry.name)]

    def _key(self, method: str, fr_model: FRModelConfig | None, images: str) -> tuple[str, ...]:
        return ("scores", method, "" if fr_model is None else fr_model.name, images)

    def _is_done(self, *key: str) -> bool:
        return key in self.entries and not self.entries[key].missing()

    def _embed(
        self, fr_model: FRModelConfig, name: str, share: tuple[int, int] | None, only_find: bool = False
    ) -> None:
        if self._is_done("embeddings", fr_model.name, name):
            return
        import torch

        from ...conversion.networks import load_fr_model
        from ...image_processing_face import FaceImageProcessor
        from ...labelling.labeller import fingerprint

        processor = FaceImageProcessor(do_align=self.align[name])
        model = self._load(fr_model.name, lambda: load_fr_model(fr_model.model)).eval()
        settings = {
            "kind": "embeddings",
            "weights": fingerprint(SimpleNamespace(model=model, image_processor=processor)),
            "images": self.images[name].digest(self._bar),
            "dtype": self.config.dtype,
        }
        entry = self._entry("embeddings", settings, self.images[name], f"{fr_model.name}, {name}")
        self.entries["embeddings", fr_model.name, name] = entry
        if only_find or not entry.missing():
            return
        model.to(self.device, getattr(torch, self.config.dtype))

        def rows_of(rows: range) -> dict[str, np.ndarray]:
            images, landmarks = self.images[name].take(rows)
            embeddings, errors = embed_images(
                model, images, landmarks, image_processor=processor, batch_size=self.config.batch_size
            )
            return {"embeddings": embeddings, "errors": _texts(errors)}

        entry.compute(rows_of, share, self._bar)

    def _load_method(self, config: MethodConfig, fr_model: FRModelConfig | None, images: str):
        from ...methods import load_method

        probed = config.fr_model if fr_model is None else fr_model.model
        options = self._options(config, fr_model)
        if "calibration" in options:
            options = self._load(config.name, lambda: self._with_layers(config, probed, options))
            self.chosen[self._key(config.name, fr_model, "")] = options
        method = self._load(config.name, lambda: load_method(config.method, config.weights, probed, **options))
        # Of the method's own processor: it makes faces of the size that the method takes.
        method.image_processor.do_align = self.align[images]
        method.image_processor.multiple_faces = "largest"
        return method

    def _with_layers(self, config: MethodConfig, fr_model: str | None, options: dict[str, Any]) -> dict[str, Any]:
        """FROQ's options with the layers that its calibration chooses, which takes minutes: they are kept."""
        import datasets

        from ...conversion.networks import load_fr_model
        from ...image_processing_face import FaceImageProcessor
        from ...labelling.labeller import fingerprint
        from ...methods import load_method

        model = load_fr_model("default" if fr_model is None else fr_model)
        given = options["calibration"]
        files, _ = find_images([given] if isinstance(given, str) else given, recursive=True)
        images = datasets.Dataset.from_dict({"image": files}, datasets.Features({"image": datasets.Image()}))
        others = {name: value for name, value in options.items() if name != "calibration"}
        settings = {
            "kind": "layers",
            "method": config.method,
            "options": others,
            "weights": fingerprint(SimpleNamespace(model=model, image_processor=FaceImageProcessor())),
            "images": _Images(images).digest(self._bar),
        }
        path = self.cache / "layers" / f"{_key(settings)}.json"
        if not path.exists():
            layers = load_method(config.method, config.weights, model, **options).layers
            write_text(path, json.dumps({**settings, "layers": layers}, indent=2, default=str) + "\n")
        return {**others, "layers": json.loads(path.read_text(encoding="utf-8"))["layers"]}

    def _options(self, config: MethodConfig, fr_model: FRModelConfig | None) -> dict[str, Any]:
        return self.chosen.get(self._key(config.name, fr_model, ""), config.options)

    def _score(
        self,
        config: MethodConfig,
        fr_model: FRModelConfig | None,
        name: str,
        share: tuple[int, int] | None,
        only_find: bool = False,
    ) -> None:
        if self._is_done(*self._key(config.name, fr_model, name)):
            return
        if config.scores is not None:
            self.entries[self._key(config.name, fr_model, name)] = self._given(config, fr_model, name)
            return
        from ...labelling.labeller import fingerprint

        method = self._load_method(config, fr_model, name)
        settings = {
            "kind": "scores",
            "method": config.method,
            "options": self._options(config, fr_model),
            "weights": fingerprint(method),  # and the image processor, so the size of the faces
            "images": self.scored[name].digest(self._bar),
            "dtype": self.config.dtype,
            "batch_size": config.batch_size,
            "seed": config.seed,
        }
        if hasattr(method, "pipeline"):
            pipe = method.pipeline.config
            settings["pipeline"] = {k: v for k, v in pipe.items() if isinstance(v, int | float | None)}
        entry = self._entry("scores", settings, self.scored[name], f"{config.name}, {name}")
        self.entries[self._key(config.name, fr_model, name)] = entry
        if only_find or not entry.missing():
            return
        self._place(method)

        def rows_of(rows: range) -> dict[str, np.ndarray]:
            images, landmarks = self.scored[name].take(rows)
            records = list(method.stream(images, landmarks, batch_size=config.batch_size, seed=config.seed))
            names = dict.fromkeys(term for record in records for term in record.terms)
            terms = {f"term_{n}": np.array([r.terms.get(n, np.nan) for r in records]) for n in names}
            scores = np.array([record.score for record in records], np.float64)
            return {"scores": scores, "errors": _texts([record.error for record in records]), **terms}

        entry.compute(rows_of, share, self._bar)

    def _given(self, config: MethodConfig, fr_model: FRModelConfig | None, name: str) -> _Given:
        names = {"{benchmark}": name, "{fr_model}": "" if fr_model is None else fr_model.name}
        path, column = config.scores, config.score_column
        for placeholder, meant in names.items():
            path, column = path.replace(placeholder, meant), column.replace(placeholder, meant)
        files = self.scored[name].rows["file"][:]
        try:
            return _Given(path, config.file_column, column, files, f"{config.name}, {name}")
        except TableError as error:
            raise ConfigError(f"{config.name}: {error}") from error

    def _place(self, method: Any) -> None:
        """To where it runs, its networks folded as `diffiqa score` does."""
        import torch

        device, dtype = torch.device(self.device), getattr(torch, self.config.dtype)
        method.to(device, dtype)
        if dtype == torch.float32:
            method.enable_folding(winograd=device.type == "cpu")

    def _load(self, name: str, load: Callable[[], Any]) -> Any:
        try:
            return load()
        except Exception as error:  # whatever the libraries raise for what is no such model
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ConfigError(f"{name}: {lines[0]}") from error

    def _entry(self, kind: str, settings: dict, images: _Images, what: str) -> _Entry:
        # What is only said to people is no part of the key.
        entry = _Entry(self.cache / kind, settings, len(images), self.config.shard_size)
        entry.settings = {"what": what, **settings}
        return entry

    def _bar(self, **options):
        from accelerate.utils.environment import get_cpu_distributed_information
        from tqdm import tqdm

        # A line each for the processes of this machine.
        position = {"position": get_cpu_distributed_information().local_rank} if self.share[1] > 1 else {}
        return tqdm(disable=not self.progress, leave=False, **position, **options)

    # -- putting it together ------------------------------------------------------------------------------------------

    def scores(self, method: str, fr_model: FRModelConfig | None, images: str) -> tuple[np.ndarray, list[str]] | None:
        """Scores of the rows in `scored_rows`, and for each the reason why it has none, or ""; `None`: not there."""
        config = next(entry for entry in self.config.all_methods if entry.name == method)
        entry = self.entries.get(self._key(method, fr_model if config.fr_model == "each" else None, images))
        if entry is None or entry.missing():
            return None
        rows = entry.load()
        if config.terms is None:
            return rows["scores"], rows["errors"].tolist()
        present = [name.removeprefix("term_") for name in rows if name.startswith("term_")]
        if lacking := [term for term in config.terms if term not in present]:
            raise ConfigError(f"{method}: there is no term {lacking[0]!r}; there are {', '.join(present) or 'none'}")
        return np.mean([rows[f"term_{term}"] for term in config.terms], axis=0), rows["errors"].tolist()

    def write_scores(self, folder: str | os.PathLike) -> list[Path]:
        """
        A table `NAME.parquet` for each benchmark with the scores of its images, as `scores` of a method in another
        study takes it: a column for each method of the main tables, `METHOD with FR MODEL` where it probes each.
        What isn't in the cache is left out.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        paths = []
        for name in self.benchmarks:
            columns = {"file": self.scored[name].rows["file"][:]}
            for method in self.config.methods:
                for fr_model in self._fr_models_of(method):
                    label = method.name if fr_model is None else f"{method.name} with {fr_model.name}"
                    if (found := self.scores(method.name, fr_model, name)) is not None:
                        columns[label] = found[0]
            path = Path(folder) / f"{name}.parquet"
            replace_file(path, partial(pq.write_table, pa.table(columns), compression="zstd"))
            paths.append(path)
        return paths

    def evaluate(self) -> dict[str, list[Evaluation]]:
        """Every FR model on every benchmark by every protocol; what isn't in the cache is left out."""
        evaluations: dict[str, list[Evaluation]] = {name: [] for name in self.config.protocols}
        total = len(self.config.fr_models) * len(self.benchmarks) * len(evaluations)
        with self._bar(total=total, desc="evaluating", unit="set") as progress:
            for fr_model in self.config.fr_models:
                for name, benchmark in self.benchmarks.items():
                    entry = self.entries["embeddings", fr_model.name, name]
                    comparisons = None if entry.missing() else _compare(benchmark, entry.load())
                    for protocol in evaluations:
                        if comparisons is not None:
                            found = self._evaluate(protocol, fr_model, benchmark, comparisons)
                            evaluations[protocol] += [] if found is None else [found]
                        progress.update()
        return evaluations

    def _evaluate(
        self, protocol: str, fr_model: FRModelConfig, benchmark: Benchmark, comparisons
    ) -> Evaluation | None:
        similarities, mated, pairs, notes = comparisons
        qualities, notes, rows = {}, list(notes), self.scored_rows[benchmark.name]
        for method in self.config.methods_with(fr_model.name):
            found = self.scores(method.name, fr_model, benchmark.name)
            if found is None:
                continue
            scores, errors = found
            if failed := [row for row, score in enumerate(scores) if np.isnan(score)]:
                first = f"{benchmark.images[int(rows[failed[0]])]['file']}: {errors[failed[0]]}"
                notes.append(f"{method.name} could not score {len(failed):,} images, the first is {first}.")
            qualities[method.name] = np.zeros(len(benchmark.images))
            qualities[method.name][rows] = scores
            qualities[method.name] = benchmark.pool_qualities(qualities[method.name])
        if not qualities:
            return None
        identities = self.people[benchmark.name]
        known = is_known(identities)[pairs].all(axis=1)
        same = identities[pairs[:, 0]] == identities[pairs[:, 1]]
        if wrong := int((same != mated)[known].sum()):
            notes.append(f"No intervals: in {wrong:,} pairs the people contradict which pairs are mated.")
            identities = None
        try:
            evaluation = evaluate_methods(
                similarities,
                mated,
                qualities,
                self._protocol(protocol),
                pairs=pairs,
                identities=identities,
                replicates=self.config.replicates,
                seed=self.config.seed,
                population=self.population,
                benchmark=benchmark.name,
                fr_model=fr_model.name,
            )
        except ValueError as error:
            raise ConfigError(f"{fr_model.name}, {benchmark.name}, protocol {protocol}: {error}") from error
        return replace(evaluation, notes=(*dict.fromkeys(notes), *evaluation.notes))

    def _protocol(self, name: str) -> EDCProtocol:
        changes: dict[str, Any] = {"nan_quality": self.config.nan_quality}
        if self.config.limits is not None:
            changes["limits"] = tuple(self.config.limits)
        if self.config.fmr is not None:
            changes |= {"fmr": self.config.fmr, "starting_fnmr": None}
        try:
            return EDCProtocol.from_preset(name, **changes)
        except ValueError as error:
            raise ConfigError(f"protocol {name}: {error}") from error

    def study(self) -> Study:
        """Everything that a report shows; run times are measured now, unless they are in the cache."""
        config = self.config
        names = tuple(method.name for method in config.methods)
        scores: dict[str, dict[str, np.ndarray]] = {}
        for method in names:
            found = {name: self.scores(method, config.fr_models[0], name) for name in self.benchmarks}
            scores[method] = {name: entry[0] for name, entry in found.items() if entry is not None}
        ablations = [
            Ablation(entry.title, entry.fr_model, tuple(v if isinstance(v, str) else v.name for v in entry.variants))
            for entry in config.ablations
        ]
        notes = [*config.notes]
        for name, benchmark in self.benchmarks.items():
            faces = "the faces are found and aligned" if self.align[name] else "the images are taken as aligned crops"
            if self.images[name].has_landmarks:
                faces = f"the faces are aligned by their landmarks (where there are none, {faces})"
            notes.append(f"{name}: {benchmark.protocol.rstrip('.')}; {faces}.")
        notes += [f"{note}." for note in self.notes]
        if each := [method.name for method in config.methods if method.fr_model == "each"]:
            notes.append(f"Distributions and faces show {' and '.join(each)} with {config.fr_models[0].name}.")
        settings = {
            "protocols": {name: vars(self._protocol(name)) for name in config.protocols},
            "benchmarks": {
                name: {
                    "protocol": benchmark.protocol,
                    "drawn": benchmark.generated,
                    "align": self.align[name],
                    "images": self.images[name].digest(self._bar),
                }
                for name, benchmark in self.benchmarks.items()
            },
            "computed": [entry.settings for entry in self.entries.values()],
        }
        return Study(
            title=config.title,
            evaluations=self.evaluate(),
            methods=names,
            scores={name: entry for name, entry in scores.items() if entry},
            runtimes=self._runtimes() if config.runtime else [],
            ablations=ablations,
            faces=self._faces(names) if config.faces is not None else None,
            settings=settings,
            notes=notes,
            quoted=config.quoted,
        )

    def _faces(self, names: Sequence[str]):
        from ...image_processing_face import load_image

        found = {name: self.scores(name, self.config.fr_models[0], FACES) for name in names}
        scores = {name: entry[0] for name, entry in found.items() if entry is not None}
        if not scores:
            return None
        images, _ = self.scored[FACES].take(range(len(self.scored[FACES])))
        return [load_image(image) for image in images], scores

    # -- run times ----------------------------------------------------------------------------------------------------

    def _runtimes(self) -> list[Runtime]:
        first = next(iter(self.benchmarks))
        runtimes = []
        for config in self.config.all_methods:
            if config.scores is not None:
                continue
            fr_model = self._fr_models_of(config)[0]
            entry = self.entries[self._key(config.name, fr_model, first)]
            device = device_in_words(self.device, self.config.dtype)
            config, note = _timed(config)
            key = f"{device} {self.config.runtime}" + (f" {note}" if note else "")
            path = entry.folder / f"runtime-{hashlib.sha256(key.encode()).hexdigest()[:8]}.json"
            if path.exists():
                found = json.loads(path.read_text(encoding="utf-8"))
            else:
                found = self._measure(config, fr_model, first)
                write_text(path, json.dumps(found) + "\n")
            stages = {stage: np.array(values) for stage, values in found["stages"].items()}
            runtimes.append(Runtime(config.name, device, np.array(found["milliseconds"]), stages, note))
        return runtimes

    def _measure(self, config: MethodConfig, fr_model: FRModelConfig | None, name: str) -> dict:
        """
        Milliseconds of each of some images, one at a time, after two that warm up; of DifFIQA by the stages of
        Table 8. There the initialisation makes the copies as well; here the last one does, and draws the noise.
        """
        method = self._load_method(config, fr_model, name)
        self._place(method)
        rows = np.linspace(0, len(self.scored[name]) - 1, self.config.runtime).astype(int).tolist()
        images, landmarks = self.scored[name].take(rows)
        landmarks = landmarks or [None] * len(images)
        clock = _StageClock(self.device)
        if hasattr(method, "pipeline"):
            clock.watch(method.pipeline)
        times, stages = [], []
        with self._bar(total=len(images), desc=f"timing {config.name}", unit="image") as progress:
            for at in (0, 0, *range(len(images))):
                method.image_processor.extract_faces(images[at], landmarks[at])  # the file is in memory from here on
                start = time.perf_counter()
                method.image_processor.extract_faces(images[at], landmarks[at])
                read = 1000 * (time.perf_counter() - start)
                total, parts = clock.measure(
                    lambda at=at: list(
                        method.stream([images[at]], [landmarks[at]], batch_size=config.batch_size, seed=config.seed)
                    )
                )
                times.append(total)
                if parts:
                    rest = total - read - sum(parts.values())
                    stages.append({"initialisation (reading)": read, **parts, "quality (and the rest)": rest})
                progress.update()
        stages = stages[2:]
        return {
            "milliseconds": times[2:],
            "stages": {stage: [entry[stage] for entry in stages] for stage in (stages[0] if stages else ())},
        }


def _timed(config: MethodConfig) -> tuple[MethodConfig, str]:
    """What is timed for a method, and how to call it where it isn't the method as it was computed."""
    if config.terms is None:
        return config, ""
    if config.method != "diffiqa":
        return config, "timed with all terms"
    # The score out of fewer terms is computed with the whole; on its own it would not need all of it.
    needed = {
        "flip": any("flipped" in term for term in config.terms),
        "forward": any("noisy" in term for term in config.terms),
        "backward": any("restored" in term for term in config.terms),
    }
    off = [f"use_{name}" for name, is_needed in needed.items() if not is_needed]
    if not off:
        return config, "timed with all terms"
    return replace(config, options={**config.options, **dict.fromkeys(off, False)}), f"timed with {', '.join(off)} off"


class _StageClock:
    """Times a call, and the part of it that each stage of a DifFIQA pipeline takes."""

    # By what the paper's Table 8 calls them. They don't call each other.
    STAGES = {"forward": "forward_process", "backward": "backward_process", "embedding": "embed"}

    def __init__(self, device: Any):
        self.device, self.parts = str(device), {}

    def watch(self, pipeline: Any) -> None:
        """Times the stages of this pipeline from now on."""
        for stage, method in self.STAGES.items():
            self.parts[stage] = 0.0
            setattr(pipeline, method, self._timed(stage, getattr(pipeline, method)))

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args, **kwargs):
            start = self._now()
            result = function(*args, **kwargs)
            self.parts[stage] += self._now() - start
            return result

        return timed

    def _now(self) -> float:
        import torch

        if self.device != "cpu":
            torch.accelerator.synchronize()
        return 1000 * time.perf_counter()

    def measure(self, call: Callable[[], Any]) -> tuple[float, dict[str, float]]:
        self.parts = dict.fromkeys(self.parts, 0.0)
        start = self._now()
        call()
        return self._now() - start, dict(self.parts)


def device_in_words(device: Any, dtype: str) -> str:
    """What a run time was measured on."""
    import torch

    if str(device).startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, {dtype}"
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].strip() if models else name
    return f"{name}, {torch.get_num_threads()} of {os.cpu_count()} threads, {dtype}"


def _compare(benchmark: Benchmark, rows: dict[str, np.ndarray]):
    """Similarities of the pairs whose images could be embedded, with what a reader has to know of the others."""
    embeddings, errors = rows["embeddings"], rows["errors"]
    good = np.isfinite(embeddings).all(axis=1) & (errors == "")
    if not good.any():
        raise ConfigError(f"{benchmark.name}: no image could be embedded, {benchmark.images[0]['file']}: {errors[0]}")
    notes = []
    if benchmark.templates is None:
        units = benchmark.pool_embeddings(embeddings)
    else:
        usable = replace(benchmark, images=benchmark.images.select(np.flatnonzero(good)))
        units = usable.pool_embeddings(embeddings[good])  # a template without any image is zero
    usable = np.isfinite(units).all(axis=1) & (np.linalg.norm(units, axis=1) > 0)
    kept = usable[benchmark.pairs].all(axis=1)
    pairs, mated = benchmark.pairs[kept], benchmark.mated[kept]
    left_out = f"{int((~kept).sum()):,} of {len(kept):,} pairs are left out"
    if not good.all():
        first = int(np.flatnonzero(~good)[0])
        notes.append(
            f"{int((~good).sum()):,} images could not be embedded (the first is {benchmark.images[first]['file']}: "
            f"{errors[first]}), and {left_out}."
        )
    zero = good & ~(np.abs(embeddings) > 0).any(axis=1)
    if zero.any():
        first = benchmark.images[int(np.flatnonzero(zero)[0])]["file"]
        notes.append(
            f"The embeddings of {int(zero.sum()):,} images are zero (the first is that of {first}), which have no "
            f"direction to compare, and {left_out}."
        )
    units = np.where(usable[:, None], units, 1)  # in no pair any more
    with noted(EDCWarning) as repeated:
        comparisons = compare_embeddings(units, np.arange(len(units)), pairs)
    return comparisons.similarities, mated, comparisons.pairs, notes + repeated


def _named_people(benchmark: Benchmark) -> np.ndarray:
    """
    The people of the units by names that are the same in other benchmarks: what the source calls them, unless it is a
    number, which is another person in each; `None` where it isn't known who it is.
    """
    people = benchmark.unit_people()
    known = is_known(people)
    names = np.empty(len(people), object)
    names[known] = [
        label if isinstance(label, str) and not label.isdecimal() else f"{benchmark.name}: {label}"
        for label in people[known].tolist()
    ]
    return names


def _texts(errors: Sequence[str | None]) -> np.ndarray:
    return np.array([error or "" for error in errors], dtype=np.str_)


__all__ = ["StudyRunner", "device_in_words", "embed_images", "open_benchmark"]
