# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa evaluate`: its numbers are those of the library, and bad input gets one line."""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import pytest

from diffiqa_hf.cli import evaluate
from diffiqa_hf.cli.errors import CommandError
from diffiqa_hf.evaluation import EDCProtocol, compare_embeddings, edc_curve
from diffiqa_hf.evaluation.pair_sampling import sample_pairs


FACES = Path(__file__).parents[2] / "examples" / "faces"
PEOPLE, EACH = 60, 4


def run(*arguments) -> int:
    parser = argparse.ArgumentParser(prog="diffiqa")
    evaluate.add_parser(parser.add_subparsers())
    args = parser.parse_args(["evaluate", *map(str, arguments)])
    return args.run(args)


def write_csv(path: Path, rows: list) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


class Data:
    """240 images of 60 people, their embeddings, two methods' scores, and 600 pairs in several forms."""

    def __init__(self, root: Path):
        rng = np.random.default_rng(0)
        self.root = root
        self.identities = np.repeat(np.arange(PEOPLE), EACH)
        noise = 0.8 * np.exp(0.7 * rng.normal(size=(len(self.identities), 1)))
        centres = rng.normal(size=(PEOPLE, 24))
        self.embeddings = centres[self.identities] + noise * rng.normal(size=(len(noise), 24))
        self.names = [f"faces/P{i:02d}/P{i:02d}_{k + 1:04d}.jpg" for i in range(PEOPLE) for k in range(EACH)]
        self.scores = {"a": -noise[:, 0], "b": rng.normal(size=len(noise))}
        first, second = np.triu_indices(EACH, 1)
        mated = [(EACH * p + i, EACH * p + j) for p in range(50) for i, j in zip(first, second, strict=True)]
        drawn = rng.permutation(len(self.identities) * 50)[:600]
        others = [(int(d % 240), int((d % 240 + EACH * (1 + d // 240)) % 240)) for d in drawn]
        others = list({tuple(sorted(pair)): None for pair in others})[:300]
        self.pairs = np.array(mated + others)
        self.mated = self.identities[self.pairs[:, 0]] == self.identities[self.pairs[:, 1]]
        assert len(self.pairs) == 600 and self.mated.sum() == 300

        self.embeddings_file = root / "embeddings.npy"
        np.save(self.embeddings_file, self.embeddings.astype(np.float32))
        for name, scores in self.scores.items():
            write_csv(root / f"{name}.csv", [["file", "score"], *zip(self.names, scores.tolist(), strict=True)])
        self.similarities = compare_embeddings(self.embeddings, self.identities, self.pairs).similarities
        rows = [
            [self.names[i], self.names[j], int(same), float(s)]
            for (i, j), same, s in zip(self.pairs.tolist(), self.mated, self.similarities, strict=True)
        ]
        self.pairs_csv = write_csv(root / "pairs.csv", [["file_a", "file_b", "mated", "similarity"], *rows])
        lines = ["1\t300"]
        for i, j in self.pairs.tolist():
            who = [f"P{k // EACH:02d}" for k in (i, j)]
            number = [k % EACH + 1 for k in (i, j)]
            same = who[0] == who[1]
            lines.append("\t".join(map(str, [who[0], *number] if same else [who[0], number[0], who[1], number[1]])))
        self.pairs_txt = root / "pairs.txt"
        self.pairs_txt.write_text("\n".join(lines))

    def expected(self, name: str, protocol: EDCProtocol):
        return edc_curve(self.similarities, self.mated, self.scores[name], protocol, pairs=self.pairs)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Data:
    return Data(tmp_path_factory.mktemp("evaluate"))


QUICK = ["--fmr", "0.01", "--replicates", "50"]


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("kind", ["lfw", "csv", "similarities"])
def test_the_numbers_are_those_of_the_library(data, tmp_path, capsys, kind):
    pairs = data.pairs_txt if kind == "lfw" else data.pairs_csv
    given = ["--similarities"] if kind == "similarities" else ["--embeddings", data.embeddings_file]
    scores = ["--scores", data.root / "a.csv", f"random={data.root / 'b.csv'}"]
    assert run(*scores, "--pairs", pairs, *given, *QUICK, "--output", tmp_path, "--no-plot") == 0
    found = results(tmp_path)
    for name, other in (("a", "a"), ("random", "b")):
        expected = data.expected(other, EDCProtocol(fmr=0.01))
        for limit in (0.2, 0.3):
            # Of the file similarities come in double precision, which may turn a tie.
            assert found["methods"][name]["pauc"][f"{limit:g}"] == pytest.approx(expected.pauc[limit], abs=1e-6)
            assert found["methods"][name]["floor"][f"{limit:g}"] == pytest.approx(expected.floor[limit], abs=1e-6)
            low, high = found["methods"][name]["interval"][f"{limit:g}"]
            assert low < high
    assert found["methods"]["a"]["false_non_matches"] == data.expected("a", EDCProtocol(fmr=0.01)).false_non_matches
    assert found["differences"][0]["told_apart"] is True
    # People who are in no mated pair are told from LFW's names, and count one by one elsewhere.
    assert found["identities"] == 60 if kind == "lfw" else found["identities"] >= 60
    out = capsys.readouterr().out
    assert out.startswith("300 mated and 300 non-mated pairs of ") and "FMR 0.01 (0.01 asked)" in out
    assert "pAUC(a) - pAUC(random) at 0.2: -" in out and "a is better" in out
    low, high = found["methods"]["a"]["fnmr_interval"]
    assert low < found["methods"]["a"]["fnmr"] < high and f" [{low:.4f}, {high:.4f}] (" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edc.csv", "results.csv", "results.json"]


def test_protocols_and_limits(data, tmp_path, capsys):
    given = ["--scores", data.root / "a.csv", "--pairs", data.pairs_txt, "--embeddings", data.embeddings_file]
    assert (
        run(*given, "--protocol", "schlett", "--limits", 0.1, "--replicates", 0, "--output", tmp_path, "--no-plot")
        == 0
    )
    expected = data.expected("a", EDCProtocol.from_preset("schlett", limits=(0.1,)))
    assert results(tmp_path)["methods"]["a"]["pauc"] == {"0.1": pytest.approx(expected.pauc[0.1], abs=1e-9)}
    assert results(tmp_path)["differences"] == [] and results(tmp_path)["methods"]["a"]["interval"] == {"0.1": None}
    assert f"{expected.pauc[0.1]:.5f}" in capsys.readouterr().out
    assert (
        run(*given, "--protocol", "schlett", "--fmr", 0.02, "--replicates", 0, "--output", tmp_path, "--no-plot") == 0
    )
    assert results(tmp_path)["methods"]["a"]["fmr"] == 0.02 and results(tmp_path)["protocol"]["starting_fnmr"] is None


@pytest.mark.parametrize(
    ("options", "protocol"),
    [
        (["--threshold", 0.3], EDCProtocol(fmr=None, threshold=0.3)),
        (["--starting-fnmr", 0.1], EDCProtocol(fmr=None, starting_fnmr=0.1)),
        (["--threshold", 0.3, "--protocol", "schlett"],
         EDCProtocol.from_preset("schlett", starting_fnmr=None, threshold=0.3)),
        (["--fmr", 0.01, "--pair-quality", "mean"], EDCProtocol(fmr=0.01, pair_quality="mean")),
        (["--fmr", 0.01, "--discard", "all"], EDCProtocol(fmr=0.01, discard="all")),
        (["--fmr", 0.01, "--discard", "images"], EDCProtocol(fmr=0.01, discard="images")),
        (["--fmr", 0.01, "--ties", "random"], EDCProtocol(fmr=0.01, ties="random")),
        (["--fmr", 0.02, "--protocol", "diffiqa", "--discard", "images", "--ties", "together"],
         EDCProtocol.from_preset("diffiqa", fmr=0.02, discard="images", ties="together")),
    ],
)  # fmt: skip
def test_every_rule_of_a_protocol(data, tmp_path, options, protocol):
    # In steps of .5 there are ties.
    scores = np.round(2 * data.scores["a"]) / 2
    file = write_csv(tmp_path / "a.csv", [["file", "score"], *zip(data.names, scores.tolist(), strict=True)])
    given = ["--scores", file, "--pairs", data.pairs_txt, "--embeddings", data.embeddings_file, "--replicates", 20]
    assert run(*given, *options, "--output", tmp_path / "out", "--no-plot") == 0
    expected = edc_curve(data.similarities, data.mated, scores, protocol, pairs=data.pairs)
    found = results(tmp_path / "out")
    assert found["protocol"] == {**vars(protocol), "limits": list(protocol.limits)}
    assert found["methods"]["a"]["threshold"] == pytest.approx(expected.threshold)
    for kind in ("pauc", "floor", "share"):
        values = {f"{limit:g}": pytest.approx(value) for limit, value in getattr(expected, kind).items()}
        assert found["methods"]["a"][kind] == values
    low, high = found["methods"]["a"]["interval"]["0.3"]
    assert low < high


def test_product_of_scores_of_at_least_0(data, tmp_path):
    scores = np.exp(data.scores["a"])
    file = write_csv(tmp_path / "a.csv", [["file", "score"], *zip(data.names, scores.tolist(), strict=True)])
    given = ["--pairs", data.pairs_txt, "--embeddings", data.embeddings_file, *QUICK, "--pair-quality", "product"]
    assert run("--scores", file, *given, "--output", tmp_path / "out", "--no-plot") == 0
    protocol = EDCProtocol(fmr=0.01, pair_quality="product")
    expected = edc_curve(data.similarities, data.mated, scores, protocol, pairs=data.pairs)
    assert results(tmp_path / "out")["methods"]["a"]["pauc"]["0.3"] == pytest.approx(expected.pauc[0.3])
    with pytest.raises(CommandError, match="^a: --pair-quality product needs scores of at least 0, which --lower-is"):
        run("--scores", file, *given, "--lower-is-better", "a")


@pytest.mark.parametrize("one", [["--fmr", "0.01"], ["--starting-fnmr", "0.1"]])
def test_there_is_one_threshold(data, capsys, one):
    with pytest.raises(SystemExit) as caught:
        run("--scores", "a.csv", "--identity-folders", "--embeddings", "e.npy", "--threshold", "0.5", *one)
    assert caught.value.code == 2 and "not allowed with argument" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["folders", "column"])
def test_pairs_of_the_people(data, tmp_path, how):
    if how == "column":
        rows = zip(data.names, data.scores["a"].tolist(), data.identities.tolist(), strict=True)
        scores, people = write_csv(tmp_path / "a.csv", [["file", "score", "person"], *rows]), ["person"]
    else:
        scores, people = data.root / "a.csv", []
    option = "--identity-column" if how == "column" else "--identity-folders"
    given = ["--scores", scores, option, *people, "--embeddings", data.embeddings_file, "--seed", 3]
    drawn = ["--mated-per-person", 2, "--nonmated", 1500]
    assert run(*given, *drawn, *QUICK, "--output", tmp_path / "out", "--no-plot") == 0
    pairs, mated = sample_pairs(data.identities, 2, 1500, 3)
    similarities = compare_embeddings(data.embeddings, data.identities, pairs).similarities
    expected = edc_curve(similarities, mated, data.scores["a"], EDCProtocol(fmr=0.01), pairs=pairs)
    found = results(tmp_path / "out")
    assert found["methods"]["a"]["mated"] == 120 and found["methods"]["a"]["nonmated"] == 1500
    assert found["methods"]["a"]["pauc"]["0.3"] == pytest.approx(expected.pauc[0.3], abs=1e-9)


def test_pairs_that_are_there_twice_or_say_the_contrary_of_the_people(data, tmp_path, capsys):
    rows = [line.split(",") for line in data.pairs_csv.read_text().splitlines()]
    pairs = write_csv(tmp_path / "p.csv", [*rows, [rows[1][1], rows[1][0], *rows[1][2:]]])
    given = ["--scores", data.root / "a.csv", "--similarities", "--replicates", 0, "--fmr", 0.01]
    assert run(*given, "--pairs", pairs) == 0
    twice = f"1 pairs are there before and count again, such as {rows[1][0]} and {rows[1][1]}"
    assert twice in capsys.readouterr().err
    assert run(*given, "--pairs", data.pairs_csv, "--identities", "folder") == 0
    assert "count again" not in (err := capsys.readouterr().err) and "what their people say" not in err
    rows[1][2] = "0"
    rows[-1][2] = "1"
    assert run(*given, "--pairs", write_csv(tmp_path / "p.csv", rows), "--identities", "folder") == 0
    odd = f"2 of 600 pairs are not what their people say: {rows[1][0]} and {rows[1][1]} are called non-mated, and are"
    assert f"{odd} both of P00" in capsys.readouterr().err


def test_columns_files_and_directions(data, tmp_path):
    rows = [
        {"image": name, "up": float(up), "down": -float(up), "other": float(other)}
        for name, up, other in zip(data.names, data.scores["a"], data.scores["b"], strict=True)
    ]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[::-1]))
    given = ["--scores", tmp_path / "all.jsonl", "--name-column", "image", "--score-columns", "up", "down", "other"]
    pairs = ["--pairs", data.pairs_csv, "--similarities", "--replicates", 0, "--fmr", 0.01]
    assert run(*given, *pairs, "--lower-is-better", "down", "--output", tmp_path / "out", "--no-plot") == 0
    methods = results(tmp_path / "out")["methods"]
    assert list(methods) == ["up", "down", "other"] and methods["up"]["pauc"] == methods["down"]["pauc"]
    assert methods["up"]["pauc"] != methods["other"]["pauc"]


def test_the_second_file_may_be_in_another_order(data, tmp_path):
    rows = list(zip(data.names, data.scores["a"].tolist(), strict=True))
    shuffled = write_csv(tmp_path / "again.csv", [["file", "score"], *reversed(rows)])
    scores = ["--scores", data.root / "a.csv", shuffled]
    pairs = ["--pairs", data.pairs_txt, "--embeddings", data.embeddings_file]
    assert run(*scores, *pairs, *QUICK, "--output", tmp_path / "out", "--no-plot") == 0
    found = results(tmp_path / "out")
    assert found["methods"]["a"]["pauc"] == found["methods"]["again"]["pauc"]
    assert found["differences"][0]["interval"] == [0, 0] and found["differences"][0]["told_apart"] is False


def test_pictures(data, tmp_path):
    pytest.importorskip("matplotlib")
    given = ["--scores", data.root / "a.csv", "--pairs", data.pairs_txt, "--embeddings", data.embeddings_file]
    assert run(*given, *QUICK, "--output", tmp_path, "--title", "mine") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "edc.csv",
        "edc.png",
        "edc.svg",
        "results.csv",
        "results.json",
    ]
    rows = list(csv.DictReader((tmp_path / "edc.csv").read_text().splitlines()))
    assert {row["method"] for row in rows} == {"a", "best possible"} and rows[0]["benchmark"] == "mine"


def test_an_fr_model_embeds_the_images(tmp_path):
    import torch

    from diffiqa_hf import MobileFaceNetConfig, MobileFaceNetModel
    from diffiqa_hf.evaluation.study.embedding import embed_images

    torch.manual_seed(0)
    stages = [[8, 8, 1, 2], [8, 8, 1, 2], [8, 8, 1, 2]]
    config = MobileFaceNetConfig(embedding_size=16, stem_width=8, stem_groups=8, stages=stages, feature_width=16)
    model = MobileFaceNetModel(config).eval()
    model.save_pretrained(tmp_path / "model")
    listed = json.loads((FACES / "faces.json").read_text())["faces"]
    rows = [[face["file"], at % 7, face["person"]] for at, face in enumerate(listed)]
    scores = write_csv(tmp_path / "scores.csv", [["file", "score", "person"], *rows])
    given = ["--scores", scores, "--identity-column", "person", "--fmr", 0.05, "--replicates", 0]
    images = ["--image-root", FACES, "--device", "cpu", "--batch-size", 5]
    assert run(*given, "--fr-model", tmp_path / "model", *images, "--output", tmp_path / "one", "--no-plot") == 0
    embeddings, errors = embed_images(model, [str(FACES / row[0]) for row in rows])
    assert errors == [None] * len(rows) and embeddings.shape == (len(rows), 16)
    np.save(tmp_path / "embeddings.npy", embeddings)
    assert run(*given, "--embeddings", tmp_path / "embeddings.npy", "--output", tmp_path / "two", "--no-plot") == 0
    one, two = (results(tmp_path / name)["methods"]["scores"] for name in ("one", "two"))
    assert one["pauc"] == two["pauc"] and one["threshold"] == pytest.approx(two["threshold"], abs=1e-5)
    with pytest.raises(
        CommandError, match=r"24 of 24 images cannot be embedded, the first is .*astronaut.jpg: no such"
    ):
        run(*given, "--fr-model", tmp_path / "model", "--image-root", tmp_path)
    with pytest.raises(CommandError, match="cannot load the FR model"):
        run(*given, "--fr-model", tmp_path / "nothing", "--image-root", FACES)


def test_images_without_a_score(data, tmp_path, capsys):
    rows = [[name, score, ""] for name, score in zip(data.names, data.scores["a"].tolist(), strict=True)]
    rows[5][1:] = ["", "no face found"]
    scores = write_csv(tmp_path / "a.csv", [["file", "score", "error"], *rows])
    given = ["--scores", scores, "--pairs", data.pairs_txt, "--embeddings", data.embeddings_file, *QUICK]
    with pytest.raises(
        CommandError, match=r"a: 1 of 2\d\d images .* P01_0002.jpg \(no face found\)".replace(" P", ".*P")
    ):
        run(*given)
    assert run(*given, "--nan-quality", "lowest", "--output", tmp_path / "out", "--no-plot") == 0
    qualities = np.where(np.arange(240) == 5, -100, data.scores["a"])
    expected = edc_curve(data.similarities, data.mated, qualities, EDCProtocol(fmr=0.01), pairs=data.pairs)
    assert results(tmp_path / "out")["methods"]["a"]["pauc"]["0.2"] == pytest.approx(expected.pauc[0.2])
    assert "have no quality (NaN) and leave first" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"--pairs": None}, "give --pairs, or the people"),
        ({"--pairs": None, "--identity-column": "who"}, "no column 'who'; it has file, score"),
        ({"--scores": "nothing.csv"}, "nothing.csv: No such file"),
        ({"--score-columns": "quality"}, "no column 'quality'; it has file, score"),
        ({"--scores": ["a.csv", "a.csv"]}, "two methods are called 'a'"),
        ({"--scores": ["short.csv"]}, "images are not in .*short.csv, the first is P00_0002"),
        ({"--scores": ["a.csv", "short.csv"]}, "images are not in .*short.csv, the first is faces/P00/P00_0002.jpg"),
        ({"--scores": "twice.csv"}, "faces/P00/P00_0001.jpg is there twice, with the scores"),
        ({"--scores": "words.csv"}, "column score: row 1: 'good' is no number"),
        ({"--scores": "infinite.csv"}, "the score of faces/P00/P00_0001.jpg is infinite"),
        ({"--embeddings": "nothing.npy"}, "nothing.npy: no such file"),
        ({"--embeddings": "a.csv"}, "a.csv: "),
        ({"--embeddings": "few.npy"}, "few.npy has 7 rows and .*a.csv 240"),
        ({"--embeddings": "flat.npy"}, r"not one array \(images, D\)"),
        ({"--embeddings": "zero.npy"}, "2 embeddings are zero or not finite, the first is that of faces/P00/P00_0001"),
        ({"--embeddings": None, "--similarities": "x", "--pairs": "pairs.csv"}, "no column 'x'"),
        ({"--embeddings": None, "--similarities": "x"}, "has no columns, and so no similarities"),
        ({"--fmr": 1e-4}, "needs at least 10,000 non-mated pairs, and there are 300"),
        ({"--fmr": 2}, "fmr must lie between 0 and 1"),
        ({"--limits": 1.5}, "limits must be discard fractions"),
        ({"--fmr": None, "--threshold": "nan"}, "threshold must be a finite number"),
        ({"--fmr": None, "--starting-fnmr": 1}, "starting_fnmr must lie between 0 and 1"),
        (
            {"--fmr": None, "--threshold": 0.3, "--protocol": "diffiqa"},
            "^--threshold does not go with --protocol diffiqa, whose threshold is that of an FMR",
        ),
        ({"--fmr": None, "--starting-fnmr": 0.1, "--protocol": "cr-fiqa"}, "^--starting-fnmr does not go with"),
        ({"--discard": "mated", "--protocol": "diffiqa"}, "^--discard mated does not go with --protocol diffiqa"),
        ({"--discard": "images", "--pair-quality": "mean"}, "--pair-quality mean does not go with --discard images"),
        ({"--pair-quality": "product"}, "^a: --pair-quality product needs scores of at least 0$"),
        ({"--limits": 0.05, "--protocol": "diffiqa"}, "lies within the first step of 0.05"),
        ({"--lower-is-better": "z"}, "--lower-is-better z: the methods are a"),
        ({"--pairs": "self.csv"}, "pair 1 compares P00_0001 with itself"),
        ({"--pairs": "contradiction.csv"}, "P00_0001 and P00_0003 are called non-mated, but mated pairs join them"),
        ({"--pairs": "pairs.csv", "--identity-column": "score"}, "the identities contradict mated"),
        ({"--image-root": "."}, "--image-root goes with --fr-model"),
        ({"--device": "cpu"}, "--device goes with --fr-model"),
        ({"--batch-size": 2}, "--batch-size goes with --fr-model"),
        ({"--nonmated": 2}, "--nonmated is for pairs that are drawn"),
        ({"--replicates": -1}, "--replicates is 0 or more"),
    ],
)
def test_one_line_says_what_is_wrong(data, tmp_path, monkeypatch, change, reason):
    rows = list(zip(data.names, data.scores["a"].tolist(), strict=True))
    header = ["file", "score"]
    write_csv(tmp_path / "a.csv", [header, *rows])
    write_csv(tmp_path / "short.csv", [header, *rows[::3]])
    write_csv(tmp_path / "twice.csv", [header, *rows, [rows[0][0], "9"]])
    write_csv(tmp_path / "words.csv", [header, (rows[0][0], "good"), *rows[1:]])
    write_csv(tmp_path / "infinite.csv", [header, (rows[0][0], "inf"), *rows[1:]])
    write_csv(tmp_path / "self.csv", [["file_a", "file_b", "mated"], ["P00_0001", "P00_0001.jpg", 1]])
    joined = [["P00_0001", "P00_0002", 1], ["P00_0002", "P00_0003", 1], ["P00_0001", "P00_0003", 0]]
    write_csv(tmp_path / "contradiction.csv", [["file_a", "file_b", "mated"], *joined])
    (tmp_path / "pairs.csv").write_bytes(data.pairs_csv.read_bytes())
    np.save(tmp_path / "few.npy", data.embeddings[:7])
    np.save(tmp_path / "flat.npy", data.embeddings[:, 0])
    np.save(tmp_path / "zero.npy", np.where(np.arange(240)[:, None] < 2, 0, data.embeddings))
    monkeypatch.chdir(tmp_path)
    given = {
        "--scores": "a.csv",
        "--pairs": str(data.pairs_txt),
        "--embeddings": str(data.embeddings_file),
        "--fmr": 0.01,
        "--replicates": 20,
    }
    options = []
    for option, value in {**given, **change}.items():
        if value is not None:
            options += [option, *(value if isinstance(value, list) else [value])]
    with pytest.raises(CommandError, match=reason) as caught:
        run(*options)
    assert "\n" not in str(caught.value)


