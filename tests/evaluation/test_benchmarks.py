# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The benchmarks from tiny copies of their layouts, and the real LFW where it is."""

import io
import os
import pickle
import shutil
import tarfile
import warnings
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures.benchmark_layouts import (
    MATED,
    PAIR_NAMES,
    PAIRS,
    jpeg,
    lfw_images,
    make_adience,
    make_bin,
    make_cfp,
    make_flat,
    make_ijbc,
    make_lfw,
    make_nist_ijbc,
    write,
)
from PIL import Image

from diffiqa_hf import FaceImageProcessor
from diffiqa_hf.evaluation.benchmarks import (
    BENCHMARKS,
    Benchmark,
    BenchmarkError,
    BenchmarkWarning,
    Counts,
    crop_to_box,
    get_benchmark_card,
    load_benchmark,
)
from diffiqa_hf.evaluation.benchmarks.insightface_bin import read_bin
from diffiqa_hf.evaluation.benchmarks.layouts import draw_pairs
from diffiqa_hf.image_processing_face import FaceImageError


# Tiny copies have other counts than the benchmarks; one test is about that.
pytestmark = pytest.mark.filterwarnings("ignore::diffiqa_hf.evaluation.benchmarks.BenchmarkWarning")


def pair_names(benchmark: Benchmark) -> list[tuple[str, str]]:
    """The pairs by the names of their files without ending."""
    stems = [os.path.splitext(os.path.basename(file))[0] for file in benchmark.images["file"]]
    return [(stems[a], stems[b]) for a, b in benchmark.pairs]


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


# -- LFW and XQLFW ---------------------------------------------------------------------------------------------------


def check_lfw(benchmark: Benchmark) -> None:
    assert pair_names(benchmark) == PAIR_NAMES
    assert benchmark.mated.tolist() == MATED and benchmark.mated.dtype == bool
    assert benchmark.folds.tolist() == [0] * 4 + [1] * 4
    assert benchmark.pairs.dtype == np.int32 and not benchmark.generated and benchmark.pooling is None
    assert benchmark.counts == Counts(images=8, people=4, mated=4, nonmated=4)
    for row, (name, content) in zip(benchmark.images, sorted(lfw_images().items()), strict=True):
        assert row["identity"] == name.split("/")[0] and row["file"].endswith(
            os.path.basename(name)[:-4] + row["file"][-4:]
        )
        np.testing.assert_array_equal(np.asarray(row["image"]), pixels(content))


def test_lfw_folder(tmp_path):
    benchmark = load_benchmark("lfw", make_lfw(tmp_path))
    check_lfw(benchmark)
    assert benchmark.view == "view2" and benchmark.images[0]["file"] == "lfw/Ann_Lee/Ann_Lee_0001.jpg"


def test_lfw_in_a_folder_that_is_a_link_to_itself_and_has_other_files(tmp_path):
    root = make_lfw(tmp_path / "data")
    (root / "again").symlink_to(root, target_is_directory=True)
    write(root / "lfw" / "._Ann_Lee" / "._Ann_Lee_0001.jpg", "macOS")
    write(root / "lfw" / "logo.png", jpeg(50))
    check_lfw(load_benchmark("lfw", root))


@pytest.mark.parametrize("where", ["beside", "named", "inside"])
@pytest.mark.parametrize("suffix", ["tgz", "zip"])
def test_lfw_archive(tmp_path, suffix, where):
    files = {f"lfw/{name}": content for name, content in lfw_images().items()}
    if where == "inside":
        files["lfw/pairs.txt"] = PAIRS.encode()
    else:
        write(tmp_path / "pairs.txt", PAIRS)
    archive = tmp_path / f"lfw.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            for name, content in files.items():
                file.writestr(name, content)
    else:
        with tarfile.open(archive, "w:gz") as file:
            for name, content in files.items():
                info = tarfile.TarInfo(f"./{name}")
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    before = sorted(tmp_path.iterdir())
    benchmark = load_benchmark("lfw", archive if where == "named" else tmp_path)
    check_lfw(benchmark)
    assert "archive" in benchmark.source and sorted(tmp_path.iterdir()) == before


def parquet(path, names, with_name=True) -> None:
    contents = lfw_images()
    columns = {
        "image": [{"bytes": contents[n], "path": None if with_name else os.path.basename(n)} for n in names],
        "identity": [n.split("/")[0] for n in names],
        "landmarks": [[[1.0, 2.0]] * 5 for _ in names],
    }
    if with_name:
        columns["name"] = [os.path.basename(n)[:-4] for n in names]
    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize("with_name", [True, False])
def test_lfw_parquet(tmp_path, with_name):
    names = sorted(lfw_images())
    make_lfw(tmp_path / "lists")
    shutil.rmtree(tmp_path / "lists" / "lfw")
    parquet(tmp_path / "lists" / "dev_test.parquet", names[5:], with_name)
    parquet(tmp_path / "lists" / "dev_train.parquet", names[:5], with_name)
    parquet(tmp_path / "lists" / "raw_sample.parquet", names[:2], with_name)  # is none of the views
    benchmark = load_benchmark("lfw", tmp_path / "lists")
    assert pair_names(benchmark) == PAIR_NAMES and benchmark.counts.images == 8 and benchmark.aligned
    assert benchmark.images.column_names == ["image", "file", "identity"]
    np.testing.assert_array_equal(np.asarray(benchmark.images[0]["image"]), pixels(lfw_images()[names[0]]))
    # One file: its own images alone, the lists beside it.
    with pytest.raises(BenchmarkError, match="line 2: .* the first is Ann_Lee_0001.jpg") as caught:
        load_benchmark("lfw", tmp_path / "lists" / "dev_test.parquet")
    assert caught.value.missing[0] == "Ann_Lee_0001.jpg"


