# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""One function for each layout: from its files to a [`Benchmark`] whose counts have not been checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ..identities import UNKNOWN, identity_codes
from ..pair_sampling import LabelledPairs, draw_numbers
from .benchmark import Benchmark, BenchmarkError, Counts
from .cards import BenchmarkCard
from .files import FileTree, dataset_of_files, dataset_of_images, first_is_crop
from .ijbc import load_ijbc
from .insightface_bin import read_bin
from .layout_parts import (
    choose_images,
    find_bin_file,
    lfw_images,
    parquet_images,
    read_pairs_of,
    read_points,
    required_file,
    stem_of,
    unique_rows,
)
from .pair_files import read_flat_pairs, read_lfw_pairs, read_people


# The lists of LFW's views: pairs, and the people whose images belong to the view.
LFW_VIEWS = {
    "view1": ("pairsDevTest.txt", "peopleDevTest.txt", ("dev_test.parquet",)),
    "view1-train": ("pairsDevTrain.txt", "peopleDevTrain.txt", ("dev_train.parquet",)),
    "view2": ("pairs.txt", None, ("dev_train.parquet", "dev_test.parquet")),
}


def load_lfw(tree: FileTree, card: BenchmarkCard, options: Mapping[str, Any]) -> Benchmark:
    """LFW and XQLFW: `Name/Name_0001.jpg`, or parquet files, and pair lists in the format of LFW."""
    view = None
    if card.name == "lfw":
        view = options["view"] or "view2"
        if view not in LFW_VIEWS:
            raise ValueError(f"view is one of {', '.join(LFW_VIEWS)}, not {view!r}")
        pair_file, people_file, tables = LFW_VIEWS[view]
    else:
        pair_file, people_file, tables = "xqlfw_pairs.txt", None, ()
    if bin_file := find_bin_file(tree, card):
        if view not in (None, "view2"):
            raise BenchmarkError(f"{bin_file} is View 2 of LFW; {view} needs the images")
        return load_bin(bin_file, card, view)
    people = None
    if people_file and (place := tree.find(people_file)):
        people = read_people(tree.read_lines(place), place)
    if tree.images():
        images, row_of = lfw_images(tree, people)
        aligned = len(images) > 0 and first_is_crop(images)
    else:
        images, row_of = parquet_images(tree, tables, people)
        aligned = True
    pairs = read_pairs_of(tree, pair_file, options, read_lfw_pairs)
    return Benchmark(
        name=card.name,
        images=images,
        pairs=pairs.rows(row_of, ".jpg"),
        mated=pairs.mated,
        folds=pairs.folds,
        protocol=f"{card.title}{', ' + view if view else ''}: the pairs of {pairs.source}",
        view=view,
        source=tree.kind,
        expected=card.views[view] if view else card.counts,
        aligned=aligned,
    )


def load_flat(tree: FileTree, card: BenchmarkCard, options: Mapping[str, Any]) -> Benchmark:
    """CALFW and CPLFW: `images` or `aligned images`, all in one folder, landmarks beside, and `pairs_*.txt`."""
    if bin_file := find_bin_file(tree, card):
        return load_bin(bin_file, card)
    folders: dict[str, list[str]] = {"original": [], "aligned": []}
    for name in tree.images():
        folders["aligned" if "align" in PurePosixPath(name).parent.name.lower() else "original"].append(name)
    kind = choose_images(options["images"], {kind: names for kind, names in folders.items() if names}, tree)
    names = folders[kind]
    row_of = unique_rows([PurePosixPath(name).name for name in names], names, tree)
    landmarks = {}
    if kind == "original":
        points = {PurePosixPath(name).name: name for name in tree.with_suffix("_5loc_attri.txt")}
        packed = tree.read_packed(name for name in points.values() if tree.is_packed(name)) if tree.archive else {}
        if points:
            landmarks["landmarks"] = [
                read_points(tree, packed, points.get(f"{stem_of(name)}_5loc_attri.txt")) for name in names
            ]
    pairs = read_pairs_of(tree, card.pair_file, options, read_flat_pairs)
    return Benchmark(
        name=card.name,
        images=dataset_of_files(
            tree, names, identity=[stem_of(name).rpartition("_")[0] for name in names], **landmarks
        ),
        pairs=pairs.rows(row_of),
        mated=pairs.mated,
        folds=pairs.folds,
        protocol=f"{card.title}: the pairs of {pairs.source}, {kind} images",
        source=tree.kind,
        expected=card.counts,
        aligned=kind == "aligned",
    )


