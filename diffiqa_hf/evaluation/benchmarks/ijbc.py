# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""IJB-C: templates of several images, as insightface packs them or as NIST gives them out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from .benchmark import Benchmark, BenchmarkError
from .cards import BenchmarkCard
from .files import FileTree, dataset_of_images
from .layout_parts import required_file


def load_ijbc(tree: FileTree, card: BenchmarkCard, options: Mapping[str, Any]) -> Benchmark:
    """IJB-C as insightface packs it, or as NIST gives it out."""
    if tree.archive is not None:
        raise BenchmarkError(f"{tree.archive}: IJB-C is read from a folder; unpack it first")
    there = {PurePosixPath(name).name for name in tree.names}
    if "ijbc_face_tid_mid.txt" not in there:
        if there & {IJBC_MATCHES, *IJBC_TEMPLATES}:
            return _nist_ijbc(tree, card, options)
        if "enroll_templates.csv" in there:
            raise BenchmarkError(
                f"{tree.root}: NIST's test1/ is not read, as its lists don't say which frames are of one video; "
                f"{IJBC_MATCHES} and the lists of templates beside it are",
                (IJBC_MATCHES,),
            )
    return _insightface_ijbc(tree, card, options)


# NIST's 1:1 protocol: templates that are compared, and the images of each.
IJBC_MATCHES = "ijbc_11_G1_G2_matches.csv"
IJBC_TEMPLATES = ("ijbc_1N_gallery_G1.csv", "ijbc_1N_gallery_G2.csv", "ijbc_1N_probe_mixed.csv")


def _nist_ijbc(tree: FileTree, card: BenchmarkCard, options: Mapping[str, Any]) -> Benchmark:
    """
    NIST's own: `images/img/`, `images/frames/`, and in `protocols/` the images of each template with the boxes of
    their faces (columns by their names, others are ignored), and, without a header, the pairs of templates.
    SIGHTING_ID joins the frames of a video.
    """
    import pyarrow as pa

    ids = ("TEMPLATE_ID", "SUBJECT_ID", "SIGHTING_ID")
    box = ("FACE_X", "FACE_Y", "FACE_WIDTH", "FACE_HEIGHT")
    types = {"FILENAME": pa.string(), **dict.fromkeys(ids, pa.int64()), **dict.fromkeys(box, pa.float32())}
    lists = []
    for basename in IJBC_TEMPLATES:
        lists.append(_read_csv(tree, required_file(tree, basename, card), ",", types, header=True))
        for name in types:
            if lists[-1][name].null_count:
                line = 2 + lists[-1][name].is_null().index(True).as_py()
                raise BenchmarkError(f"{basename}: line {line}: {name} is missing")
    table = pa.concat_tables(lists)
    pair_types = {"first": pa.int32(), "second": pa.int32()}
    pairs = _read_csv(tree, required_file(tree, IJBC_MATCHES, card), ",", pair_types)

    place_of: dict[str, str | None] = {}  # None: in several places
    for name in tree.images():
        key = "/".join(PurePosixPath(name).parts[-2:])
        place_of[key] = None if key in place_of else name
    listed = ["/".join(PurePosixPath(name).parts[-2:]) for name in table["FILENAME"].to_pylist()]
    if missing := sorted({name for name in listed if name not in place_of}):
        raise BenchmarkError(
            f"{tree.root}: {len(missing):,} images that the lists of templates name are missing, the first is "
            f"{missing[0]}",
            tuple(missing),
        )
    names = []
    for name in listed:
        if (place := place_of[name]) is None:
            raise BenchmarkError(f"{tree.root}: {name} is there more than once")
        names.append(place)

    template, subject = table["TEMPLATE_ID"].to_numpy(), table["SUBJECT_ID"].to_numpy()
    templates, first, position = np.unique(template, return_index=True, return_inverse=True)
    if len(odd := np.flatnonzero(subject != subject[first][position])):
        raise BenchmarkError(f"{tree.root}: template {template[odd[0]]} is of several people")
    rows = _template_pairs(pairs, templates, IJBC_MATCHES)
    of_template = subject[first]
    pooling = options["pooling"] or "mean"
    return Benchmark(
        name=card.name,
        images=dataset_of_images(
            [None] * len(names),
            [tree.path(name) for name in names],
            file=names,
            identity=[str(person) for person in subject],
            box=np.stack([table[name].to_numpy() for name in box], 1).tolist(),
            template=template,
            media=table["SIGHTING_ID"].to_numpy(),
        ),
        pairs=rows,
        mated=of_template[rows[:, 0]] == of_template[rows[:, 1]],
        protocol=f"{card.title}: 1:1 verification of templates by {IJBC_MATCHES}; the quality of a template is the "
        f"{pooling} of its images, which are cut to the boxes of their faces",
        templates=templates,
        pooling=pooling,
        source=tree.kind,
        expected=card.counts,
        aligned=False,
    )