def test_lfw_view1(tmp_path):
    benchmark = load_benchmark("lfw", make_lfw(tmp_path), view="view1")
    assert pair_names(benchmark) == [("Ann_Lee_0001", "Ann_Lee_0003"), ("Ann_Lee_0002", "Bo_0001")]
    assert benchmark.mated.tolist() == [True, False] and benchmark.folds is None
    assert set(benchmark.images["identity"]) == {"Ann_Lee", "Bo"} and len(benchmark.images) == 5
    assert benchmark.expected == Counts(3_708, 1_711, 500, 500)


def test_xqlfw(tmp_path):
    root = make_lfw(tmp_path, "xqlfw_aligned_112")
    (root / "pairs.txt").rename(root / "xqlfw_pairs.txt")
    benchmark = load_benchmark("xqlfw", root)
    assert pair_names(benchmark) == PAIR_NAMES and benchmark.view is None and benchmark.name == "xqlfw"


def test_pairs_file_of_another_place(tmp_path):
    root = make_lfw(tmp_path / "data")
    (root / "pairs.txt").rename(tmp_path / "elsewhere.txt")
    with pytest.raises(BenchmarkError, match="pairs.txt is missing") as caught:
        load_benchmark("lfw", root)
    assert caught.value.missing == ("pairs.txt",)
    check_lfw(load_benchmark("lfw", root, pairs_file=tmp_path / "elsewhere.txt"))
    with pytest.raises(BenchmarkError, match="nowhere.txt: No such file"):
        load_benchmark("lfw", root, pairs_file=tmp_path / "nowhere.txt")


def test_all_pairs(tmp_path):
    benchmark = load_benchmark("lfw", make_lfw(tmp_path), pairs="all")
    np.testing.assert_array_equal(benchmark.pairs, np.stack(np.triu_indices(8, 1), 1))
    identities = np.array(benchmark.images["identity"])
    np.testing.assert_array_equal(
        benchmark.mated, identities[benchmark.pairs[:, 0]] == identities[benchmark.pairs[:, 1]]
    )
    assert benchmark.mated.sum() == 5 and benchmark.folds is None and "all pairs" in benchmark.protocol


# -- what is wrong with LFW ------------------------------------------------------------------------------------------


def test_missing_images_are_all_named(tmp_path):
    root = make_lfw(tmp_path)
    (root / "lfw" / "Bo" / "Bo_0002.jpg").unlink()
    (root / "lfw" / "Dee" / "Dee_0001.jpg").unlink()
    with pytest.raises(BenchmarkError, match="pairs.txt: line 3: 2 images .* the first is Bo_0002.jpg") as caught:
        load_benchmark("lfw", root)
    assert caught.value.missing == ("Bo_0002.jpg", "Dee_0001.jpg")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (PAIRS.replace("Bo\t1\t2", "Bo\t1"), "pairs.txt: line 3: neither .* 'Bo.t1'"),
        (PAIRS.replace("Bo\t1\t2", "Bo\tone\t2"), "pairs.txt: line 3: neither"),
        (PAIRS.replace("2\t2\n", "", 1), "pairs.txt: line 1: the number of pairs"),
        (PAIRS.replace("2\t2\n", "3\t2\n", 1), "pairs.txt: line 1 announces 3 x 2 .* 8 pairs follow"),
        (PAIRS.replace("Ann_Lee\t2\t3", "Ann_Lee\t2\tBo\t1"), "pairs.txt: fold 2 has 1 mated pairs, and not 2"),
        ("", "pairs.txt: line 1"),
        (b"\xff\xfe\x00", "pairs.txt: not a text file"),
    ],
)
def test_a_bad_line_is_named(tmp_path, lines, message):
    write(make_lfw(tmp_path) / "pairs.txt", lines)
    with pytest.raises(BenchmarkError, match=message):
        load_benchmark("lfw", tmp_path)


def test_pairs_are_written_with_blanks_as_well(tmp_path):
    write(make_lfw(tmp_path) / "pairs.txt", PAIRS.replace("\t", " ") + "\n\n")
    check_lfw(load_benchmark("lfw", tmp_path))


def test_two_copies_are_refused(tmp_path):
    make_lfw(make_lfw(tmp_path), "lfw-deepfunneled")
    with pytest.raises(BenchmarkError, match="Ann_Lee_0001 is there twice, as lfw-deepfunneled/.* and lfw/"):
        load_benchmark("lfw", tmp_path)


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(BenchmarkError, match="nowhere: no such file or folder"):
        load_benchmark("lfw", tmp_path / "nowhere")
    write(tmp_path / "pairs.txt", PAIRS)
    with pytest.raises(BenchmarkError, match="neither images nor parquet"):
        load_benchmark("lfw", tmp_path)
    write(tmp_path / "lfw.tgz", b"not an archive")
    with pytest.raises(BenchmarkError, match="lfw.tgz: cannot be read as an archive"):
        load_benchmark("lfw", tmp_path)
    write(tmp_path / "lfw-funneled.tgz", b"nor this")
    with pytest.raises(BenchmarkError, match="holds lfw-funneled.tgz and lfw.tgz; name the one"):
        load_benchmark("lfw", tmp_path)
    write(tmp_path / "x.parquet", b"nor this")
    with pytest.raises(BenchmarkError, match="x.parquet: cannot be read as parquet"):
        load_benchmark("lfw", tmp_path / "x.parquet")
    pq.write_table(pa.table({"image": [1]}), tmp_path / "y.parquet")
    with pytest.raises(BenchmarkError, match="y.parquet: the column identity is missing"):
        load_benchmark("lfw", tmp_path / "y.parquet")


