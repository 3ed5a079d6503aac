# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What `diffiqa trust` computes: the trust panel of several methods, from a YAML or JSON file."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...file_utils import replace_file
from ...scoring.image_files import find_images
from ...scoring.people import PeopleError, parse_people
from ..study.config import ConfigError, MethodConfig, ReadFromFile, _build, check_taken
from .non_faces import non_faces
from .panel import TrustResult, made_of, result_of, score


PANEL_VERSION = 1  # goes up when other pictures are made of a face
SHARD = 10


@dataclass(frozen=True, kw_only=True)
class TrustMethodConfig(MethodConfig):
    """
    A method of the panel, as a study of `diffiqa benchmark` describes it.

    Args:
        faces (`int`, *optional*): Only so many of the faces, for a method that is slow.
    """

    faces: int | None = None


@dataclass(frozen=True, kw_only=True)
class FacesConfig:
    """
    Aligned crops, out of Parquet files or of a folder.

    Args:
        number (`int`): How many, drawn with `seed`; of each person one, as long as there are people left.
        holdout_modulo (`int`, *optional*): Only people whom the training scripts hold out with it.
        image_column, identity_column (`str`): Of `parquet`.
        identities (`str`): Of `folder`: who is who, as `--identities` of `diffiqa evaluate` has it.
    """

    parquet: list | str | None = None
    folder: str | None = None
    number: int = 200
    seed: int = 0
    holdout_modulo: int | None = None
    image_column: str = "image"
    identity_column: str = "identity"
    identities: str = "folder"


@dataclass(frozen=True, kw_only=True)
class TrustConfig(ReadFromFile):
    """
    A trust panel.

    Args:
        title (`str`), notes (`list[str]`): Heading of the report, and sentences of your own below it.
        methods (`list[TrustMethodConfig]`), faces (`FacesConfig`): See there.
        output (`str`): Folder of the report.
        cache (`str`, *optional*): Folder of the scores; `cache` in the output unless given.
        dtype (`str`): Of the methods.
    """

    title: str = "Trust panel"
    methods: list
    faces: FacesConfig
    output: str = "trust"
    cache: str | None = None
    dtype: str = "float32"
    notes: list = field(default_factory=list)

    @classmethod
    def from_dict(cls, values: Any) -> TrustConfig:
        """A panel out of plain lists and dictionaries; raises [`ConfigError`]."""
        from ...methods.cards import CARDS

        if isinstance(values, Mapping) and isinstance(values.get("faces"), Mapping):
            values = {**values, "faces": _build(FacesConfig, values["faces"], "faces")}
        config = _build(cls, values, "the panel")
        methods = [
            _build(TrustMethodConfig, entry, f"methods, number {at}") for at, entry in enumerate(config.methods, 1)
        ]
        if not methods:
            raise ConfigError("methods: there are none")
        config.methods[:] = methods
        known = [card.name for card in CARDS]
        for method in methods:
            if method.method not in known:
                raise ConfigError(f"{method.name}: there is no method {method.method!r}; there are {', '.join(known)}")
            if unfit := [name for name in ("scores", "terms") if getattr(method, name)]:
                raise ConfigError(f"{method.name}: {unfit[0]} does not go with a panel, whose pictures are made anew")
            check_taken(method)
            if method.faces is not None and method.faces < 1:
                raise ConfigError(f"{method.name}: faces is a positive number")
        names = [method.name for method in methods]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"two methods are called {twice[0]!r}")
        if (config.faces.parquet is None) == (config.faces.folder is None):
            raise ConfigError("faces: give exactly one of parquet and folder")
        if config.faces.number < 2:
            raise ConfigError("faces: number is 2 or more")
        if config.dtype not in ("float32", "float16", "bfloat16"):
            raise ConfigError(f"dtype is float32, float16 or bfloat16, not {config.dtype!r}")
        return config


