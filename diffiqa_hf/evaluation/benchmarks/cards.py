# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""A card for each benchmark: where a person gets it, under which terms, and what to put where. Nothing is imported."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .benchmark import Counts


@dataclass(frozen=True)
class BenchmarkCard:
    """
    What there is to know of a benchmark before it is read.

    Args:
        name (`str`): What [`load_benchmark`] and the command line call it.
        title (`str`): What its authors call it.
        paper (`str`): Where it was published.
        challenge (`str`): What makes its faces hard.
        counts (`Counts`): By Table 1 of the paper (of AgeDB-30: of the package).
        sources (`tuple[str, ...]`): Where a person gets it.
        terms (`str`): Licence or terms of use, as far as they are stated.
        layouts (`tuple[tuple[str, str], ...]`): What is read: a heading and the tree of files.
        alignment (`str`): Whether the images are aligned, and what aligns them.
        protocol (`str`): Which comparisons are made.
        options (`tuple[str, ...]`): What [`load_benchmark`] takes for it besides `pairs` and `strict`.
        views (`Mapping[str, Counts]`): Of LFW, with their counts.
        bin_file (`str`, *optional*): insightface's package of it.
        pair_file (`str`, *optional*): The list of its pairs.
        notes (`tuple[str, ...]`): Traps.
    """

    name: str
    title: str
    paper: str
    challenge: str
    counts: Counts
    sources: tuple[str, ...]
    terms: str
    layouts: tuple[tuple[str, str], ...]
    alignment: str
    protocol: str
    options: tuple[str, ...] = ()
    views: Mapping[str, Counts] = field(default_factory=dict)
    bin_file: str | None = None
    pair_file: str | None = None
    notes: tuple[str, ...] = ()


_INSIGHTFACE = (
    "insightface's packages ({file}): they come with its training sets (faces_emore and others), see "
    "https://github.com/deepinsight/insightface/tree/master/recognition/_datasets_"
)
_INSIGHTFACE_TERMS = " insightface gives its packages out for non-commercial research."
_BIN_ALIGNED = "The images of {file} are aligned (112x112)"


def _package(file: str) -> tuple[str, str]:
    return f"insightface's package (or the path of {file} itself)", f"ROOT/\n  {file}"


