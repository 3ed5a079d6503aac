# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""One function for each layout: from its files to a [`Benchmark`] whose counts have not been checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...file_utils import file_fault
from ..identities import UNKNOWN, identity_codes
from ..pair_sampling import LabelledPairs, draw_numbers
from .benchmark import Benchmark, BenchmarkError, Counts
from .cards import BenchmarkCard
from .files import FileTree, dataset_of_files, dataset_of_images, dataset_of_table, decode_lines, first_is_crop
from .insightface_bin import read_bin
from .pair_files import PairList, read_flat_pairs, read_lfw_pairs, read_people


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
    if bin_file := _bin_file(tree, card):
        if view not in (None, "view2"):
            raise BenchmarkError(f"{bin_file} is View 2 of LFW; {view} needs the images")
        return load_bin(bin_file, card, view)
    people = None
    if people_file and (place := tree.find(people_file)):
        people = read_people(tree.read_lines(place), place)
    if tree.images():
        images, row_of = _lfw_images(tree, people)
        aligned = len(images) > 0 and first_is_crop(images)
    else:
        images, row_of = _parquet_images(tree, tables, people)
        aligned = True
    pairs = _pairs(tree, pair_file, options, read_lfw_pairs)
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
    if bin_file := _bin_file(tree, card):
        return load_bin(bin_file, card)
    folders = {"original": [], "aligned": []}
    for name in tree.images():
        folders["aligned" if "align" in PurePosixPath(name).parent.name.lower() else "original"].append(name)
    kind = _choice(options["images"], {kind: names for kind, names in folders.items() if names}, tree)
    names = folders[kind]
    row_of = _unique_rows([PurePosixPath(name).name for name in names], names, tree)
    landmarks = {}
    if kind == "original":
        points = {PurePosixPath(name).name: name for name in tree.with_suffix("_5loc_attri.txt")}
        packed = tree.read_packed(name for name in points.values() if tree.is_packed(name)) if tree.archive else {}
        if points:
            landmarks["landmarks"] = [
                _points(tree, packed, points.get(f"{_stem(name)}_5loc_attri.txt")) for name in names
            ]
    pairs = _pairs(tree, card.pair_file, options, read_flat_pairs)
    return Benchmark(
        name=card.name,
        images=dataset_of_files(tree, names, identity=[_stem(name).rpartition("_")[0] for name in names], **landmarks),
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
    if bin_file := _bin_file(tree, card):
        return load_bin(bin_file, card)
    lists = {pose: _required(tree, f"Pair_list_{pose}.txt", card) for pose in "FP"}
    protocol = PurePosixPath(lists["F"]).parent
    # Images of the protocol are relative to its folder; both may be anywhere in the tree.
    base = PurePosixPath(os.path.normpath(protocol / ".."))
    known = set(tree.images())
    names, row_of, missing = [], {}, []
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
    kind = _choice(options["images"], kinds, tree)
    # A picture is named by its album and itself: the same file name may be in the albums of two people.
    by_key = {"/".join(PurePosixPath(name).parts[-2:]): name for name in tree.images()}
    names, people, missing = {}, [], []
    for fold in range(5):
        place = _required(tree, f"fold_{fold}_data.txt", card)
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
        lists.append(_read_csv(tree, _required(tree, basename, card), ",", types, header=True))
        for name in types:
            if lists[-1][name].null_count:
                line = 2 + lists[-1][name].is_null().index(True).as_py()
                raise BenchmarkError(f"{basename}: line {line}: {name} is missing")
    table = pa.concat_tables(lists)
    pair_types = {"first": pa.int32(), "second": pa.int32()}
    pairs = _read_csv(tree, _required(tree, IJBC_MATCHES, card), ",", pair_types)

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
    if several := [name for name in listed if place_of[name] is None]:
        raise BenchmarkError(f"{tree.root}: {several[0]} is there more than once")
    names = [place_of[name] for name in listed]

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
        return _read_csv(tree, _required(tree, basename, card), " ", types)

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


def load_agedb(tree: FileTree, card: BenchmarkCard, options: Mapping[str, Any]) -> Benchmark:
    """AgeDB-30: insightface's package alone."""
    if bin_file := _bin_file(tree, card):
        return load_bin(bin_file, card)
    raise BenchmarkError(f"{tree.root}: {card.bin_file} is missing", (card.bin_file,))


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


def _bin_file(tree: FileTree, card: BenchmarkCard) -> str | None:
    """The package of insightface that the tree is, or has where it has no images."""
    if tree.root.is_file() and tree.root.suffix == ".bin":
        return str(tree.root)
    if card.bin_file is None or tree.images():
        return None
    place = tree.find(card.bin_file)
    return tree.path(place) if place and not tree.is_packed(place) else None


def _lfw_images(tree: FileTree, people: set[str] | None):
    """The images `Name/Name_0001.jpg`, and the row of each by `Name_0001`."""
    names = []
    for name in tree.images():
        person = PurePosixPath(name).parent.name
        stem, _, number = _stem(name).rpartition("_")
        if stem == person and number.isdecimal() and (people is None or person in people):
            names.append(name)
    row_of = _unique_rows([_stem(name) for name in names], names, tree)
    return dataset_of_files(tree, names, identity=[PurePosixPath(name).parent.name for name in names]), row_of


def _parquet_images(tree: FileTree, tables: Sequence[str], people: set[str] | None):
    """
    The images of parquet files with the columns `image` and `identity`, and the row of each by its name: the column
    `name`, or the path in `image`, without ending.

    Landmarks of such a file aren't taken: those that we know of belong to the picture before it was aligned.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    places = [place for table in tables if (place := tree.find(table))]
    if tree.root.suffix == ".parquet" or len(places) < len(tables) or not tables:
        places = tree.with_suffix(".parquet")
    if not places:
        raise BenchmarkError(f"{tree.root}: neither images nor parquet files are there")
    parts = []
    for place in places:
        try:
            parts.append(_parquet_table(pq, pa, pc, tree.path(place)))
        except (pa.ArrowException, OSError) as error:
            raise BenchmarkError(f"{place}: cannot be read as parquet ({str(error).splitlines()[0]})") from error
    table = pa.concat_tables(parts)
    if people is not None:
        table = table.filter(pc.is_in(table["identity"], pa.array(sorted(people), pa.string())))
    names = table["name"].to_pylist()
    row_of = _unique_rows(names, names, tree)
    return dataset_of_table(table, file=names, identity=table["identity"].to_pylist()), row_of


def _parquet_table(pq, pa, pc, path: str):
    if reason := file_fault(path):
        raise BenchmarkError(f"{path}: {reason}")
    schema = pq.read_schema(path)
    if lacking := {"image", "identity"} - set(schema.names):
        raise BenchmarkError(f"{path}: the column {sorted(lacking)[0]} is missing")
    columns = [name for name in ("image", "identity", "name") if name in schema.names]
    table = pq.read_table(path, columns=columns)
    if not pa.types.is_struct(table["image"].type):
        raise BenchmarkError(f"{path}: the column image is not one of datasets.Image")
    if "name" in columns:
        names = table["name"].cast(pa.string())
    else:
        names = pa.array(
            [path and _stem(path) for path in pc.struct_field(table["image"], "path").to_pylist()], pa.string()
        )
    if names.null_count:
        raise BenchmarkError(f"{path}: images without a name, in the column name or in the path of image")
    return pa.table({"image": table["image"], "identity": table["identity"].cast(pa.string()), "name": names})


def _pairs(tree: FileTree, basename: str, options: Mapping[str, Any], parse: Callable) -> PairList:
    if options["pairs_file"] is not None:
        path = Path(options["pairs_file"])
        try:
            return parse(decode_lines(path.read_bytes(), str(path)), str(path))
        except OSError as error:
            raise BenchmarkError(f"{path}: {error.strerror or error}") from error
    place = tree.find(basename)
    if place is None:
        raise BenchmarkError(f"{tree.root}: {basename} is missing; put it there or name it (pairs_file)", (basename,))
    return parse(tree.read_lines(place), place)


def _required(tree: FileTree, basename: str, card: BenchmarkCard) -> str:
    place = tree.find(basename)
    if place is None:
        raise BenchmarkError(f"{tree.root}: {basename} of {card.title} is missing", (basename,))
    return place


def _choice(images: str | None, kinds: Mapping[str, Any], tree: FileTree) -> str:
    if not kinds:
        raise BenchmarkError(f"{tree.root}: no images are there")
    if images is None:
        return next(iter(kinds))
    if images not in kinds:
        raise BenchmarkError(f"{tree.root}: there are no {images} images, only {' and '.join(kinds)} ones")
    return images


def _unique_rows(keys: Sequence[str], names: Sequence[str], tree: FileTree) -> dict[str, int]:
    row_of: dict[str, int] = {}
    for row, key in enumerate(keys):
        if row_of.setdefault(key, row) != row:
            other = names[row_of[key]]
            raise BenchmarkError(
                f"{tree.root}: {key} is there twice, as {other} and {names[row]}; name one of the folders"
            )
    return row_of


def _points(tree: FileTree, packed: Mapping[str, bytes], place: str | None) -> list[list[float]] | None:
    """Five points, from a file of five lines `x y`."""
    if place is None:
        return None
    lines = decode_lines(packed[place], place) if place in packed else tree.read_lines(place)
    try:
        points = [[float(value) for value in line.split()] for line in lines if line.strip()]
    except ValueError:
        points = []
    if [len(point) for point in points] != [2] * 5:
        raise BenchmarkError(f"{place}: not five lines 'x y'")
    return points


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


__all__ = ["LFW_VIEWS", "LOADERS", "draw_pairs"]