def test_every_option_is_explained():
    parser = argparse.ArgumentParser(prog="diffiqa")
    commands = parser.add_subparsers()
    evaluate.add_parser(commands)
    options = commands.choices["evaluate"]._actions
    assert len(options) > 20 and all(option.help for option in options)
    assert max(map(len, evaluate.DESCRIPTION.splitlines() + evaluate.EPILOG.splitlines())) < 120
    assert "diffiqa evaluate --scores" in commands.choices["evaluate"].format_help()


def test_what_is_said_holds_at_once(data, tmp_path, capsys):
    """Differences, people in error, and pairs that are listed twice."""
    rows = [row.split(",") for row in data.pairs_csv.read_text().splitlines()]
    twice = write_csv(tmp_path / "twice.csv", [*rows, rows[1], [rows[2][1], rows[2][0], *rows[2][2:]]])
    scores = ["--scores", data.root / "a.csv", data.root / "b.csv"]
    assert run(*scores, "--pairs", twice, "--similarities", *QUICK, "--output", tmp_path, "--no-plot") == 0
    out, found = capsys.readouterr().out, results(tmp_path)
    assert "note: 2 of 602 pairs repeat another one, and count again." in out
    assert "differences, with 95% intervals that hold for all of them at once:" in out
    people, errors = found["failing_people"], found["methods"]["a"]["false_non_matches"]
    assert f"({errors} errors of {people} people)" in out and people >= 10
    assert [entry["told_apart"] for entry in found["differences"]] == [True, True]
    # One error: replicates of it say nothing of other people.
    lowest = np.sort(data.similarities[data.mated])[:2].mean()
    one = ["--threshold", str(lowest), "--replicates", 50, "--output", tmp_path, "--no-plot"]
    assert run(*scores, "--pairs", data.pairs_csv, "--similarities", *one) == 0
    assert "too few errors: of fewer than 10 people" in capsys.readouterr().out
    assert not any(entry["told_apart"] for entry in results(tmp_path)["differences"])