def test_wrong_arguments(tmp_path):
    make_lfw(tmp_path)
    with pytest.raises(ValueError, match="no benchmark 'LFW', only adience, calfw"):
        load_benchmark("LFW", tmp_path)
    with pytest.raises(ValueError, match="view is one of view1, view1-train, view2, not 'view3'"):
        load_benchmark("lfw", tmp_path, view="view3")
    with pytest.raises(TypeError, match="cfp-fp has no option 'view'; it has none"):
        load_benchmark("cfp-fp", tmp_path, view="view1")
    with pytest.raises(ValueError, match="pairs is 'protocol' or 'all'"):
        load_benchmark("lfw", tmp_path, pairs="some")
    with pytest.raises(ValueError, match="pooling is one of mean"):
        load_benchmark("ijb-c", tmp_path, pooling="sum")


def test_counts_are_compared_with_table_1(tmp_path):
    make_lfw(tmp_path)
    message = "8 images where 13,233 are expected; 4 people where 5,749 are expected; 4 mated pairs where 3,000"
    with pytest.warns(BenchmarkWarning, match=message):
        load_benchmark("lfw", tmp_path)
    with pytest.raises(BenchmarkError, match=message):
        load_benchmark("lfw", tmp_path, strict=True)


# -- CALFW, CPLFW, CFP -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["calfw", "cplfw"])
@pytest.mark.parametrize("packed", [False, True])
def test_flat(tmp_path, name, packed):
    root = make_flat(tmp_path / name, f"pairs_{name.upper()}.txt")
    if packed:
        root = shutil.make_archive(tmp_path / f"{name}_packed", "zip", tmp_path, name)
    benchmark = load_benchmark(name, root)
    assert pair_names(benchmark) == [
        ("Ann_Lee_0001", "Ann_Lee_0002"),
        ("Bo_0001", "Bo_0002"),
        ("Ann_Lee_0001", "Bo_0001"),
        ("Bo_0002", "Ann_Lee_0002"),
    ]
    assert benchmark.mated.tolist() == [True, True, False, False] and benchmark.folds.tolist() == [0, 1, 0, 1]
    assert benchmark.images["identity"][:] == ["Ann_Lee", "Ann_Lee", "Bo", "Bo"]
    points = [[x + 0.5, x + 1.25] for x in range(5)]
    assert benchmark.images["landmarks"][:] == [points, None, None, None]
    np.testing.assert_array_equal(np.asarray(benchmark.images[2]["image"]), pixels(jpeg(2)))

    aligned = load_benchmark(name, root, images="aligned")
    assert "landmarks" not in aligned.images.column_names
    np.testing.assert_array_equal(np.asarray(aligned.images[2]["image"]), pixels(jpeg(102)))


def test_flat_pairs_without_folds(tmp_path):
    root = make_flat(tmp_path, "pairs_CPLFW.txt")
    lines = (root / "pairs_CPLFW.txt").read_text().replace("\t2\n", "\t1\n")
    write(root / "pairs_CPLFW.txt", lines)
    benchmark = load_benchmark("cplfw", root)
    assert benchmark.mated.tolist() == [True, True, False, False] and benchmark.folds is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Ann_Lee_0002.jpg\t1", "Ann_Lee_0002.jpg\t0", "line 2: label 0, and 1 on the line before"),
        ("Ann_Lee_0002.jpg\t1", "Ann_Lee_0002.jpg", "line 2: not 'file label': 'Ann_Lee_0002.jpg'"),
        ("Bo_0002.jpg\t2", "Bo_0009.jpg\t2", "line 3: missing Bo_0009.jpg"),
        ("Bo_0002.jpg\t2\n", "", "7 lines, and a pair takes two"),
    ],
)
def test_flat_errors(tmp_path, old, new, message):
    path = make_flat(tmp_path, "pairs_CALFW.txt") / "pairs_CALFW.txt"
    write(path, path.read_text().replace(old, new))
    with pytest.raises(BenchmarkError, match=f"pairs_CALFW.txt: {message}"):
        load_benchmark("calfw", tmp_path)


def test_flat_landmarks_that_are_none(tmp_path):
    root = make_flat(tmp_path, "pairs_CALFW.txt")
    write(root / "CA_landmarks" / "Bo_0001_5loc_attri.txt", "1 2\n3 4\n")
    with pytest.raises(BenchmarkError, match="Bo_0001_5loc_attri.txt: not five lines 'x y'"):
        load_benchmark("calfw", root)
    shutil.rmtree(root / "aligned images")
    with pytest.raises(BenchmarkError, match="there are no aligned images, only original ones"):
        load_benchmark("calfw", root, images="aligned")


@pytest.mark.parametrize("packed", [False, True])
def test_cfp(tmp_path, packed):
    root = make_cfp(tmp_path / "cfp-dataset")
    if packed:
        root = shutil.make_archive(tmp_path / "cfp-packed", "zip", tmp_path, "cfp-dataset")
    benchmark = load_benchmark("cfp-fp", root)
    assert benchmark.counts == Counts(images=6, people=2, mated=3, nonmated=3)
    files = ["/".join(file.split("/")[-3:]) for file in benchmark.images["file"]]
    assert files[:5] == [
        "001/frontal/01.jpg",
        "001/frontal/02.jpg",
        "002/frontal/01.jpg",
        "002/frontal/02.jpg",
        "001/profile/01.jpg",
    ]
    assert benchmark.images["identity"][:] == ["001", "001", "002", "002", "001", "002"]
    assert benchmark.pairs.tolist() == [[0, 4], [1, 4], [0, 5], [1, 5], [2, 5], [3, 4]]
    assert benchmark.mated.tolist() == [True, True, False, False, True, False]
    assert benchmark.folds.tolist() == [0, 0, 0, 0, 1, 1]
    assert benchmark.images[5]["image"].size == (16, 16)


