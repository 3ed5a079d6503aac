# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Runs a study: embeddings and scores are computed in shards, kept on disk by what they depend on, and put together.

Any number of processes that see the same cache share the work without talking to each other: process p of P takes
every P-th shard and skips those that are there, and then what others, slower or dead, have left, from the end. A run
that was killed is started again by the same command. The first process makes the report.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...file_utils import replace_file, write_text
from ...scoring.tables import TableError
from ..benchmarks import Benchmark, BenchmarkWarning
from ..comparison import Evaluation, evaluate_methods, noted
from ..identities import is_known
from ..protocol import EDCProtocol
from .cache import CacheEntry, GivenScores, SharedRows, arrays_of, compute_shards, texts_of
from .config import ConfigError, FRModelConfig, MethodConfig, StudyConfig
from .embedding import embed_images_with
from .files import StudyImages
from .images import example_faces, open_benchmark
from .layers import with_layers
from .report import Study
from .result_tables import Ablation, Runtime
from .timing import as_timed, device_in_words, measure_runtime
from .units import compare_units, named_people


if TYPE_CHECKING:
    import torch


logger = logging.getLogger(__name__)

FACES = "example faces"


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
        self.people = {name: named_people(benchmark) for name, benchmark in self.benchmarks.items()}
        self.population = sorted({p for people in self.people.values() for p in people.tolist() if p is not None})
        self.images = {name: StudyImages(benchmark.images) for name, benchmark in self.benchmarks.items()}
        # Where mated pairs alone are discarded, the quality of images in no mated pair changes nothing.
        mated_only = all(self._protocol(name).discard == "mated" for name in config.protocols)
        self.scored_rows = {
            name: benchmark.image_rows(benchmark.pairs[benchmark.mated])
            if mated_only
            else np.arange(len(benchmark.images))
            for name, benchmark in self.benchmarks.items()
        }
        self.scored = {
            name: StudyImages(self.images[name].rows.select(rows)) for name, rows in self.scored_rows.items()
        }
        self.align = {
            entry.name: not self.benchmarks[entry.name].aligned if entry.align is None else entry.align
            for entry in config.benchmarks
        }
        if config.faces is not None:
            try:
                self.scored[FACES] = StudyImages(example_faces(config.faces))
            except TableError as error:
                raise ConfigError(str(error)) from error
            self.align[FACES] = False
        self.entries: dict[tuple[str, ...], CacheEntry | GivenScores] = {}
        self.shared = SharedRows()
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
        tasks = [partial(self._embed, name) for name in self.benchmarks]
        tasks += [
            partial(self._score, method, fr_models, name)
            for method in self.config.all_methods
            for fr_models in self._together(method)
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

    def _together(self, method: MethodConfig) -> list[list[FRModelConfig | None]]:
        """The FR models that a method scores with, in groups: DifFIQA restores an image once for all of them."""
        fr_models = self._fr_models_of(method)
        return [fr_models] if method.method == "diffiqa" and fr_models else [[entry] for entry in fr_models]

    def _key(self, method: str, fr_model: FRModelConfig | None, images: str) -> tuple[str, ...]:
        return ("scores", method, "" if fr_model is None else fr_model.name, images)

    def _is_done(self, *key: str) -> bool:
        return key in self.entries and not self.entries[key].missing()

    def _embed(self, name: str, share: tuple[int, int] | None, only_find: bool = False) -> None:
        """By all FR models: an image is read, and aligned, once."""
        if all(self._is_done("embeddings", entry.name, name) for entry in self.config.fr_models):
            return
        import torch

        from ...conversion.networks import load_fr_model
        from ...fingerprints import fingerprint
        from ...image_processing_face import FaceImageProcessor
        from ...inference.folding import fold

        processor = FaceImageProcessor(do_align=self.align[name])
        models, entries = [], []
        for fr_model in self.config.fr_models:
            model = self._load(fr_model.name, partial(load_fr_model, fr_model.model)).eval()
            parts = SimpleNamespace(model=model, image_processor=processor)
            settings = {
                "kind": "embeddings",
                "weights": fingerprint(parts),
                "images": self.images[name].digest(self._bar),
                "dtype": self.config.dtype,
            }
            entries.append(self._entry("embeddings", settings, self.images[name], f"{fr_model.name}, {name}", parts))
            self.entries["embeddings", fr_model.name, name] = entries[-1]
            models.append(model)
        if only_find or not any(entry.missing() for entry in entries):
            return
        device, dtype = torch.device(self.device), getattr(torch, self.config.dtype)
        if dtype == torch.float32:
            models = [fold(model, winograd=device.type == "cpu") for model in models]
        for model in models:
            model.to(device, dtype)

        def rows_of(rows: Sequence[int], lacking: list[int]) -> list[dict[str, np.ndarray]]:
            images, landmarks = self.images[name].take(rows)
            found = embed_images_with(
                [models[number] for number in lacking],
                images,
                landmarks,
                image_processor=processor,
                batch_size=self.config.batch_size,
            )
            return [{"embeddings": embeddings, "errors": texts_of(errors)} for embeddings, errors in found]

        compute_shards(entries, rows_of, share, self._bar, self.images[name].keys(self._bar), self.shared)

    def _load_method(self, config: MethodConfig, fr_model: FRModelConfig | None, images: str):
        from ...methods import load_method

        probed = config.fr_model if fr_model is None else fr_model.model
        options = self._options(config, fr_model)
        if "calibration" in options:
            choose = partial(with_layers, config, probed, options, self.cache / "layers", self._bar)
            options = self._load(config.name, choose)
            self.chosen[self._key(config.name, fr_model, "")] = options
        method = self._load(config.name, lambda: load_method(config.method, config.weights, probed, **options))
        # Of the method's own processor: it makes faces of the size that the method takes.
        method.image_processor.do_align = self.align[images]
        method.image_processor.multiple_faces = "largest"
        return method

    def _options(self, config: MethodConfig, fr_model: FRModelConfig | None) -> dict[str, Any]:
        return self.chosen.get(self._key(config.name, fr_model, ""), config.options)

    def _score(
        self,
        config: MethodConfig,
        fr_models: list[FRModelConfig | None],
        name: str,
        share: tuple[int, int] | None,
        only_find: bool = False,
    ) -> None:
        keys = [self._key(config.name, fr_model, name) for fr_model in fr_models]
        if all(self._is_done(*key) for key in keys):
            return
        if config.scores is not None:
            for key, fr_model in zip(keys, fr_models, strict=True):
                self.entries[key] = self._given(config, fr_model, name)
            return
        methods = [self._load_method(config, fr_model, name) for fr_model in fr_models]
        entries = []
        for key, fr_model, method in zip(keys, fr_models, methods, strict=True):
            settings = self._score_settings(config, fr_model, name, method)
            entries.append(self._entry("scores", settings, self.scored[name], f"{config.name}, {name}", method))
            self.entries[key] = entries[-1]
        if only_find or not any(entry.missing() for entry in entries):
            return
        for method in methods:
            self._place(method)
        call = {"batch_size": config.batch_size, "seed": config.seed}

        def rows_of(rows: Sequence[int], lacking: list[int]) -> list[dict[str, np.ndarray]]:
            images, landmarks = self.scored[name].take(rows)
            first, *others = (methods[number] for number in lacking)
            if others:
                fr_models = [method.pipeline.fr_model for method in (first, *others)]
                pictures = first.pipeline.stream_with(fr_models, images, landmarks, **call, **first.options)
            else:
                pictures = ([record] for record in first.stream(images, landmarks, **call))
            return [arrays_of(records) for records in zip(*pictures, strict=True)]

        compute_shards(entries, rows_of, share, self._bar, self.scored[name].keys(self._bar), self.shared)

    def _score_settings(
        self, config: MethodConfig, fr_model: FRModelConfig | None, name: str, method: Any
    ) -> dict[str, Any]:
        """What the scores depend on."""
        from ...fingerprints import fingerprint

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
        return settings

    def _given(self, config: MethodConfig, fr_model: FRModelConfig | None, name: str) -> GivenScores:
        names = {"{benchmark}": name, "{fr_model}": "" if fr_model is None else fr_model.name}
        path, column = config.scores or "", config.score_column
        for placeholder, meant in names.items():
            path, column = path.replace(placeholder, meant), column.replace(placeholder, meant)
        files = self.scored[name].rows["file"][:]
        try:
            return GivenScores(path, config.file_column, column, files, f"{config.name}, {name}")
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

    def _entry(self, kind: str, settings: dict, images: StudyImages, what: str, model: Any) -> CacheEntry:
        from ...fingerprints import fingerprint

        # What is only said to people is no part of the key.
        entry = CacheEntry(self.cache / kind, settings, len(images), self.config.shard_size)
        if not entry.folder.exists():
            earlier = {**settings, "weights": fingerprint(model, later_settings=True)}
            before = CacheEntry(self.cache / kind, earlier, len(images), self.config.shard_size)
            entry = before if before.folder.exists() else entry
        entry.settings = {"what": what, **settings}
        self.shared.add(entry, images.keys(self._bar))
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
                    comparisons = None if entry.missing() else compare_units(benchmark, entry.load())
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

    def _runtimes(self) -> list[Runtime]:
        first = next(iter(self.benchmarks))
        runtimes = []
        for config in self.config.all_methods:
            if config.scores is not None:
                continue
            fr_model = self._fr_models_of(config)[0]
            entry = self.entries[self._key(config.name, fr_model, first)]
            device = device_in_words(self.device, self.config.dtype)
            config, note = as_timed(config)
            key = f"{device} {self.config.runtime}" + (f" {note}" if note else "")
            path = entry.folder / f"runtime-{hashlib.sha256(key.encode()).hexdigest()[:8]}.json"
            if path.exists():
                found = json.loads(path.read_text(encoding="utf-8"))
            else:
                method = self._load_method(config, fr_model, first)
                self._place(method)
                rows = np.linspace(0, len(self.scored[first]) - 1, self.config.runtime).astype(int).tolist()
                found = measure_runtime(method, config, *self.scored[first].take(rows), self.device, self._bar)
                write_text(path, json.dumps(found) + "\n")
            stages = {stage: np.array(values) for stage, values in found["stages"].items()}
            runtimes.append(Runtime(config.name, device, np.array(found["milliseconds"]), stages, note))
        return runtimes


__all__ = ["StudyRunner"]