def read_faces(config: FacesConfig) -> tuple[list[np.ndarray], int]:
    """
    The faces, (H, W, 3) RGB, uint8, in the order of the draw, and how many people they are of.

    Raises:
        ConfigError: They can't be read, or there are fewer than two.
    """
    from ...image_processing_face import FaceImageError, load_image
    from ..validation import is_held_out

    people: list[str]
    if config.folder is None:
        images, people = _parquet_faces(config)
    else:
        images, problems = find_images([config.folder], recursive=True) if Path(config.folder).is_dir() else ([], [])
        if problems or not images:
            raise ConfigError(f"faces: {problems[0] if problems else f'{config.folder}: no images'}")
        try:
            found = parse_people(config.identities, "identities:", [config.folder], one_is_enough=True)(images)
        except PeopleError as error:
            raise ConfigError(f"faces: {error}") from error
        # Who is unknown is like nobody else.
        people = [label or image for label, image in zip(found.labels, images, strict=True)]
    rows: Sequence[int] = range(len(images))
    if config.holdout_modulo is not None:
        rows = [row for row in rows if is_held_out(people[row], config.holdout_modulo)]
    rows = _one_of_each(rows, people, config)
    try:
        faces = [np.array(load_image(images[row])) for row in rows]
    except FaceImageError as error:
        raise ConfigError(f"faces: {error}") from error
    if len(faces) < 2:
        raise ConfigError(f"faces: there are {len(faces)}, and two at least are needed")
    return faces, len({people[row] for row in rows})


def _parquet_faces(config: FacesConfig) -> tuple[list, list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images, people = [], []
    for path in [config.parquet] if isinstance(config.parquet, str) else config.parquet or []:
        columns = [config.image_column, config.identity_column]
        try:
            names = pq.read_schema(path).names
        except (OSError, pa.ArrowInvalid) as error:
            raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
        if lacking := [name for name in columns if name not in names]:
            raise ConfigError(f"{path}: has no column {lacking[0]!r}; it has {', '.join(names)}")
        table = pq.read_table(path, columns=columns).to_pydict()
        images += table[config.image_column]
        people += [str(name) for name in table[config.identity_column]]
    return images, people


def _one_of_each(rows, people: list[str], config: FacesConfig) -> list[int]:
    """So many of the rows: of each person one, then of each another one, and so on."""
    order = list(rows)
    random.Random(config.seed).shuffle(order)
    seen: dict[str, int] = {}
    turn = {}
    for row in order:
        turn[row] = seen[people[row]] = seen.get(people[row], 0) + 1
    return sorted(order, key=lambda row: turn[row])[: config.number]


def run_study(
    config: TrustConfig,
    load: Callable[[TrustMethodConfig], Any],
    bar: Callable[..., Any],
) -> tuple[dict[str, TrustResult], dict[str, int]]:
    """
    The panel of each method. Scores are kept, ten faces at a time, by what they depend on: a run that was stopped goes
    on, and a method that is added costs itself alone.

    Args:
        load: Gives the method, placed where it runs.
        bar: As tqdm.

    Returns:
        The results by name, and the counts `faces`, `people` and `pictures` that show no face.
    """
    from ...fingerprints import fingerprint

    faces, people = read_faces(config.faces)
    pictures = non_faces()
    cache = Path(config.cache or Path(config.output) / "cache")
    results = {}
    for method in config.methods:
        scorer = load(method)
        own = faces[: method.faces]
        settings = {
            "panel": PANEL_VERSION,
            "method": method.method,
            "options": method.options,
            "weights": fingerprint(scorer),
            "dtype": config.dtype,
            "seed": method.seed,
        }

        def scores(images, scorer=scorer, method=method):
            return score(lambda batch: scorer(batch, batch_size=method.batch_size, seed=method.seed), images)

        parts = []
        with bar(total=len(own) + 1, desc=method.name, unit="face") as progress:
            for start in range(0, len(own), SHARD):
                shard = own[start : start + SHARD]
                key = _key({**settings, "first": start}, shard)

                def shard_scores(shard=shard, start=start, scores=scores):
                    return np.array([scores(made_of(face, start + at)) for at, face in enumerate(shard)])

                parts.append(_kept(cache / f"{key}.npy", shard_scores))
                progress.update(len(shard))
            key = _key(settings, list(pictures.values()))
            others = _kept(cache / f"{key}.npy", lambda: scores(list(pictures.values())))
            progress.update(1)
        results[method.name] = result_of(np.concatenate(parts), dict(zip(pictures, others, strict=True)))
    return results, {"faces": len(faces), "people": people, "pictures": len(pictures)}


def _key(settings: Mapping[str, Any], images: list[np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for image in images:
        digest.update(repr(image.shape).encode() + image.tobytes())
    return digest.hexdigest()[:16]


def _kept(path: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    if path.exists():
        return np.load(path, allow_pickle=False)
    values = compute()

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.save(file, values)

    replace_file(path, write)
    return values


__all__ = ["FacesConfig", "TrustConfig", "TrustMethodConfig", "read_faces", "run_study"]