def test_cfp_errors(tmp_path):
    root = make_cfp(tmp_path)
    diff = root / "Protocol" / "Split" / "FP" / "02" / "diff.txt"
    write(diff, "4,1\n\n4;2\n")
    with pytest.raises(BenchmarkError, match="FP/02/diff.txt: line 3: not 'frontal,profile': '4;2'"):
        load_benchmark("cfp-fp", root)
    write(diff, "4,3\n")
    with pytest.raises(BenchmarkError, match="FP/02/diff.txt: line 1: 3 is no number"):
        load_benchmark("cfp-fp", root)
    diff.unlink()
    with pytest.raises(BenchmarkError, match="Protocol/Split/FP/02/diff.txt is missing"):
        load_benchmark("cfp-fp", root)
    (root / "Data" / "Images" / "002" / "profile" / "01.jpg").unlink()
    with pytest.raises(BenchmarkError, match="1 images that are missing, the first is Data/Images/002/profile/01.jpg"):
        load_benchmark("cfp-fp", root)
    (root / "Protocol" / "Pair_list_P.txt").unlink()
    with pytest.raises(BenchmarkError, match="Pair_list_P.txt of CFP-FP is missing"):
        load_benchmark("cfp-fp", root)


# -- Adience ---------------------------------------------------------------------------------------------------------


def test_adience(tmp_path):
    benchmark = load_benchmark("adience", make_adience(tmp_path), num_pairs=4)
    assert benchmark.generated and "not published" in benchmark.protocol and "seed 0" in benchmark.protocol
    assert benchmark.counts == Counts(images=8, people=4, mated=4, nonmated=4) and benchmark.folds is None
    identities = np.array(benchmark.images["identity"])
    assert identities.tolist() == ["1", "1", "1", "2", "3", "3", "4", "4"]
    np.testing.assert_array_equal(
        benchmark.mated, identities[benchmark.pairs[:, 0]] == identities[benchmark.pairs[:, 1]]
    )
    assert len({tuple(pair) for pair in benchmark.pairs.tolist()}) == 8
    again = load_benchmark("adience", tmp_path, num_pairs=4)
    np.testing.assert_array_equal(benchmark.pairs, again.pairs)
    other = load_benchmark("adience", tmp_path, num_pairs=4, seed=1)
    assert not np.array_equal(benchmark.pairs, other.pairs)
    np.testing.assert_array_equal(np.asarray(benchmark.images[3]["image"]), pixels(jpeg(3)))


def test_adience_of_coarse_faces_and_what_is_missing(tmp_path):
    root = make_adience(tmp_path, "coarse_tilt_aligned_face", "faces")
    assert load_benchmark("adience", root).images[0]["file"] == "faces/7@N01/coarse_tilt_aligned_face.1.a.jpg"
    (root / "faces" / "8@N02" / "coarse_tilt_aligned_face.3.b.jpg").unlink()
    with pytest.raises(BenchmarkError, match="1 images .* is 8@N02/coarse_tilt_aligned_face.3.b.jpg"):
        load_benchmark("adience", root)
    write(root / "fold_1_data.txt", "user_id\n8@N02\n")
    with pytest.raises(BenchmarkError, match="fold_1_data.txt: line 2"):
        load_benchmark("adience", root)
    (root / "fold_1_data.txt").unlink()
    with pytest.raises(BenchmarkError, match="fold_1_data.txt of Adience is missing"):
        load_benchmark("adience", root)


def test_drawn_pairs_are_frozen():
    # The stream of RandomState never changes: these are the pairs of this seed for good.
    identities = np.repeat(np.arange(5), 3)
    pairs, mated = draw_pairs(identities, 3, 7)
    assert (
        pairs.tolist() == [[7, 8], [4, 5], [9, 11], [4, 6], [0, 7], [0, 12]]
        and mated.tolist() == [True] * 3 + [False] * 3
    )


def test_drawn_pairs_are_all_there_are_where_more_are_asked():
    identities = np.array(["a", "b", "a", "a", "c"])
    pairs, mated = draw_pairs(identities, 1000, 0)
    assert sorted(map(tuple, np.sort(pairs, 1).tolist())) == [(i, j) for i in range(5) for j in range(i + 1, 5)]
    np.testing.assert_array_equal(mated, identities[pairs[:, 0]] == identities[pairs[:, 1]])
    alone, _ = draw_pairs(np.array(["a", "a"]), 5, 0)
    assert alone.tolist() == [[0, 1]]


def test_drawn_pairs_are_uniform():
    identities = np.repeat(np.arange(20), [2] * 10 + [6] * 10)
    counts = np.zeros((80, 80))
    for seed in range(400):
        pairs, _ = draw_pairs(identities, 20, seed)
        np.add.at(counts, tuple(np.sort(pairs, 1).T), 1)
    same = identities[:, None] == identities
    upper = np.triu(np.ones((80, 80), bool), 1)
    assert counts[upper & same].sum() == counts[upper & ~same].sum() == 8000
    for kind in (same, ~same):
        drawn = counts[upper & kind]
        assert ((drawn - drawn.mean()) ** 2 / drawn.mean()).sum() / len(drawn) < 1.3  # chi square by its freedom