BENCHMARKS = (
    BenchmarkCard(
        name="adience",
        title="Adience",
        paper="Eidinger, Enbar and Hassner, Age and Gender Estimation of Unfiltered Faces, TIFS 2014",
        challenge="everything that amateur photographs have",
        counts=Counts(images=19_370, people=2_284, mated=20_000, nonmated=20_000),
        sources=(
            "https://talhassner.github.io/home/projects/Adience/Adience-data.html (after registration): "
            "aligned.tar.gz or faces.tar.gz, and fold_0_data.txt to fold_4_data.txt",
        ),
        terms="For research, under the terms of its page; the photographs come from Flickr, under Creative Commons.",
        layouts=(
            (
                "unpacked",
                "ROOT/\n"
                "  fold_0_data.txt ... fold_4_data.txt\n"
                "  aligned/USER/landmark_aligned_face.FACE.PICTURE.jpg\n"
                "  (or faces/USER/coarse_tilt_aligned_face.FACE.PICTURE.jpg)",
            ),
        ),
        alignment="No image is aligned to the ArcFace template, those of aligned/ are only upright and larger than "
        "the face: FaceImageProcessor(do_align=True) finds the landmarks.",
        protocol="The paper's pairs are not published. We draw 20,000 mated and 20,000 non-mated pairs, uniformly "
        "without replacement from all there are, with numpy.random.RandomState(seed), seed 0. A person is a face_id.",
        options=("images", "seed", "num_pairs"),
        notes=("Values on other pairs than the paper's can't be compared with the paper's to the last digit.",),
    ),
    BenchmarkCard(
        name="calfw",
        title="CALFW",
        paper="Zheng, Deng and Hu, Cross-Age LFW, arXiv:1708.08197, 2017",
        challenge="age differences",
        counts=Counts(images=12_174, people=4_025, mated=3_000, nonmated=3_000),
        sources=("http://whdeng.cn/CALFW: calfw.zip", _INSIGHTFACE.format(file="calfw.bin")),
        terms="For research; no licence is stated with the files that we know of." + _INSIGHTFACE_TERMS,
        layouts=(
            (
                "official (or calfw.zip itself)",
                "ROOT/\n"
                "  pairs_CALFW.txt\n"
                "  images/Name_0001.jpg\n"
                "  CA_landmarks/Name_0001_5loc_attri.txt\n"
                "  aligned images/Name_0001.jpg",
            ),
            _package("calfw.bin"),
        ),
        alignment="images/ is not aligned, and its landmarks are given where their files are there; aligned images/ "
        f"is, by its authors' crop. {_BIN_ALIGNED.format(file='calfw.bin')}.",
        protocol="pairs_CALFW.txt. It marks the fold of mated pairs only; non-mated pairs are dealt to the folds in "
        "their order.",
        options=("pairs_file", "images"),
        bin_file="calfw.bin",
        pair_file="pairs_CALFW.txt",
    ),
    BenchmarkCard(
        name="cfp-fp",
        title="CFP-FP",
        paper="Sengupta et al., Frontal to Profile Face Verification in the Wild, WACV 2016",
        challenge="frontal against profile",
        counts=Counts(images=7_000, people=500, mated=3_500, nonmated=3_500),
        sources=("http://www.cfpw.io: cfp-dataset.zip", _INSIGHTFACE.format(file="cfp_fp.bin")),
        terms="For research, under the terms of its page." + _INSIGHTFACE_TERMS,
        layouts=(
            (
                "official (or cfp-dataset.zip itself)",
                "ROOT/\n"
                "  Protocol/Pair_list_F.txt, Protocol/Pair_list_P.txt\n"
                "  Protocol/Split/FP/01/same.txt, diff.txt ... 10/\n"
                "  Data/Images/001/frontal/01.jpg ... 500/profile/04.jpg",
            ),
            _package("cfp_fp.bin"),
        ),
        alignment="Not aligned. Its 30 fiducials are not named, and a profile shows one eye, so that no five points "
        f"can be taken from them: the detector finds them. {_BIN_ALIGNED.format(file='cfp_fp.bin')}.",
        protocol="Ten folds of Protocol/Split/FP; a person is the number of the folder.",
        bin_file="cfp_fp.bin",
        notes=("Where the detector misses a profile, the image has no score; cfp_fp.bin has no such gap.",),
    ),
    BenchmarkCard(
        name="cplfw",
        title="CPLFW",
        paper="Zheng and Deng, Cross-Pose LFW, BUPT technical report 18-01, 2018",
        challenge="pose differences",
        counts=Counts(images=11_652, people=3_930, mated=3_000, nonmated=3_000),
        sources=("http://whdeng.cn/CPLFW: cplfw.zip", _INSIGHTFACE.format(file="cplfw.bin")),
        terms="For research; no licence is stated with the files that we know of." + _INSIGHTFACE_TERMS,
        layouts=(
            (
                "official (or cplfw.zip itself)",
                "ROOT/\n"
                "  pairs_CPLFW.txt\n"
                "  images/Name_1.jpg\n"
                "  CP_landmarks/Name_1_5loc_attri.txt\n"
                "  aligned images/Name_1.jpg",
            ),
            _package("cplfw.bin"),
        ),
        alignment="images/ is not aligned, and its landmarks are given where their files are there; aligned images/ "
        f"is, by its authors' crop. {_BIN_ALIGNED.format(file='cplfw.bin')}.",
        protocol="pairs_CPLFW.txt: two lines a pair, label 0 for two people.",
        options=("pairs_file", "images"),
        bin_file="cplfw.bin",
        pair_file="pairs_CPLFW.txt",
    ),
    BenchmarkCard(
        name="ijb-c",
        title="IJB-C",
        paper="Maze et al., IARPA Janus Benchmark C, ICB 2018",
        challenge="photographs and video frames of every quality",
        counts=Counts(people=3_531, templates=23_124, mated=19_557, nonmated=15_638_932),
        sources=(
            "https://www.nist.gov/programs-projects/face-challenges: the data, on request",
            "as insightface packs it (IJB_release): "
            "https://github.com/deepinsight/insightface/tree/master/recognition/_evaluation_/ijb",
        ),
        terms="NIST gives it out on request, under its licence agreement, which holds for insightface's packing too.",
        layouts=(
            (
                "as insightface packs it, unpacked",
                "ROOT/\n"
                "  loose_crop/1.jpg ...\n"
                "  meta/ijbc_face_tid_mid.txt\n"
                "  meta/ijbc_name_5pts_score.txt\n"
                "  meta/ijbc_template_pair_label.txt",
            ),
            (
                "as NIST gives it out, unpacked",
                "ROOT/\n"
                "  images/img/1.jpg ..., images/frames/1.png ...\n"
                "  protocols/ijbc_1N_gallery_G1.csv, ijbc_1N_gallery_G2.csv, ijbc_1N_probe_mixed.csv\n"
                "  protocols/ijbc_11_G1_G2_matches.csv",
            ),
        ),
        alignment="Not aligned. insightface's packing: the landmarks of ijbc_name_5pts_score.txt are given. NIST's: "
        "a photograph may show several people, so each face is cut out by its box in the lists of templates, with "
        "a margin of 0.3 of it on each side (our choice), before the detector finds its landmarks.",
        protocol="ijbc_template_pair_label.txt, or NIST's ijbc_11_G1_G2_matches.csv, compares templates of several "
        "images. The paper doesn't say how it "
        "pools quality; here a template has the mean (or median, min, max) of its images, and as embedding the sum "
        "over media of the mean over frames.",
        options=("pooling",),
        notes=(
            "insightface's packing has no people, who are told by the mated pairs; NIST's has SUBJECT_ID.",
            "NIST's layout is read by what public code says of its columns; we had no copy to try it on. Its lists "
            "need TEMPLATE_ID, SUBJECT_ID, FILENAME, SIGHTING_ID, FACE_X, FACE_Y, FACE_WIDTH and FACE_HEIGHT; the "
            "pairs have no header.",
            "Not read: NIST's later protocols/test1/ (enroll_templates.csv, verif_templates.csv, match.csv), whose "
            "lists don't say which frames are of one video, and the covariate protocol "
            "(ijbc_11_covariate_matches.csv).",
        ),
    ),
    BenchmarkCard(
        name="lfw",
        title="LFW",
        paper="Huang et al., Labeled Faces in the Wild, UMass Amherst technical report 07-49, 2007",
        challenge="little: press photographs",
        counts=Counts(images=13_233, people=5_749, mated=3_000, nonmated=3_000),
        views={
            "view2": Counts(images=13_233, people=5_749, mated=3_000, nonmated=3_000),
            "view1": Counts(images=3_708, people=1_711, mated=500, nonmated=500),
            "view1-train": Counts(images=9_525, people=4_038, mated=1_100, nonmated=1_100),
        },
        sources=(
            "http://vis-www.cs.umass.edu/lfw: lfw.tgz, lfw-funneled.tgz or lfw-deepfunneled.tgz, pairs.txt, "
            "pairsDevTest.txt, pairsDevTrain.txt, peopleDevTest.txt, peopleDevTrain.txt",
            "scikit-learn's fetch_lfw_pairs gets the same from figshare (~/scikit_learn_data/lfw_home)",
            _INSIGHTFACE.format(file="lfw.bin"),
        ),
        terms="Public research data; no licence is stated, the photographs belong to news agencies."
        + _INSIGHTFACE_TERMS,
        layouts=(
            (
                "official, unpacked or with the archive as it is",
                "ROOT/\n"
                "  pairs.txt (View 2)\n"
                "  pairsDevTest.txt, peopleDevTest.txt (view1)\n"
                "  pairsDevTrain.txt, peopleDevTrain.txt (view1-train)\n"
                "  lfw/Name/Name_0001.jpg ... (or lfw.tgz)",
            ),
            (
                "parquet, with the columns image and identity, and name unless the path in image has it",
                "ROOT/\n  pairs.txt, ...\n  dev_train.parquet, dev_test.parquet (or others)",
            ),
            _package("lfw.bin"),
        ),
        alignment="250x250, the face in the middle, not aligned to the ArcFace template: the detector finds the "
        f"landmarks. {_BIN_ALIGNED.format(file='lfw.bin')}; a parquet's images, and those of a folder "
        "or archive whose first one has 112x112 pixels, are taken as they are.",
        protocol="view2 (the paper's): the ten folds of pairs.txt. view1: pairsDevTest.txt, over the people of "
        "peopleDevTest.txt; view1-train: the same of DevTrain.",
        options=("view", "pairs_file"),
        bin_file="lfw.bin",
        pair_file="pairs.txt",
        notes=("Give a folder with one copy of the images: lfw/ beside lfw-deepfunneled/ is refused.",),
    ),
    BenchmarkCard(
        name="xqlfw",
        title="XQLFW",
        paper="Knoche, Hörmann and Rigoll, Cross-Quality LFW, FG 2021",
        challenge="quality differences: LFW with synthetic degradations",
        counts=Counts(images=13_233, people=5_749, mated=3_000, nonmated=3_000),
        sources=(
            "https://martlgap.github.io/xqlfw/pages/download.html: xqlfw.zip or xqlfw_aligned_112.zip, and "
            "xqlfw_pairs.txt",
        ),
        terms="Its repository is under MIT; the photographs are LFW's.",
        layouts=(
            (
                "official, unpacked or with the archive as it is",
                "ROOT/\n  xqlfw_pairs.txt\n  xqlfw_aligned_112/Name/Name_0001.jpg ... (or xqlfw_aligned_112.zip)",
            ),
            (
                "parquet, as for lfw",
                "ROOT/\n  xqlfw_pairs.txt\n  *.parquet",
            ),
        ),
        alignment="xqlfw_aligned_112.zip is aligned (112x112, by MTCNN); xqlfw.zip is not (250x250). Which of "
        "the two it is is told by the size of the first image.",
        protocol="The ten folds of xqlfw_pairs.txt.",
        options=("pairs_file",),
        pair_file="xqlfw_pairs.txt",
        notes=("Its degradations were chosen with SER-FIQ's scores, which the paper therefore leaves out here.",),
    ),
    BenchmarkCard(
        name="agedb-30",
        title="AgeDB-30",
        paper="Moschoglou et al., AgeDB, CVPR Workshops 2017",
        challenge="age differences of 30 years; not one of the paper's seven",
        counts=Counts(mated=3_000, nonmated=3_000),
        sources=(_INSIGHTFACE.format(file="agedb_30.bin"),),
        terms="AgeDB: non-commercial research, from its authors on request." + _INSIGHTFACE_TERMS,
        layouts=(_package("agedb_30.bin"),),
        alignment=_BIN_ALIGNED.format(file="agedb_30.bin") + ".",
        protocol="The pairs of the package.",
        bin_file="agedb_30.bin",
    ),
)


def get_benchmark_card(name: str) -> BenchmarkCard:
    """
    The card of that name.

    Raises:
        ValueError: There is none; the message lists those that there are.
    """
    for card in BENCHMARKS:
        if card.name == name:
            return card
    raise ValueError(f"there is no benchmark {name!r}, only {', '.join(card.name for card in BENCHMARKS)}")


__all__ = ["BENCHMARKS", "BenchmarkCard", "get_benchmark_card"]