def load_cfp(tree: FileTree, card: BenchmarkCard, options: Mapping[str, Any]) -> Benchmark:
    """CFP: `Protocol/Pair_list_{F,P}.txt` number the frontal and profile images, `Protocol/Split/FP` pairs them."""
    if bin_file := find_bin_file(tree, card):
        return load_bin(bin_file, card)
    lists = {pose: required_file(tree, f"Pair_list_{pose}.txt", card) for pose in "FP"}
    protocol = PurePosixPath(lists["F"]).parent
    # Images of the protocol are relative to its folder; both may be anywhere in the tree.
    base = PurePosixPath(os.path.normpath(protocol / ".."))
    known = set(tree.images())
    names: list[str] = []
    row_of, missing = {}, []
    for pose, place in lists.items():
        for number, line in enumerate(tree.read_lines(place), 1):
            fields = line.split()
            if not fields:
                continue
            if len(fields) != 2 or not fields[0].isdecimal():
                raise BenchmarkError(f"{place}: line {number}: not 'number path': {line.strip()!r}")
            name = os.path.normpath(protocol / fields[1]).replace(os.sep, "/")
            row_of[f"{pose}{int(fields[0])}"] = len(names)
            names.append(name)
            if name not in known:
                missing.append(name)
    if missing:
        raise BenchmarkError(
            f"{lists['F']} and {lists['P']} name {len(missing):,} images that are missing, the first is {missing[0]}",
            tuple(missing),
        )
    pairs, mated, folds = [], [], []
    split = str(protocol / "Split" / "FP") if str(protocol) != "." else "Split/FP"
    parts = sorted(
        {PurePosixPath(name).parent.name for name in tree.with_suffix(".txt") if name.startswith(f"{split}/")}
    )
    if not parts:
        raise BenchmarkError(f"{tree.root}: {split}/01/same.txt is missing", (f"{split}/01/same.txt",))
    for fold, part in enumerate(parts):
        for file, same in (("same.txt", True), ("diff.txt", False)):
            place = f"{split}/{part}/{file}"
            if place not in tree.names:
                raise BenchmarkError(f"{tree.root}: {place} is missing", (place,))
            for number, line in enumerate(tree.read_lines(place), 1):
                if not line.strip():
                    continue
                fields = [field.strip() for field in line.split(",")]
                if len(fields) != 2 or not all(field.isdecimal() for field in fields):
                    raise BenchmarkError(f"{place}: line {number}: not 'frontal,profile': {line.strip()!r}")
                keys = f"F{int(fields[0])}", f"P{int(fields[1])}"
                if absent := [key for key in keys if key not in row_of]:
                    raise BenchmarkError(f"{place}: line {number}: {absent[0][1:]} is no number of the image lists")
                pairs.append([row_of[key] for key in keys])
                mated.append(same)
                folds.append(fold)
    return Benchmark(
        name=card.name,
        images=dataset_of_files(tree, names, identity=[PurePosixPath(name).parts[-3] for name in names]),
        pairs=np.array(pairs, np.int32).reshape(-1, 2),
        mated=np.array(mated, bool),
        folds=np.array(folds, np.int32),
        protocol=f"{card.title}: {split}, frontal against profile, of {base if str(base) != '.' else tree.root.name}",
        source=tree.kind,
        expected=card.counts,
        aligned=False,
    )


def load_adience(tree: FileTree, card: BenchmarkCard, options: Mapping[str, Any]) -> Benchmark:
    """
    Adience: the faces of the five fold files; the comparisons are ours, see [`draw_pairs`].

    The folds of Adience are for age and gender and don't apply to these pairs.
    """
    prefixes = {"aligned": "landmark_aligned_face", "original": "coarse_tilt_aligned_face"}
    kinds = {kind: p for kind, p in prefixes.items() if any(f"/{p}." in f"/{name}" for name in tree.images())}
    kind = choose_images(options["images"], kinds, tree)
    # A picture is named by its album and itself: the same file name may be in the albums of two people.
    by_key = {"/".join(PurePosixPath(name).parts[-2:]): name for name in tree.images()}
    names: dict[str, None] = {}
    people, missing = [], []
    for fold in range(5):
        place = required_file(tree, f"fold_{fold}_data.txt", card)
        for number, line in enumerate(tree.read_lines(place)[1:], 2):
            fields = line.split("\t")
            if not line.strip():
                continue
            if len(fields) < 3 or not fields[2].strip().isdecimal():
                raise BenchmarkError(f"{place}: line {number}: not 'user_id original_image face_id ...'")
            user, picture, face = (field.strip() for field in fields[:3])
            key = f"{user}/{prefixes[kind]}.{face}.{picture}"
            if key not in by_key:
                missing.append(key)
            elif by_key[key] not in names:
                names[by_key[key]] = None
                people.append(face)
    if missing:
        raise BenchmarkError(
            f"{tree.root}: {len(missing):,} images that the fold files name are missing, the first is {missing[0]}",
            tuple(missing),
        )
    if not names:
        raise BenchmarkError(f"{tree.root}: the fold files list no image")
    seed = options["seed"]
    pairs, mated = draw_pairs(np.array(people), options["num_pairs"], seed)
    return Benchmark(
        name=card.name,
        images=dataset_of_files(tree, list(names), identity=people),
        pairs=pairs,
        mated=mated,
        protocol=f"{card.title}: {mated.sum():,} mated and {(~mated).sum():,} non-mated pairs that we drew with seed "
        f"{seed}, as the paper's are not published; {kind} images",
        generated=True,
        source=tree.kind,
        expected=card.counts,
        aligned=False,  # "aligned" is only upright, and larger than the face
    )