# -- IJB-C -----------------------------------------------------------------------------------------------------------


def test_ijbc(tmp_path):
    benchmark = load_benchmark("ijb-c", make_ijbc(tmp_path))
    assert benchmark.templates.tolist() == [5, 12, 30] and benchmark.num_units == 3
    assert benchmark.pairs.tolist() == [[0, 1], [0, 2], [2, 1]] and benchmark.mated.tolist() == [True, False, False]
    assert benchmark.counts == Counts(images=5, mated=1, nonmated=2, templates=3)
    row = benchmark.images[2]
    assert (row["template"], row["media"], row["identity"]) == (12, 901, None)
    assert row["landmarks"] == [[x + 0.5, x + 1.5] for x in range(0, 10, 2)]
    np.testing.assert_array_equal(np.asarray(row["image"]), pixels(jpeg(2)))
    assert benchmark.pooling == "mean" and "mean" in benchmark.protocol


@pytest.mark.parametrize(("pooling", "expected"), [("mean", 14 / 3), ("median", 3), ("min", 1), ("max", 10)])
def test_pooled_quality(tmp_path, pooling, expected):
    benchmark = load_benchmark("ijb-c", make_ijbc(tmp_path), pooling=pooling)
    np.testing.assert_allclose(benchmark.pool_qualities([10, 1, 3, 7, 8]), [7, expected, 8])
    # An image without a score is left out; a template without any is NaN.
    np.testing.assert_allclose(benchmark.pool_qualities([np.nan, 2, 2, np.nan, 8]), [np.nan, 2, 8])
    with pytest.raises(ValueError, match=r"must be \(5,\)"):
        benchmark.pool_qualities([1, 2, 3])


def test_pooled_embeddings(tmp_path):
    benchmark = load_benchmark("ijb-c", make_ijbc(tmp_path))
    embeddings = np.array([[1, 0], [0, 2], [0, 4], [5, 6], [7, 8]])
    np.testing.assert_allclose(benchmark.pool_embeddings(embeddings), [[5, 6], [1, 3], [7, 8]])
    with pytest.raises(ValueError, match=r"must be \(5, D\)"):
        benchmark.pool_embeddings(embeddings[:2])


def test_ijbc_of_the_paired_templates(tmp_path):
    root = make_ijbc(tmp_path)
    write(root / "meta" / "ijbc_template_pair_label.txt", "30 12 0\n")
    benchmark = load_benchmark("ijb-c", root).paired_only()
    assert benchmark.templates.tolist() == [12, 30] and benchmark.pairs.tolist() == [[1, 0]]
    assert benchmark.images["template"][:] == [12, 12, 12, 30]
    np.testing.assert_allclose(benchmark.pool_qualities([1, 2, 3, 9]), [2, 9])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("ijbc_template_pair_label.txt", "5 12 1\n5 31 0\n", "line 2: template 31 has no image"),
        ("ijbc_template_pair_label.txt", "5 12 1\n5 30 2\n", "line 2: label 2 is not 0 or 1"),
        ("ijbc_template_pair_label.txt", "5 12 1\n5 30\n", "pair_label.txt: .*Row #2"),
        ("ijbc_template_pair_label.txt", "5 x 1\n", "pair_label.txt: .*Row #1.*'x'"),
        ("ijbc_face_tid_mid.txt", "9.jpg 1 1\n", "list different images"),
    ],
)
def test_ijbc_errors(tmp_path, file, content, message):
    write(make_ijbc(tmp_path) / "meta" / file, content)
    with pytest.raises(BenchmarkError, match=message):
        load_benchmark("ijb-c", tmp_path)


def test_ijbc_without_an_image(tmp_path):
    (make_ijbc(tmp_path) / "loose_crop" / "3.jpg").unlink()
    with pytest.raises(BenchmarkError, match="1 images .* the first is loose_crop/3.jpg"):
        load_benchmark("ijb-c", tmp_path)


