# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What `diffiqa benchmark` computes: methods x FR models x benchmarks, from a YAML or JSON file."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from ...scoring.errors import LineError
from ...scoring.tables import TableError, read_text
from ..protocol import PROTOCOLS


if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class ConfigError(LineError):
    """A study is not described as it should be; the message is the reason in one line."""


def read_config(path: str | os.PathLike) -> Any:
    """
    What a file of YAML or, by its ending `.json`, of JSON holds.

    Raises:
        ConfigError: It isn't there, or holds neither.
    """
    import yaml

    try:
        text = read_text(path)
    except TableError as error:
        raise ConfigError(str(error)) from error
    try:
        return json.loads(text) if Path(path).suffix == ".json" else yaml.safe_load(text)
    except Exception as error:  # besides YAMLError what Python makes of a tag's value, or of too many brackets
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        raise ConfigError(f"{path}: not YAML or JSON: {reason}") from error


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """
    A quality method, a row of the tables.

    Args:
        name (`str`): As the tables call it.
        method (`str`): As [`~diffiqa_hf.methods.load_method`] calls it; `diffiqa methods` lists them.
        weights (`str`, *optional*): Folder, Hub id or published file; of a pipeline for `diffiqa`.
        fr_model (`str`, *optional*): The FR model that the method probes: likewise, or `each`: with each FR model of
            the study the one that recognises.
        options (`dict`): The method's own.
        terms (`list[str]`, *optional*): The score is the mean of these parts of it (DifFIQA: noisy, restored, flipped,
            noisy_flipped, restored_flipped), which are computed with the whole; of DifFIQA what none of them needs
            (flip, forward, backward) is left out where the run time is measured.
        batch_size (`int`, *optional*): For the method; a part of what the cache goes by, since the last bits of a
            score may depend on it.
        seed (`int`): Of what the method draws.
        scores (`str`, *optional*): In place of `method`: a table of its scores, higher is better, made by any program
            or by `--scores` of an earlier study: .csv, .jsonl or .parquet, or .txt with lines of a file and its score.
            `{benchmark}` in it and in `score_column` stands for the name of the benchmark, and with `fr_model: each`
            `{fr_model}` for that of the FR model. Such a method is not timed, and has no scores for `faces`.
        file_column, score_column (`str`): Of `scores`. Images are found by as much of their path as the table has.
    """

    name: str
    method: str = "diffiqa"
    weights: str | None = None
    fr_model: str | None = None
    options: dict = field(default_factory=dict)
    terms: list | None = None
    batch_size: int | None = None
    seed: int = 0
    scores: str | None = None
    file_column: str = "file"
    score_column: str = "score"


@dataclass(frozen=True, kw_only=True)
class FRModelConfig:
    """An FR model that recognises: its name in the tables, and a folder, Hub id, published file, `default` or
    `dlib`."""

    name: str
    model: str = "default"


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """
    Images and comparisons, a column of the tables. One of three sources:

    - `benchmark` and `root`, with `options`: a published one, as [`load_benchmark`] reads it;
    - `parquet`: files with a column of images and one of people;
    - `folder`: of images, in a folder for each person, or as `identities` says.

    Of the latter two the pairs are those of the file `pairs` (as `diffiqa evaluate` reads it), or, without one, all
    mated pairs, at most `mated_per_person` of each person, and `nonmated` others, drawn with `seed`.

    Args:
        name (`str`): As the tables call it.
        min_images (`int`): People with fewer images are left out before pairs are drawn; for `parquet` and `folder`
            without `pairs`.
        identities (`str`, *optional*): Of `folder`: who is who, as `--identities` of `diffiqa evaluate` has it
            (`folder`).
        align (`bool`, *optional*): Find the faces and align them; for images that are no aligned crops. Unless given,
            as the layout that is read needs it ([`Benchmark`]'s `aligned`): photographs of a `benchmark` are aligned,
            its crops and packages are not, nor are `parquet` and `folder`, which are taken for crops; the report says
            which. Landmarks that a benchmark has are used whatever this says.
        image_column, identity_column, file_column (`str`): Of `parquet`; the last need not be there.
    """

    name: str
    benchmark: str | None = None
    root: str | None = None
    options: dict = field(default_factory=dict)
    parquet: list | str | None = None
    folder: str | None = None
    pairs: str | None = None
    identities: str | None = None
    min_images: int = 1
    mated_per_person: int = 20
    nonmated: int = 100_000
    seed: int = 0
    align: bool | None = None
    image_column: str = "image"
    identity_column: str = "identity"
    file_column: str = "file"


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """
    A table like the paper's Table 4: `variants` are methods, or the names of some; the complete one comes last. They
    are evaluated with this FR model alone, unless they are among the methods of the study.
    """

    title: str
    fr_model: str
    variants: list