def _read_csv(tree: FileTree, place: str, delimiter: str, types: Mapping[str, Any], header: bool = False):
    """Columns of a text file: those of the `header` with these names, or, without one, all of them in this order."""
    import pyarrow as pa
    import pyarrow.csv

    try:
        return pa.csv.read_csv(
            tree.path(place),
            # One thread, whose errors name the line.
            read_options=pa.csv.ReadOptions(column_names=None if header else list(types), use_threads=False),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter),
            convert_options=pa.csv.ConvertOptions(column_types=dict(types), include_columns=list(types)),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise BenchmarkError(f"{place}: {str(error).splitlines()[0]}") from error


def _template_pairs(pairs, templates: np.ndarray, source: str) -> np.ndarray:
    """Pairs of template ids, in the columns `first` and `second`, as (P, 2) positions in the ascending `templates`."""
    rows = np.empty((len(pairs), 2), np.int32)
    for side, column in enumerate(("first", "second")):
        ids = pairs[column].to_numpy()
        rows[:, side] = np.minimum(np.searchsorted(templates, ids), len(templates) - 1)
        if len(unknown := np.flatnonzero(templates[rows[:, side]] != ids)):
            at = unknown[0]
            raise BenchmarkError(f"{source}: line {at + 1}: template {ids[at]} has no image")
    return rows


def _insightface_ijbc(tree: FileTree, card: BenchmarkCard, options: Mapping[str, Any]) -> Benchmark:
    """As insightface packs it: `loose_crop/`, and in `meta/` the templates, the landmarks and the pairs."""
    import pyarrow as pa

    def read(basename: str, types: Mapping[str, Any]) -> pa.Table:
        return _read_csv(tree, required_file(tree, basename, card), " ", types)

    faces = read("ijbc_face_tid_mid.txt", {"name": pa.string(), "template": pa.int64(), "media": pa.int64()})
    points = {f"{axis}{i}": pa.float32() for i in range(5) for axis in "xy"}
    landmarks = read("ijbc_name_5pts_score.txt", {"name": pa.string(), **points, "score": pa.float32()})
    pairs = read("ijbc_template_pair_label.txt", {"first": pa.int32(), "second": pa.int32(), "same": pa.int8()})
    if not faces["name"].equals(landmarks["name"]):
        raise BenchmarkError("ijbc_face_tid_mid.txt and ijbc_name_5pts_score.txt list different images")
    place_of = {
        PurePosixPath(name).name: name for name in tree.images() if PurePosixPath(name).parent.name == "loose_crop"
    }
    names = faces["name"].to_pylist()
    if missing := [f"loose_crop/{name}" for name in names if name not in place_of]:
        raise BenchmarkError(
            f"{tree.root}: {len(missing):,} images that ijbc_face_tid_mid.txt names are missing, the first is "
            f"{missing[0]}",
            tuple(missing),
        )
    template = faces["template"].to_numpy()
    templates = np.unique(template)
    rows = _template_pairs(pairs, templates, "ijbc_template_pair_label.txt")
    same = pairs["same"].to_numpy()
    if len(odd := np.flatnonzero((same != 0) & (same != 1))):
        raise BenchmarkError(f"ijbc_template_pair_label.txt: line {odd[0] + 1}: label {same[odd[0]]} is not 0 or 1")
    pooling = options["pooling"] or "mean"
    return Benchmark(
        name=card.name,
        images=dataset_of_images(
            [None] * len(names),
            [tree.path(place_of[name]) for name in names],
            file=[place_of[name] for name in names],
            identity=[None] * len(names),
            landmarks=np.stack([landmarks[name].to_numpy() for name in points], 1).reshape(-1, 5, 2).tolist(),
            template=template,
            media=faces["media"].to_numpy(),
        ),
        pairs=rows,
        mated=same == 1,
        protocol=f"{card.title}: 1:1 verification of templates by ijbc_template_pair_label.txt; the quality of a "
        f"template is the {pooling} of its images",
        templates=templates,
        pooling=pooling,
        source=tree.kind,
        expected=card.counts,
        aligned=False,
    )


__all__ = ["load_ijbc"]