def test_ijbc_of_nist(tmp_path):
    with pytest.warns(BenchmarkWarning, match="3 people where 3,531 are expected"):
        benchmark = load_benchmark("ijb-c", make_nist_ijbc(tmp_path), pooling="min")
    assert benchmark.templates.tolist() == [3, 4, 5, 12, 30]
    assert benchmark.pairs.tolist() == [[2, 3], [0, 3], [0, 4], [1, 4]]
    assert benchmark.mated.tolist() == [True, False, True, False] and not benchmark.aligned
    assert benchmark.counts == Counts(images=7, people=3, mated=2, nonmated=2, templates=5)
    row = benchmark.images[1]
    assert (row["file"], row["identity"], row["template"], row["media"]) == ("images/img/1.jpg", "8", 3, 901)
    assert row["box"] == [60, 20, 30, 40] and "landmarks" not in row
    # The frames of a video are one medium, and people are those of the lists: 8, 9, 7, 7, 8.
    assert benchmark.images["media"][:] == [900, 901, 902, 903, 904, 904, 905]
    embeddings = np.array([[1, 0], [2, 0], [3, 0], [0, 1], [0, 2], [0, 4], [4, 0]])
    np.testing.assert_allclose(benchmark.pool_embeddings(embeddings), [[2, 0], [3, 0], [1, 0], [0, 4], [4, 0]])
    np.testing.assert_allclose(benchmark.pool_qualities([1, 2, 3, 9, 8, 7, 4]), [2, 3, 1, 7, 4])
    labels = benchmark.unit_identities()
    assert labels[0] == labels[4] and labels[2] == labels[3] and len(set(labels.tolist())) == 3
    # Whoever takes both packings has landmarks by the first.
    make_ijbc(tmp_path)
    assert "landmarks" in load_benchmark("ijb-c", tmp_path).images.column_names


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("matches", "5,12\n3,31\n", "G1_G2_matches.csv: line 2: template 31 has no image"),
        ("matches", "ENROLL,VERIF\n5,12\n", "G1_G2_matches.csv: .*Row #1.*'ENROLL'"),
        ("probe", "TEMPLATE_ID,SUBJECT_ID,FILENAME\n1,2,img/1.jpg\n", "probe_mixed.csv: .*'SIGHTING_ID'"),
        ("probe", "{header}12,7,img/2.jpg,903,1,,3,4\n", "probe_mixed.csv: line 2: FACE_Y is missing"),
        ("probe", "{header}12,7,img/2.jpg,x,1,2,3,4\n", "probe_mixed.csv: .*Row #2.*'x'"),
        ("probe", "{header}12,7,img/9.jpg,903,1,2,3,4\n", "1 images that .* are missing, the first is img/9.jpg"),
        ("probe", "{header}5,8,img/2.jpg,903,1,2,3,4\n", "template 5 is of several people"),
        ("probe", None, "ijbc_1N_probe_mixed.csv of IJB-C is missing"),
        ("matches", None, "ijbc_11_G1_G2_matches.csv of IJB-C is missing"),
    ],
)
def test_ijbc_of_nist_errors(tmp_path, file, content, message):
    names = {"matches": "ijbc_11_G1_G2_matches.csv", "probe": "ijbc_1N_probe_mixed.csv"}
    path = make_nist_ijbc(tmp_path) / "protocols" / names[file]
    if content is None:
        path.unlink()
    else:
        header = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT\n"
        write(path, content.replace("{header}", header))
    with pytest.raises(BenchmarkError, match=message):
        load_benchmark("ijb-c", tmp_path)


def test_ijbc_that_is_not_read(tmp_path):
    for name in ("enroll_templates.csv", "verif_templates.csv", "match.csv"):
        write(tmp_path / "protocols" / "test1" / name, "")
    with pytest.raises(BenchmarkError, match="test1/ is not read, as its lists don't say which frames"):
        load_benchmark("ijb-c", tmp_path)
    make_nist_ijbc(tmp_path)
    write(tmp_path / "copy" / "img" / "2.jpg", jpeg(0))
    with pytest.raises(BenchmarkError, match="img/2.jpg is there more than once"):
        load_benchmark("ijb-c", tmp_path)


def test_a_box_is_cut_out():
    picture = np.arange(50 * 80 * 3, dtype=np.uint8).reshape(50, 80, 3)
    # 30 % of 20 and of 10 around (20, 30) to (40, 40); at the border what there is.
    np.testing.assert_array_equal(np.asarray(crop_to_box(picture, [20, 30, 20, 10])), picture[27:43, 14:46])
    np.testing.assert_array_equal(np.asarray(crop_to_box(picture, [-2, 0, 20, 49])), picture[:, :24])
    with pytest.raises(FaceImageError, match="the box 100, 0, 10, 10 lies outside of the picture of 80x50 pixels"):
        crop_to_box(picture, [100, 0, 10, 10])


# -- insightface's packages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [card.name for card in BENCHMARKS if card.bin_file])
@pytest.mark.parametrize("arrays", [False, True])
def test_package(tmp_path, name, arrays):
    path = make_bin(tmp_path / get_benchmark_card(name).bin_file, arrays=arrays)
    for root in (path, tmp_path):
        benchmark = load_benchmark(name, root)
        # 20 images, of which two are the same: its second pair is of the first image as well.
        assert benchmark.pairs[:3].tolist() == [[0, 1], [0, 2], [3, 4]] and len(benchmark.images) == 19
        assert benchmark.mated.tolist() == [True, True, False, False, True] * 2
        assert benchmark.folds.tolist() == list(range(10))
        assert benchmark.images["identity"][:] == [None] * 19 and benchmark.images["file"][2] == f"{path.name}#3"
        np.testing.assert_array_equal(np.asarray(benchmark.images[2]["image"]), pixels(jpeg(2)))
        assert benchmark.expected.images is None and benchmark.expected.mated == get_benchmark_card(name).counts.mated


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("arrays", [False, True])
def test_package_of_every_pickle_protocol(tmp_path, protocol, arrays):
    images, same = read_bin(make_bin(tmp_path / "lfw.bin", protocol, arrays))
    assert images == [jpeg(seed) for seed in (0, 1, 0, 2, *range(3, 19))]
    assert same == [True, True, False, False, True] * 2