def draw_pairs(identities: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Mated and non-mated pairs of images where no list is published.

    Drawn uniformly and without replacement from all mated pairs, and so from all non-mated ones, in an order that
    `numpy.random.RandomState(seed)` gives: of NumPy's generators the one whose stream is frozen, so that a seed means
    the same pairs in years.

    Args:
        identities: (I,) labels; an image whose label names nobody is in no pair.
        count: How many of each; fewer where there aren't as many.
        seed: Of the draw.

    Returns:
        (P, 2) int32 rows, the mated pairs first, and (P,) whether they are mated.
    """
    random = np.random.RandomState(seed)
    codes = identity_codes(identities)[0]
    images = np.flatnonzero(codes != UNKNOWN).astype(np.int32)
    everything = LabelledPairs(codes[images])
    labels, total, possible = everything.labels, len(everything.labels), everything.num_nonmated
    same = everything.mated(draw_numbers(random, everything.num_mated, count))
    if possible < total * (total - 1) // 40:  # most pairs are mated, and would be drawn in vain
        drawn = everything.nonmated(draw_numbers(random, possible, count))
        pairs = images[np.concatenate([same, drawn])]
        return pairs, np.arange(len(pairs)) < len(same)
    wanted = min(count, possible)
    different: dict[tuple[int, int], None] = {}  # in the order in which they were drawn
    while len(different) < wanted:
        for first, second in random.randint(0, total, (2 * count, 2)).tolist():
            if labels[first] != labels[second]:
                different[min(first, second), max(first, second)] = None
    drawn = np.array(list(different)[:wanted], np.int32).reshape(-1, 2)
    pairs = images[np.concatenate([same, drawn])]
    return pairs, np.arange(len(pairs)) < len(same)


def load_agedb(tree: FileTree, card: BenchmarkCard, options: Mapping[str, Any]) -> Benchmark:
    """AgeDB-30: insightface's package alone."""
    if bin_file := find_bin_file(tree, card):
        return load_bin(bin_file, card)
    raise BenchmarkError(f"{tree.root}: {card.bin_file} is missing", (str(card.bin_file),))


def load_bin(path: str, card: BenchmarkCard, view: str | None = None) -> Benchmark:
    """
    A package of insightface: images aligned to 112x112 without names. An image that takes part in several pairs is
    there several times, as the same bytes, and becomes one row.
    """
    contents, mated = read_bin(path)
    row_of: dict[bytes, int] = {}
    rows = [row_of.setdefault(content, len(row_of)) for content in contents]
    first = dict(zip(reversed(rows), range(len(rows) - 1, -1, -1), strict=True))
    name = os.path.basename(path)
    folds = None
    if len(mated) % 10 == 0:  # insightface validates on ten parts in the order of the file
        folds = np.repeat(np.arange(10, dtype=np.int32), len(mated) // 10)
    return Benchmark(
        name=card.name,
        images=dataset_of_images(
            list(row_of),
            [None] * len(row_of),
            file=[f"{name}#{first[row]}" for row in range(len(row_of))],
            identity=[None] * len(row_of),
        ),
        pairs=np.array(rows, np.int32).reshape(-1, 2),
        mated=np.array(mated, bool),
        folds=folds,
        protocol=f"{card.title}: the pairs of insightface's {name}",
        view=view,
        source=f"package {path}",
        # It holds the images that take part in a pair, and no names.
        expected=Counts(mated=card.counts.mated, nonmated=card.counts.nonmated),
    )


LOADERS: dict[str, Callable[[FileTree, BenchmarkCard, Mapping[str, Any]], Benchmark]] = {
    "adience": load_adience,
    "agedb-30": load_agedb,
    "calfw": load_flat,
    "cfp-fp": load_cfp,
    "cplfw": load_flat,
    "ijb-c": load_ijbc,
    "lfw": load_lfw,
    "xqlfw": load_lfw,
}


__all__ = ["LFW_VIEWS", "LOADERS", "draw_pairs"]
