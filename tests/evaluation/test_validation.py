# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from PIL import Image

from diffiqa_hf.alignment import ARCFACE_TEMPLATE
from diffiqa_hf.evaluation import EDCWarning, compare_embeddings, edc_curve, evaluate_methods, sample_pairs
from diffiqa_hf.evaluation.edc import EDCProtocol
from diffiqa_hf.evaluation.study.config import BenchmarkConfig
from diffiqa_hf.evaluation.study.images import open_benchmark
from diffiqa_hf.evaluation.validation import (
    HALVES,
    ValidationSet,
    _floor,
    half_of,
    is_held_out,
    load_validation_set,
    make_validation_sets,
    reachable_shares,
    read_held_out,
    write_validation_sets,
)
from diffiqa_hf.scoring.tables import TableError
from diffiqa_hf.training_utils import hold_out


ROOT = Path(__file__).parents[2]
NAMES = [f"Person_{number:03d}" for number in range(120)]
OUT = [name for name in NAMES if is_held_out(name, 3)]


def png(seed):
    """Any small picture."""
    values = np.random.RandomState(seed).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    picture = Image.fromarray(values).resize((24, 24), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    """120 people with four faces each, of which the last one is turned to the side."""
    side = ARCFACE_TEMPLATE + [[0, 0], [-10, 0], [14, 0], [2, 0], [-6, 0]]
    rows = {
        "image": [{"bytes": png(at), "path": None} for at in range(4 * len(NAMES))],
        "name": [f"{name}_{number:04d}" for name in NAMES for number in range(4)],
        "identity": np.repeat(NAMES, 4).tolist(),
        "landmarks": [(side if number == 3 else ARCFACE_TEMPLATE).tolist() for _ in NAMES for number in range(4)],
    }
    path = tmp_path_factory.mktemp("faces") / "faces.parquet"
    pq.write_table(pa.table(rows), path)
    return path


@pytest.fixture(scope="module")
def faces(parquet):
    return read_held_out([parquet], 3)


@pytest.fixture(scope="module")
def sets(faces):
    return make_validation_sets(faces, 3, mated_per_person=4, nonmated=3000)


# Who


def test_who_is_held_out_is_whom_a_training_leaves_out():
    dataset = Dataset.from_dict({"identity": NAMES})
    assert hold_out(dataset, "identity", 3, heldout=True)["identity"][:] == OUT
    assert 0 < len(OUT) < len(NAMES) / 2


@pytest.mark.parametrize("modulo", [2, 3, 10])
def test_halves_are_halves_of_those_held_out(modulo):
    out = [name for name in (f"Somebody_{number}" for number in range(4000)) if is_held_out(name, modulo)]
    share = np.mean([half_of(name, modulo) == "choose" for name in out])
    assert share == pytest.approx(0.5, abs=4 * 0.5 / len(out) ** 0.5)


def test_reading(faces, parquet, tmp_path):
    assert sorted(set(faces.identities)) == OUT
    assert len(faces.files) == 4 * len(OUT)
    assert (np.abs(faces.yaws[3::4]) > 25).all() and not faces.yaws[np.arange(len(faces.files)) % 4 < 3].any()
    with pytest.raises(TableError, match="no column 'person'"):
        read_held_out([parquet], identity_column="person")
    with pytest.raises(TableError, match="nowhere.parquet"):
        read_held_out([tmp_path / "nowhere.parquet"])
    with pytest.raises(TableError, match="occurs twice"):
        read_held_out([parquet, parquet], 3)
    with pytest.raises(TableError, match="nobody"):
        read_held_out([parquet], 10**9)


# The sets


def test_the_people_of_a_set_are_those_of_its_half(sets):
    assert set(sets) == {(name, half) for name in ("clean", "degraded", "turned") for half in HALVES}
    for (_, half), part in sets.items():
        assert {half_of(name, 3) for name in part.identities} == {half}
        same = part.identities[part.pairs[:, 0]] == part.identities[part.pairs[:, 1]]
        np.testing.assert_array_equal(same, part.mated)
        assert part.mated.any() and not part.mated.all()


def test_a_fifth_is_degraded_and_the_rest_is_as_it_was(faces):
    one_half = make_validation_sets(faces, 3, degraded_share=0.2)
    shares = []
    for half in HALVES:
        clean, degraded = one_half["clean", half], one_half["degraded", half]
        np.testing.assert_array_equal(clean.pairs, degraded.pairs)
        changed = [a["bytes"] != b["bytes"] for a, b in zip(clean.images, degraded.images, strict=True)]
        assert changed == degraded.degraded.tolist() and not clean.degraded.any()
        shares += changed
    assert np.mean(shares) == pytest.approx(0.2, abs=4 * 0.4 / len(shares) ** 0.5)
    pixels = [np.asarray(Image.open(io.BytesIO(image["bytes"]))) for image in degraded.images]
    assert {(p.shape, p.dtype) for p in pixels} == {((24, 24, 3), np.dtype(np.uint8))}


def test_the_same_seed_the_same_sets_and_another_one_others(faces, sets):
    again = make_validation_sets(faces, 3, mated_per_person=4, nonmated=3000)
    other = make_validation_sets(faces, 3, mated_per_person=4, nonmated=3000, seed=1)
    for key, part in sets.items():
        np.testing.assert_array_equal(part.pairs, again[key].pairs)
        assert part.images == again[key].images
    assert other["degraded", "report"].degraded.tolist() != sets["degraded", "report"].degraded.tolist()
    assert other["clean", "report"].pairs.tolist() != sets["clean", "report"].pairs.tolist()


def test_each_turned_pair_has_one_face_of_each_kind(sets):
    for half in HALVES:
        part = sets["turned", half]
        assert (np.abs(part.yaws[part.pairs[:, 0]]) >= 25).all()
        assert (np.abs(part.yaws[part.pairs[:, 1]]) <= 15).all()
        # One turned face and three frontal ones: three mated pairs a person.
        assert part.counts()["mated pairs"] == 3 * part.counts()["people"]


def test_no_yaw_no_turned_pair(faces):
    unknown = ValidationSet(**{**vars(faces), "yaws": np.full(len(faces.files), np.nan)})
    assert {name for name, _ in make_validation_sets(unknown, 3)} == {"clean", "degraded"}


def test_at_most_so_many_mated_pairs_of_a_person(sets, faces):
    for part in (sets["clean", "report"], make_validation_sets(faces, 3, mated_per_person=2)["turned", "report"]):
        _, counts = np.unique(part.identities[part.pairs[part.mated, 0]], return_counts=True)
        assert counts.max() == (4 if part.name == "clean" else 2)


def test_from_the_disk_and_into_a_study(sets, tmp_path):
    write_validation_sets(tmp_path, sets.values())
    for (name, half), part in sets.items():
        read = load_validation_set(tmp_path, name, half)
        assert (read.images, read.files, read.half) == (part.images, part.files, half)
        for field in ("identities", "yaws", "degraded", "pairs", "mated"):
            np.testing.assert_array_equal(getattr(read, field), getattr(part, field))
        stem = str(tmp_path / half / name)
        benchmark = open_benchmark(
            BenchmarkConfig(name=name, parquet=f"{stem}.parquet", pairs=f"{stem}_pairs.parquet")
        )
        assert benchmark.counts.mated == part.counts()["mated pairs"]
        assert benchmark.counts.images == part.counts()["images"]
    with pytest.raises(TableError, match="clean.parquet"):
        load_validation_set(tmp_path / "elsewhere", "clean")
    with pytest.raises(ValueError, match="sharp"):
        load_validation_set(tmp_path, "sharp")


def test_the_command(parquet, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("make_sets", ROOT / "training" / "make_validation_sets.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    options = ["--holdout_modulo", "3", "--output_dir", str(tmp_path / "sets"), "--nonmated", "500"]
    assert script.main(["--train_parquet", str(parquet), *options]) == 0
    record = json.loads((tmp_path / "sets" / "sets.json").read_text())
    for name in ("clean", "degraded", "turned"):
        part = load_validation_set(tmp_path / "sets", name, "choose")
        assert record["counts"][f"{name}, choose"] == part.counts()
    assert "turned, report: " in capsys.readouterr().out
    assert script.main(["--train_parquet", str(tmp_path / "none.parquet"), *options]) == 1
    assert "none.parquet" in capsys.readouterr().err


# The shares


def recognised(seed=0, people=60, images=5):
    """Embeddings of people, of which some images are blurred towards nobody, and how clear each one is."""
    random = np.random.default_rng(seed)
    identities = np.repeat([f"P{number}" for number in range(people)], images)
    centres = np.repeat(random.normal(size=(people, 16)), images, 0)
    clearness = random.uniform(size=len(identities)) ** 0.5
    noise = random.normal(size=centres.shape)
    embeddings = centres * clearness[:, None] + 1.1 * noise * (1 - clearness[:, None]) + 0.25 * noise
    clearness = clearness + random.normal(0, 0.2, clearness.shape)  # no measure sees all of it
    pairs, mated = sample_pairs(identities, 10, 5_000)
    images = [{"bytes": b"", "path": None}] * len(identities)
    files = [str(number) for number in range(len(identities))]
    nothing = np.zeros(len(identities))
    part = ValidationSet("clean", "report", images, files, identities, nothing, nothing > 0, pairs, mated)
    return part, embeddings.astype(np.float32), clearness


def test_shares_are_those_of_the_curves():
    part, embeddings, clearness = recognised()
    other = embeddings + np.random.default_rng(1).normal(0, 0.3, embeddings.shape)
    random = np.random.default_rng(2).uniform(size=len(clearness))
    shares = reachable_shares(
        part, {"clear": clearness, "random": random}, {"one": embeddings, "two": other}, replicates=100
    )
    for at, rows in enumerate((embeddings, other)):
        compared = compare_embeddings(rows, part.identities, part.pairs)
        protocol = EDCProtocol.from_preset("default", limits=(0.3,))
        for row, quality in enumerate((clearness, random)):
            curve = edc_curve(compared.similarities, compared.mated, quality, protocol, pairs=part.pairs)
            assert shares.estimates[row, at] == pytest.approx(curve.share[0.3])
            assert _floor(curve.fnmr, curve.mated, 0.3) == pytest.approx(curve.floor[0.3], rel=1e-9)
        assert shares.errors[at] == curve.false_non_matches
    mean = shares.interval("clear")
    assert mean.estimate == pytest.approx(shares.estimates[0].mean())
    assert mean.low < mean.estimate < mean.high
    assert shares.interval("random", "one").low < 0 < shares.interval("random", "one").high
    better = shares.difference("clear", "random")
    assert better.excludes_zero and better.low > 0
    assert shares.difference("random", "clear").high == pytest.approx(-better.low)
    assert shares.table().splitlines()[2].startswith("| clear |")


def test_pauc_replicates_of_the_bootstrap_are_those_of_a_study():
    part, embeddings, clearness = recognised(3)
    compared = compare_embeddings(embeddings, part.identities, part.pairs)
    study = evaluate_methods(
        compared.similarities, compared.mated, {"clear": clearness}, "default",
        pairs=part.pairs, identities=part.identities, replicates=50, seed=4,
    )  # fmt: skip
    shares = reachable_shares(part, {"clear": clearness}, {"one": embeddings}, replicates=50, seed=4)
    at = study.protocol.limits.index(0.3)
    paucs, fnmr = study.bootstrap.replicates[:, 0, at], study.bootstrap.fnmr_replicates
    floors = np.array([_floor(rate, part.counts()["mated pairs"], 0.3) for rate in fnmr])
    np.testing.assert_allclose(shares.replicates[:, 0, 0], (1 - paucs) / (1 - floors))


def test_a_method_that_probes_the_fr_model_has_scores_for_each():
    part, embeddings, clearness = recognised()
    norms = {"one": clearness, "two": -clearness}
    shares = reachable_shares(part, {"norm": norms}, {"one": embeddings, "two": embeddings}, replicates=20)
    assert shares.estimates[0, 0] > 0.2 > -0.2 > shares.estimates[0, 1]


def test_an_image_without_a_score_leaves_first():
    part, embeddings, clearness = recognised()
    some = clearness.copy()
    some[np.argsort(clearness)[:5]] = np.nan
    with pytest.warns(EDCWarning):
        shares = reachable_shares(part, {"some": some, "all": clearness}, {"one": embeddings}, replicates=5)
    assert shares.estimates[0, 0] == pytest.approx(shares.estimates[1, 0], abs=0.05)


def test_a_wrong_number_of_qualities_is_refused():
    part, embeddings, clearness = recognised()
    with pytest.raises(ValueError, match="short: 300 qualities"):
        reachable_shares(part, {"short": clearness[1:]}, {"one": embeddings})