def test_a_recomputed_threshold_says_what_is_random(data, tmp_path, capsys):
    given = ["--scores", data.root / "a.csv", "--pairs", data.pairs_csv, "--similarities", "--protocol", "diffiqa"]
    assert run(*given, "--fmr", 0.01, "--replicates", 0, "--output", tmp_path, "--no-plot") == 0
    random = results(tmp_path)["methods"]["a"]["random"]
    assert f"0.2: Discarding in random order has a pAUC of {random['0.2']:.3f}" in capsys.readouterr().out


def test_groups_have_figures_of_their_own(data, tmp_path, capsys):
    group = ["even" if int(name[7:9]) % 2 == 0 else "odd" for name in data.names]
    columns = [data.names, data.scores["a"].tolist(), group]
    scores = write_csv(tmp_path / "a.csv", [["file", "score", "kind"], *zip(*columns, strict=True)])
    by_file = write_csv(tmp_path / "files.csv", [["file", "group"], *zip(data.names, group, strict=True)])
    people = [(f"P{i:02d}", "odd" if i % 2 else "even") for i in range(PEOPLE)]
    by_person = write_csv(tmp_path / "people.csv", [["identity", "group"], *people])
    given = ["--scores", scores, "--embeddings", data.embeddings_file, "--identities", "name", *QUICK, "--no-plot"]
    found = []
    for number, how in enumerate(["column:kind", by_file, by_person]):
        out = tmp_path / str(number)
        assert run(*given, "--pairs", data.pairs_txt, "--groups", how, "--output", out, "--low-percentile", "20") == 0
        found.append(results(out)["groups"])
        assert len((out / "groups.csv").read_text().splitlines()) == 3
    assert {**found[0], "how": ""} == {**found[1], "how": ""} == {**found[2], "how": ""}
    assert [entry["images"] for entry in found[0]["groups"]] == [120, 120]
    within = {name: np.array([g == name for g in group])[data.pairs].all(axis=1) for name in ("even", "odd")}
    wrong = data.mated & (data.similarities < found[0]["similarity"])
    for entry in found[0]["groups"]:
        assert entry["errors"] == (within[entry["group"]] & wrong).sum()
        assert entry["mated"] == (within[entry["group"]] & data.mated).sum() > 0
    text = capsys.readouterr().out
    # Of people who are known from the list of pairs alone, an image in no pair is nobody's.
    given.remove("--identities"), given.remove("name")
    assert run(*given, "--pairs", data.pairs_txt, "--groups", by_person) == 0
    assert "of 240 images have no group" in capsys.readouterr().err
    assert "low: below percentile 20 of all images with a group" in text
    assert "FNMR, even - odd: " in text and "median, even - odd: " in text


def test_groups_that_can_not_be_known(data, tmp_path):
    given = ["--scores", data.root / "a.csv", "--embeddings", data.embeddings_file, *QUICK]
    by_person = write_csv(tmp_path / "people.csv", [["identity", "group"], ["P00", "x"], ["P01", "y"]])
    twice = write_csv(tmp_path / "twice.csv", [["identity", "group"], ["P00", "x"], ["P00", "y"]])
    other = write_csv(tmp_path / "other.csv", [["person", "group"], ["P00", "x"]])
    for how, pairs, message in (
        ("column:kind", data.pairs_txt, "kind"),
        (by_person, data.pairs_csv, "is by identity"),
        (twice, data.pairs_txt, "P00 is there twice, in x and in y"),
        (other, data.pairs_txt, "neither a column 'file' nor 'identity'"),
    ):
        with pytest.raises(CommandError, match=message):
            run(*given, "--pairs", pairs, "--groups", how)
    with pytest.raises(CommandError, match="--low-percentile goes with --groups"):
        run(*given, "--pairs", data.pairs_txt, "--low-percentile", "5")