class ReadFromFile:
    """What a study and a trust panel share: each is read from a file, by its `from_dict`."""

    @classmethod
    def from_dict(cls, values: Any):
        """Out of plain lists and dictionaries; raises [`ConfigError`]."""
        raise NotImplementedError

    @classmethod
    def from_file(cls, path: str | os.PathLike):
        """
        Reads it.

        Args:
            path: YAML (`.yaml`, `.yml`) or JSON. Paths in it are relative to the current folder.

        Raises:
            ConfigError: It isn't there, or something in it is not as it should be.
        """
        values = read_config(path)
        try:
            return cls.from_dict(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class StudyConfig(ReadFromFile):
    """
    A study.

    Args:
        title (`str`): Heading of the report.
        methods, fr_models, benchmarks, ablations (`list`): See there.
        output (`str`): Folder of the report.
        cache (`str`, *optional*): Folder of embeddings and scores; `cache` in the output unless given. Several studies
            may share one.
        protocols (`list[str]`): Out of `default`, `diffiqa`, `schlett`, `cr-fiqa`; the first is the main one.
        limits (`list[float]`), fmr (`float`): Discard fractions of the pAUC and the FMR of the threshold; those of the
            protocol where not given.
        replicates (`int`), seed (`int`): Of the bootstrap over people; 0 replicates: no intervals.
        nan_quality (`str`): `lowest`: an image that a method can't score leaves first, and the report says how many;
            or `raise`.
        paired_only (`bool`): Only images that are compared are embedded and scored.
        shard_size (`int`): Images that are written together; what a kill costs.
        batch_size (`int`), dtype (`str`): Of the FR models; `dtype` of the methods as well.
        faces (`str`, *optional*): Folder of example faces, shown with their scores.
        runtime (`int`): Each method is timed on so many images, one at a time, and the report shows quality against
            time; 0: not.
        quoted (`bool`): Show the paper's figures.
        notes (`list[str]`): Sentences of your own for the head of the report: what a reader has to know of the data.
    """

    title: str = "Face image quality: benchmark"
    methods: list
    fr_models: list
    benchmarks: list
    ablations: list = field(default_factory=list)
    output: str = "benchmark"
    cache: str | None = None
    protocols: list = field(default_factory=lambda: ["default"])
    limits: list | None = None
    fmr: float | None = None
    replicates: int = 1000
    seed: int = 0
    nan_quality: str = "lowest"
    paired_only: bool = True
    shard_size: int = 256
    batch_size: int = 32
    dtype: str = "float32"
    faces: str | None = None
    runtime: int = 0
    quoted: bool = True
    notes: list = field(default_factory=list)

    @property
    def all_methods(self) -> list[MethodConfig]:
        """Those of the main tables, and the variants of ablations."""
        variants = [variant for ablation in self.ablations for variant in ablation.variants]
        return [*self.methods, *(variant for variant in variants if isinstance(variant, MethodConfig))]

    def methods_with(self, fr_model: str) -> list[MethodConfig]:
        """Those that are evaluated with this FR model: all of the main tables, and the variants of its ablations."""
        variants = [v for ablation in self.ablations if ablation.fr_model == fr_model for v in ablation.variants]
        names = {method if isinstance(method, str) else method.name for method in [*self.methods, *variants]}
        return [method for method in self.all_methods if method.name in names]

    @classmethod
    def from_dict(cls, values: Any) -> StudyConfig:
        """A study out of plain lists and dictionaries; raises [`ConfigError`]."""
        config = _build(cls, values, "the study")
        for name, kind in (("methods", MethodConfig), ("fr_models", FRModelConfig), ("benchmarks", BenchmarkConfig)):
            entries = getattr(config, name)
            if not entries:
                raise ConfigError(f"{name}: there are none")
            entries[:] = [_build(kind, entry, f"{name}, number {at}") for at, entry in enumerate(entries, 1)]
        for at, entry in enumerate(config.ablations):
            config.ablations[at] = ablation = _build(AblationConfig, entry, f"ablations, number {at + 1}")
            where = f"the variants of {ablation.title}"
            variants = ablation.variants
            variants[:] = [v if isinstance(v, str) else _build(MethodConfig, v, where) for v in variants]
        config._check()
        return config

    def _check(self) -> None:
        for kind, entries in (
            ("methods", self.all_methods),
            ("FR models", self.fr_models),
            ("benchmarks", self.benchmarks),
        ):
            names = [entry.name for entry in entries]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ConfigError(f"two {kind} are called {twice[0]!r}")
        from ...methods.cards import CARDS

        known = [card.name for card in CARDS]
        for method in self.all_methods:
            if method.method not in known:
                raise ConfigError(f"{method.name}: there is no method {method.method!r}; there are {', '.join(known)}")
            if method.scores is not None:
                _check_given(method)
            else:
                check_taken(method)
        for benchmark in self.benchmarks:
            sources = [benchmark.benchmark, benchmark.parquet, benchmark.folder]
            if sum(source is not None for source in sources) != 1:
                raise ConfigError(f"{benchmark.name}: give exactly one of benchmark, parquet and folder")
            if (benchmark.benchmark is None) != (benchmark.root is None):
                raise ConfigError(f"{benchmark.name}: benchmark and root go together")
            if benchmark.identities is not None and benchmark.folder is None:
                raise ConfigError(f"{benchmark.name}: identities goes with folder")
            if benchmark.min_images < 1:
                raise ConfigError(f"{benchmark.name}: min_images is a positive number")
            if benchmark.min_images > 1 and (benchmark.benchmark is not None or benchmark.pairs is not None):
                raise ConfigError(f"{benchmark.name}: min_images is for pairs that are drawn; these are listed")
        methods, fr_models = [m.name for m in self.all_methods], [fr.name for fr in self.fr_models]
        for ablation in self.ablations:
            if ablation.fr_model not in fr_models:
                raise ConfigError(f"{ablation.title}: there is no FR model {ablation.fr_model!r}")
            if unknown := [v for v in ablation.variants if isinstance(v, str) and v not in methods]:
                raise ConfigError(f"{ablation.title}: there is no method {unknown[0]!r}")
        if unknown := [name for name in self.protocols if name not in PROTOCOLS]:
            raise ConfigError(f"protocols: there is no {unknown[0]!r}; there are {', '.join(PROTOCOLS)}")
        if not self.protocols:
            raise ConfigError("protocols: there are none")
        if self.dtype not in ("float32", "float16", "bfloat16"):
            raise ConfigError(f"dtype is float32, float16 or bfloat16, not {self.dtype!r}")
        if self.nan_quality not in ("lowest", "raise"):
            raise ConfigError(f"nan_quality is lowest or raise, not {self.nan_quality!r}")
        for name in ("shard_size", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is a positive number")


def check_taken(method: MethodConfig) -> None:
    """Raises [`ConfigError`] for what the card of a method does not have: before anything is computed."""
    from ...methods.cards import get_card

    card = get_card(method.method)
    for argument in ("weights", "fr_model"):
        if getattr(method, argument) is not None and argument not in card.takes:
            raise ConfigError(f"{method.name}: {card.name} takes no {argument}, but {' and '.join(card.takes)}")
    if unknown := [option for option in method.options if option not in card.options]:
        known = ", ".join(card.options) or "none"
        raise ConfigError(f"{method.name}: {card.name} has no option {_short(unknown[0])}; it has {known}")


def _check_given(method: MethodConfig) -> None:
    """That nothing is said of how scores are computed that are in a table."""
    computed = ("weights", "options", "terms", "batch_size", *(["fr_model"] if method.fr_model != "each" else []))
    if unfit := [name for name in computed if getattr(method, name)]:
        raise ConfigError(f"{method.name}: {unfit[0]} does not go with scores, which are read, not computed")
    if method.fr_model is None and "{fr_model}" in (method.scores or "") + method.score_column:
        raise ConfigError(f"{method.name}: {{fr_model}} needs fr_model: each")


_Kind = TypeVar("_Kind", bound="DataclassInstance")
_ELEMENTS = dict.fromkeys(("parquet", "protocols", "notes", "terms"), (str,)) | {"limits": (int, float)}


def _short(value: Any) -> str:
    """A value in one short line: by its anchors a small file of YAML may stand for more than the memory holds."""
    return reprlib.repr(value)


def _build(kind: type[_Kind], values: Any, where: str) -> _Kind:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: names and values are needed, not {_short(values)}")
    known = {entry.name: entry for entry in fields(kind)}
    if unknown := [name for name in values if name not in known]:
        raise ConfigError(f"{where}: there is no {_short(unknown[0])}; there are {', '.join(known)}")
    for name, entry in known.items():
        required = entry.default is MISSING and entry.default_factory is MISSING
        if required and name not in values:
            raise ConfigError(f"{where}: {name} is missing")
    hints = get_type_hints(kind)
    for name, value in values.items():
        hint = hints[name]
        # YAML has 1 for 1.0, and 1e-3 (without a point) for a string.
        if isinstance(value, int) and not isinstance(value, bool) and hint in (float, float | None):
            continue
        if not isinstance(value, hint) or (isinstance(value, bool) and hint not in (bool, bool | None)):
            wanted = getattr(hint, "__name__", str(hint))
            hint = " (YAML reads 1e-3 as a text: write 1.0e-3)" if isinstance(value, str) and "e-" in value else ""
            raise ConfigError(f"{where}: {name} is {_short(value)}, and {wanted} is needed{hint}")
        # Lists of methods, benchmarks and so on are looked into one by one.
        if isinstance(value, list) and (inner := _ELEMENTS.get(name)) is not None:
            for element in value:
                if not isinstance(element, inner) or isinstance(element, bool):
                    what = "numbers" if float in inner else "texts"
                    raise ConfigError(f"{where}: {name} is a list of {what}, and {_short(element)} is none")
    return kind(**{name: list(value) if isinstance(value, list) else value for name, value in values.items()})


__all__ = [
    "AblationConfig",
    "BenchmarkConfig",
    "ConfigError",
    "FRModelConfig",
    "MethodConfig",
    "StudyConfig",
    "check_taken",
    "read_config",
]