def test_package_as_python_2_wrote_it(tmp_path):
    # Protocol 2 with its byte strings (U, T), and NumPy's module as it was called then.
    image = jpeg(0)
    string = b"T" + len(image).to_bytes(4, "little") + image
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    dtype = b"cnumpy\ndtype\n(U\x02b1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    labels = array + b"(K\x01(K\x01t" + dtype + b"\x89U\x01\x01tb"
    write(tmp_path / "lfw.bin", b"\x80\x02(](" + string + string + b"e" + labels + b"t.")
    assert read_bin(tmp_path / "lfw.bin") == ([image, image], [True])


def test_package_of_other_arrays(tmp_path):
    images = np.array([jpeg(0), jpeg(1)])  # one string type for all, filled up with zeros
    for same in (
        np.array([1]),
        np.array([256], np.int64),
        np.array([True]),
        [np.bool_(True)],
        np.array([True], object),
    ):
        with open(tmp_path / "lfw.bin", "wb") as file:
            pickle.dump((images, same), file)
        assert read_bin(tmp_path / "lfw.bin") == ([jpeg(0), jpeg(1)], [True])


class Runs:
    """A pickle of it runs what it was given."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "function, args",
    [
        (os.system, ("touch {mark}",)),
        (eval, ("open({mark!r}, 'w')",)),
        (getattr, ("text", "upper")),
        (np.frombuffer, (b"1",)),
        (np.load, ("{mark}",)),
    ],
)
def test_malicious_package(tmp_path, function, args):
    mark = str(tmp_path / "mark")
    args = tuple(arg.format(mark=mark) if isinstance(arg, str) else arg for arg in args)
    for content in (
        Runs(function, *args),
        ([jpeg(0), jpeg(1)], Runs(function, *args)),
        ([Runs(function, *args)], [1]),
    ):
        with open(tmp_path / "lfw.bin", "wb") as file:
            pickle.dump(content, file)
        with pytest.raises(
            BenchmarkError, match="lfw.bin: not a verification package .*names .*no such package needs"
        ):
            load_benchmark("lfw", tmp_path)
    assert not os.path.exists(mark)


def test_package_cannot_reach_past_the_stand_ins(tmp_path):
    attacks = {
        # Attributes of what is allowed, by a dotted name.
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0fdtype.__class__\x93.",
        # A state for a function: its defaults, by the second half of BUILD.
        "state": b"\x80\x02c_codecs\nencode\n(N}U\x0c__defaults__(U\x01xtstb.",
        "encoding": b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00utf-8tR.",
        # An array whose dtype says that bytes are objects, which are pointers.
        "pointers": b"\x80\x02(](U\x01aU\x01aecnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        b"(K\x01(K\x01tcnumpy\ndtype\n(U\x02V8K\x00K\x01tR(K\x03U\x01|NNNK\x08K\x01K\x3ftb\x89U\x08AAAAAAAAtbt.",
        "huge": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "truncated": make_bin(tmp_path / "whole.bin").read_bytes()[:-100],
        "empty": b"",
        "text": b"not a pickle at all",
        "number": pickle.dumps(3),
        "one list": pickle.dumps([jpeg(0), jpeg(1)]),
        "no lists": pickle.dumps((jpeg(0), True)),
        "numbers": pickle.dumps(([1, 2], [True])),
    }
    for name, content in attacks.items():
        write(tmp_path / "lfw.bin", content)
        match = "lfw.bin: empty file" if name == "empty" else "lfw.bin: not a verification package"
        with pytest.raises(BenchmarkError, match=match):
            read_bin(tmp_path / "lfw.bin")
            pytest.fail(name)
    from diffiqa_hf.evaluation.benchmarks import insightface_bin

    assert insightface_bin._encode.__defaults__ == ("latin1",)


def test_package_of_the_wrong_length(tmp_path):
    with open(tmp_path / "lfw.bin", "wb") as file:
        pickle.dump(([jpeg(0)] * 3, [True, False]), file)
    with pytest.raises(BenchmarkError, match="3 images for 2 pairs"):
        read_bin(tmp_path / "lfw.bin")
    with pytest.raises(BenchmarkError, match="nowhere.bin: no such file"):
        read_bin(tmp_path / "nowhere.bin")


def test_package_has_one_view_and_no_other_pairs(tmp_path):
    make_bin(tmp_path / "lfw.bin")
    with pytest.raises(BenchmarkError, match="is View 2 of LFW"):
        load_benchmark("lfw", tmp_path, view="view1")
    with pytest.raises(BenchmarkError, match="has no identities"):
        load_benchmark("lfw", tmp_path, pairs="all")
    with pytest.raises(BenchmarkError, match="Adience is not read from a package"):
        load_benchmark("adience", tmp_path / "lfw.bin")


# -- what every benchmark offers -------------------------------------------------------------------------------------


def test_people_of_units(tmp_path):
    named = load_benchmark("lfw", make_lfw(tmp_path / "lfw"))
    labels = named.unit_identities()
    assert labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    # Without names people are who mated pairs join: images 0, 1 and 2 by the first two of the package.
    package = load_benchmark("lfw", make_bin(tmp_path / "lfw.bin"))
    labels = package.unit_identities()
    assert labels.shape == (19,) and labels[0] == labels[1] == labels[2]
    same = labels[package.pairs[:, 0]] == labels[package.pairs[:, 1]]
    np.testing.assert_array_equal(same, package.mated)


def test_paired_only(tmp_path):
    benchmark = load_benchmark("lfw", make_lfw(tmp_path), view="view1")
    small = benchmark.paired_only()
    assert len(benchmark.images) == 5 and len(small.images) == 4
    assert pair_names(small) == pair_names(benchmark) and small.pairs.dtype == np.int32
    np.testing.assert_array_equal(small.pool_qualities([1, 2, 3, 4]), [1, 2, 3, 4])
    embeddings = np.eye(4)
    np.testing.assert_array_equal(small.pool_embeddings(embeddings), embeddings)


def test_the_landmarks_align(tmp_path):
    # The landmarks that a row has are those of its picture: the processor takes both.
    root = make_ijbc(tmp_path)
    points = [(60, 60), (100, 62), (80, 85), (64, 105), (96, 106)]
    for name in ("1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"):
        write(root / "loose_crop" / name, jpeg(3, size=160))
    line = " ".join(f"{x} {y}" for x, y in points)
    write(root / "meta" / "ijbc_name_5pts_score.txt", "".join(f"{i}.jpg {line} 0.9\n" for i in range(1, 6)))
    row = load_benchmark("ijb-c", root).images[0]
    (face,) = FaceImageProcessor().extract_faces(row["image"], row["landmarks"])
    assert face.pixel_values.shape == (3, 112, 112)
    np.testing.assert_allclose(face.landmarks, points)


def test_which_images_are_aligned(tmp_path):
    def aligned(name, root, **options):
        return load_benchmark(name, root, **options).aligned

    lfw = make_lfw(tmp_path / "lfw")
    assert not aligned("lfw", lfw)
    write(tmp_path / "xqlfw" / "xqlfw_pairs.txt", PAIRS)
    for name in lfw_images():
        write(tmp_path / "xqlfw" / "crops" / name, jpeg(0, size=112))
    assert aligned("xqlfw", tmp_path / "xqlfw")
    with zipfile.ZipFile(tmp_path / "xqlfw" / "crops.zip", "w") as archive:
        for name in lfw_images():
            archive.writestr(f"crops/{name}", (tmp_path / "xqlfw" / "crops" / name).read_bytes())
    assert aligned("xqlfw", tmp_path / "xqlfw" / "crops.zip")
    for name in lfw_images():
        write(tmp_path / "xqlfw" / "crops" / name, jpeg(0, size=250))
    assert not aligned("xqlfw", tmp_path / "xqlfw")
    write(tmp_path / "xqlfw" / "crops" / min(lfw_images()), b"broken")
    assert not aligned("xqlfw", tmp_path / "xqlfw")
    assert aligned("lfw", make_bin(tmp_path / "lfw.bin"))
    calfw = make_flat(tmp_path / "calfw", "pairs_CALFW.txt")
    assert aligned("calfw", calfw, images="aligned") and not aligned("calfw", calfw)
    assert not aligned("cfp-fp", make_cfp(tmp_path / "cfp"))
    assert not aligned("adience", make_adience(tmp_path / "adience"))
    assert not aligned("ijb-c", make_ijbc(tmp_path / "ijbc"))


def test_a_benchmark_checks_itself(tmp_path):
    images = load_benchmark("lfw", make_lfw(tmp_path)).images
    pairs, mated = np.zeros((2, 2), np.int32), np.ones(2, bool)
    with pytest.raises(ValueError, match="given together"):
        Benchmark("x", images, pairs, mated, pooling="mean")
    with pytest.raises(ValueError, match="pooling is one of"):
        Benchmark("x", images, pairs, mated, templates=np.arange(2), pooling="sum")
    with pytest.raises(ValueError, match=r"pairs must be \(P, 2\)"):
        Benchmark("x", images, pairs, mated[:1])
    with pytest.raises(ValueError, match="folds must be"):
        Benchmark("x", images, pairs, mated, folds=np.arange(3))


def test_cards_have_the_counts_of_the_paper():
    table_1 = {
        "adience": (19_370, 2_284, 20_000, 20_000),
        "calfw": (12_174, 4_025, 3_000, 3_000),
        "cfp-fp": (7_000, 500, 3_500, 3_500),
        "cplfw": (11_652, 3_930, 3_000, 3_000),
        "ijb-c": (23_124, 3_531, 19_557, 15_638_932),
        "lfw": (13_233, 5_749, 3_000, 3_000),
        "xqlfw": (13_233, 5_749, 3_000, 3_000),
    }
    for name, row in table_1.items():
        counts = get_benchmark_card(name).counts
        assert (counts.templates or counts.images, counts.people, counts.mated, counts.nonmated) == row
    assert [card.name for card in BENCHMARKS] == [*table_1, "agedb-30"]


# -- the real LFW ----------------------------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize("view", ["view1", "view1-train", "view2"])
def test_lfw_itself(shared_dir, view):
    with warnings.catch_warnings():
        warnings.simplefilter("error", BenchmarkWarning)
        benchmark = load_benchmark("lfw", shared_dir / "data" / "lfw", view=view, strict=True)
    assert benchmark.counts == get_benchmark_card("lfw").views[view]
    identities = np.array(benchmark.images["identity"])
    first, second = benchmark.pairs.T
    np.testing.assert_array_equal(identities[first] == identities[second], benchmark.mated)
    assert (first != second).all()
    files = benchmark.images["file"]
    assert all(file.rpartition("_")[0] == identity for file, identity in zip(files, identities, strict=True))
    assert benchmark.images[0]["image"].size == (112, 112)
    if view == "view2":
        assert np.bincount(benchmark.folds).tolist() == [600] * 10
        # The folds of View 2 share no person.
        people = [set(identities[benchmark.pairs[benchmark.folds == fold]].ravel()) for fold in range(10)]
        assert sum(map(len, people)) == len(set.union(*people))
        assert len(benchmark.paired_only().images) == 7_701


@pytest.mark.parametrize(
    "content", [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"<!DOCTYPE html>"]
)
@pytest.mark.parametrize("name", ["pairs.txt", "lfw.bin", "lfw.zip", "train.parquet"])
def test_what_lies_in_the_place_of_a_file_is_called_so(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    root = tmp_path if name == "pairs.txt" else tmp_path / name
    if name == "pairs.txt":
        (tmp_path / "Ann").mkdir()
        (tmp_path / "Ann" / "Ann_0001.jpg").touch()
    with pytest.raises(BenchmarkError, match=f"{name}: an? (Git LFS pointer|HTML or XML page)"):
        load_benchmark("lfw", root)
