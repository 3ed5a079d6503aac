# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import argparse
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fixtures.networks import MOBILEFACENET as TINY
from fixtures.scripts import (
    ROOT,
    assert_every_option_is_explained,
    assert_same_weights,
    load_script,
    run_anew,
    run_on_two_processes,
)
from scipy.stats import rankdata, spearmanr
from transformers import AutoImageProcessor

from diffiqa_hf import (
    AutoModelForFaceQuality,
    FaceImageError,
    FaceImageProcessor,
    IResNetConfig,
    IResNetForFaceQuality,
    MobileFaceNetConfig,
    MobileFaceNetForFaceQuality,
    MobileFaceNetModel,
)
from diffiqa_hf.evaluation import edc_from_embeddings
from diffiqa_hf.evaluation.held_out import HALVES, half_of, is_held_out
from diffiqa_hf.hub import read_training
from diffiqa_hf.methods import load_method
from diffiqa_hf.training import label_validation
from diffiqa_hf.training import labels as label_columns
from diffiqa_hf.training.data import load_face_dataset
from diffiqa_hf.training.held_out import predict


script = load_script("train_diffiqa_r")

STRENGTHS = (None, "light", "medium", "heavy", "extreme")
UNLABELLED = 3


@pytest.fixture(scope="module")
def setup(tmp_path_factory) -> Path:
    """The example faces with people and labels by how degraded they are, an FR model, and configurations."""
    from datasets import Dataset, Image

    folder = tmp_path_factory.mktemp("distil")
    faces = json.loads((ROOT / "examples" / "faces" / "faces.json").read_text())["faces"]
    labels = [0.9 - 0.1 * STRENGTHS.index(face["strength"]) + 0.001 * i for i, face in enumerate(faces)]
    labels[UNLABELLED] = float("nan")
    files = [str(ROOT / "examples" / "faces" / face["file"]) for face in faces]
    columns = {"image": files, "identity": [face["person"] for face in faces], "quality": labels}
    Dataset.from_dict(columns).cast_column("image", Image()).to_parquet(str(folder / "faces.parquet"))
    torch.manual_seed(0)
    MobileFaceNetModel(MobileFaceNetConfig(**TINY)).save_pretrained(folder / "fr")
    (folder / "tiny.json").write_text(json.dumps({"model_type": "mobilefacenet", **TINY}))
    iresnet = {"model_type": "iresnet", "depths": [1, 1, 1], "widths": [4, 4, 8], "embedding_size": 8, "dropout": 0.4}
    (folder / "iresnet.json").write_text(json.dumps(iresnet))
    return folder


def distil(setup: Path, output_dir: Path, *extra: str) -> None:
    args = ["--train_parquet", str(setup / "faces.parquet"), "--output_dir", str(output_dir), "--report_to", "none"]
    if "--model_config" not in extra:
        args += ["--model_name_or_path", str(setup / "fr")]
    args += ["--holdout_modulo", "3", "--train_batch_size", "4", "--checkpointing_steps", "1"]
    run_anew(script.main, [*args, *extra])


def parse(*extra: str) -> argparse.Namespace:
    return script.parse_args(["--output_dir", "x", "--train_parquet", "y", "--model_name_or_path", "z", *extra])


def assert_resumed_equals_straight(setup: Path, folder: Path, *extra: str) -> None:
    extra = ("--max_train_steps", "4", "--validation_steps", "1", *extra)
    distil(setup, folder / "straight", *extra)
    # The schedule belongs to the whole run, so the first half is a run of four steps that lost its end.
    distil(setup, folder / "stopped", "--checkpoints_total_limit", "5", *extra)
    for step in (3, 4):
        (folder / "stopped" / f"checkpoint-{step}" / "complete").unlink()
    (folder / "stopped" / "best").rename(folder / "stopped" / "best.old")  # a kill at the worst moment
    distil(setup, folder / "stopped", "--resume_from_checkpoint", "latest", *extra)
    for name in ("model", "best", "checkpoint-4"):
        paths = [folder / run / name / "model.safetensors" for run in ("straight", "stopped")]
        assert_same_weights(*paths)
    for name in ("model", "best"):
        for file in ("validation.json", "calibration.json"):
            texts = [(folder / run / name / file).read_text() for run in ("straight", "stopped")]
            assert texts[0] == texts[1]


def test_resumed_run_equals_straight_run(setup, tmp_path):
    extra = ["--model_config", str(setup / "iresnet.json"), "--rank_loss_weight", "0.5", "--ema_decay", "0.9"]
    extra += ["--landmark_jitter", "3", "--lr_schedule", "cosine", "--warmup_steps", "2", "--learning_rate", "1e-2"]
    assert_resumed_equals_straight(setup, tmp_path, *extra)
    model = AutoModelForFaceQuality.from_pretrained(tmp_path / "straight" / "model")
    assert isinstance(model, IResNetForFaceQuality) and model.config.quality_normalization["kind"] == "minmax"
    processor = AutoImageProcessor.from_pretrained(tmp_path / "straight" / "model")
    assert isinstance(processor, FaceImageProcessor)
    assert not list((tmp_path / "stopped").glob("best.*"))


def test_resumed_ediffiqa_equals_straight_run(setup, tmp_path):
    extra = ["--preset", "ediffiqa", "--centre_min_faces", "1", "--centre_fraction", "0.5"]
    assert_resumed_equals_straight(setup, tmp_path, *extra, "--degrade_probability", "0.5")
    model = AutoModelForFaceQuality.from_pretrained(tmp_path / "straight" / "best")
    assert isinstance(model, MobileFaceNetForFaceQuality) and model.head.hidden.out_features == 1024
    # What the run started from: the embeddings of the FR model, for each row of the dataset that has a label.
    embeddings = np.load(tmp_path / "straight" / "fr_embeddings.npy")
    assert [path.name for path in (tmp_path / "straight").glob("*.npy")] == ["fr_embeddings.npy"]
    dataset = load_face_dataset(train_parquet=[str(setup / "faces.parquet")])
    batch = FaceImageProcessor()(dataset["image"][:], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = MobileFaceNetModel.from_pretrained(setup / "fr").eval()(batch).embeddings
    expected[UNLABELLED] = torch.nan
    np.testing.assert_allclose(embeddings, expected, atol=1e-4)


@pytest.mark.slow
def test_two_processes(setup, tmp_path):
    args = ["--preset", "ediffiqa", "--report_to", "none", "--output_dir", str(tmp_path / "two")]
    args += ["--train_parquet", str(setup / "faces.parquet"), "--model_name_or_path", str(setup / "fr")]
    args += ["--centre_min_faces", "1", "--centre_fraction", "0.5", "--trainable_backbone_tensors", "10"]
    args += ["--holdout_modulo", "3", "--train_batch_size", "4"]
    stderr = run_on_two_processes("train_diffiqa_r", args)
    distil(setup, tmp_path / "one", "--preset", "ediffiqa", "--centre_min_faces", "1", "--max_train_steps", "1")
    one, two = (np.load(tmp_path / run / "fr_embeddings.npy") for run in ("one", "two"))
    np.testing.assert_allclose(one, two, atol=1e-4)  # each process has made a half of them
    assert [path.name for path in (tmp_path / "two").glob("*.npy")] == ["fr_embeddings.npy"]
    # Three epochs of two batches at a time.
    steps = json.loads((tmp_path / "two" / "model" / "validation.json").read_text())["step"]
    rows = int(re.search(r"(\d+) to train on", stderr).group(1))
    assert steps == -(-3 * rows // 8)
    assert AutoModelForFaceQuality.from_pretrained(tmp_path / "two" / "model").config.quality_hidden_size == 1024


def test_it_learns_the_order_of_the_labels(setup, tmp_path):
    extra = ["--model_config", str(setup / "tiny.json"), "--holdout_modulo", "0", "--train_batch_size", "23"]
    extra += ["--learning_rate", "0.01", "--head_learning_rate", "0.01", "--flip_probability", "0"]
    distil(setup, tmp_path, *extra, "--max_train_steps", "60", "--checkpointing_steps", "60")
    assert not (tmp_path / "best").exists()  # nothing is held out to choose by
    assert not (tmp_path / "model" / "calibration.json").exists()
    dataset = load_face_dataset(train_parquet=[str(setup / "faces.parquet")])
    dataset = dataset.select([i for i in range(len(dataset)) if i != UNLABELLED])
    model = AutoModelForFaceQuality.from_pretrained(tmp_path / "model").eval()
    constants = model.config.quality_normalization
    assert (constants["min"], constants["max"]) == (min(dataset["quality"]), max(dataset["quality"]))
    with torch.no_grad():
        scores = model(FaceImageProcessor()(dataset["image"][:], return_tensors="pt")["pixel_values"]).scores
    assert spearmanr(scores, dataset["quality"][:]).statistic > 0.8


def test_two_columns_and_the_best_by_pauc(setup, tmp_path):
    dataset = load_face_dataset(train_parquet=[str(setup / "faces.parquet")])
    dataset = dataset.select(np.tile(np.arange(len(dataset)), 7))  # an FMR of 1e-3 takes 1000 non-mated pairs
    rng = np.random.default_rng(0)
    centre = rng.random(len(dataset))
    centre[5] = np.nan
    dataset = dataset.add_column("quality_centre", centre)
    dataset.to_parquet(str(tmp_path / "faces.parquet"))
    np.save(tmp_path / "embeddings.npy", rng.standard_normal((len(dataset), 8)))
    args = ["--train_parquet", str(tmp_path / "faces.parquet"), "--label_column", "quality", "quality_centre"]
    args += ["--label_weights", "1", "3", "--validation_embeddings", str(tmp_path / "embeddings.npy")]
    args += ["--best_by", "pauc", "--validation_steps", "1", "--learning_rate", "1e-2", "--max_train_steps", "4"]
    args += ["--checkpoints_total_limit", "5"]
    distil(setup, tmp_path / "run", *args)
    figures = [torch.load(path, weights_only=False)["figures"] for path in sorted(tmp_path.glob("run/*/custom*.pkl"))]
    lowest = min(figures, key=lambda figures: figures["pauc_0.3"])
    assert len(figures) == 4 and len({figure["pauc_0.3"] for figure in figures}) > 1
    assert json.loads((tmp_path / "run" / "best" / "validation.json").read_text()) == lowest

    constants = AutoModelForFaceQuality.from_pretrained(tmp_path / "run" / "model").config.quality_normalization
    kept = dataset.select(np.flatnonzero(np.isfinite(dataset["quality"][:]) & np.isfinite(centre)))
    train, *_ = script.split_dataset(kept, parse("--holdout_modulo", "3"))
    assert constants["kind"] == "weighted_mean"
    for column, name, weight in zip(constants["columns"], ("quality", "quality_centre"), (0.25, 0.75), strict=True):
        expected = {"kind": "minmax", "min": min(train[name]), "max": max(train[name])}
        assert column == {"column": name, "weight": weight, **expected}
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "quality_centre" in card and "\n## Calibration\n" in card

    # What the scores mean: among the faces held out, and by their pairs.
    _, heldout, _ = script.split_dataset(
        kept.add_column("source_row", np.arange(len(kept))), parse("--holdout_modulo", "3")
    )
    for name in ("best", "model"):
        method = load_method("diffiqa-r", tmp_path / "run" / name)
        calibration = method.calibration
        scores = method(heldout["image"][:]).scores.numpy()
        np.testing.assert_allclose(calibration.quantiles, np.quantile(scores, np.arange(101) / 100), atol=1e-5)
        assert calibration.misfit(method.calibration_settings()) is None
        assert calibration.num_faces == len(heldout)
        assert calibration.data == (
            "faces of 3 people held out of `faces.parquet`; FNMR of the embeddings `embeddings.npy`"
        )
        counts = np.unique(heldout["identity"], return_counts=True)[1]
        assert calibration.levels[0].pairs == (counts * (counts - 1) // 2).sum()
        assert calibration.levels[0].pairs + calibration.num_nonmated == len(heldout) * (len(heldout) - 1) // 2
    with pytest.raises(ValueError, match="a run with --best_by pauc"):
        distil(setup, tmp_path / "run", *args, "--best_by", "spearman", "--resume_from_checkpoint", "latest")


def test_best_is_chosen_on_one_half_and_reported_on_the_other(setup, tmp_path):
    dataset = load_face_dataset(train_parquet=[str(setup / "faces.parquet")])
    dataset = dataset.select([i for i in range(len(dataset)) if i != UNLABELLED] * 2)
    people = [f"person {i}" for i in range(len(dataset))]
    dataset = dataset.remove_columns("identity").add_column("identity", people)
    dataset.to_parquet(str(tmp_path / "faces.parquet"))
    args = ["--train_parquet", str(tmp_path / "faces.parquet"), "--holdout_modulo", "2", "--validation_steps", "1"]
    distil(setup, tmp_path / "run", *args, "--max_train_steps", "1")
    out = [i for i, name in enumerate(people) if is_held_out(name, 2)]
    halves = {half: [i for i in out if half_of(people[i], 2) == half] for half in HALVES}
    assert all(len(rows) > 1 for rows in halves.values())
    for name in ("best", "model"):
        folder = tmp_path / "run" / name
        scores = load_method("diffiqa-r", folder)(dataset["image"][:]).scores.numpy()
        found = {half: spearmanr(scores[rows], np.array(dataset["quality"])[rows]) for half, rows in halves.items()}
        chosen = json.loads((folder / "validation.json").read_text())["spearman"]
        assert chosen == pytest.approx(found["choose"].statistic, abs=1e-6)
        reported = next(result for result in read_training(folder).results if result.metric == "spearmanr")
        assert reported.value == pytest.approx(found["report"].statistic, abs=1e-6)
        assert f"{len(halves['report'])} faces of the half that `best` was not chosen by" in reported.basis
        assert load_method("diffiqa-r", folder).calibration.num_faces == len(out)


def test_a_branch_has_the_best_of_its_checkpoint_and_pushes_it(setup, tmp_path, monkeypatch):
    """Into another folder, where no look at the faces held out finds a better one."""
    distil(setup, tmp_path / "run", "--validation_steps", "1", "--max_train_steps", "1")
    pushed = []
    monkeypatch.setattr(script, "push_when_asked", lambda args, folder: pushed.append(folder))
    args = ["--resume_from_checkpoint", str(tmp_path / "run" / "checkpoint-1"), "--max_train_steps", "2"]
    distil(setup, tmp_path / "branch", *args, "--validation_steps", "0")
    assert json.loads((tmp_path / "branch" / "best" / "validation.json").read_text())["step"] == 1
    assert pushed == [tmp_path / "branch" / "best"]
    assert_same_weights(*(tmp_path / run / "best" / "model.safetensors" for run in ("run", "branch")))


def test_the_head_alone_or_the_last_tensors_are_trained(setup, tmp_path):
    rates = ["--learning_rate", "1e-2", "--head_learning_rate", "0", "--max_train_steps", "1"]
    distil(setup, tmp_path / "two", *rates, "--trainable_backbone_tensors", "2")
    before = MobileFaceNetModel.from_pretrained(setup / "fr")
    after = AutoModelForFaceQuality.from_pretrained(tmp_path / "two" / "model")
    changed = [
        name
        for (name, old), new in zip(before.named_parameters(), after.backbone.parameters(), strict=True)
        if not torch.equal(old, new)
    ]
    assert changed == [name for name, _ in before.named_parameters()][-2:]
    # Without a backbone to train there are the head's parameters alone.
    rates = ["--learning_rate", "1e-2", "--head_learning_rate", "1e-2", "--max_train_steps", "1"]
    distil(setup, tmp_path / "none", *rates, "--trainable_backbone_tensors", "0")
    head = AutoModelForFaceQuality.from_pretrained(tmp_path / "none" / "model")
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), head.backbone.parameters(), strict=True))
    assert not torch.equal(head.head.score.weight, after.head.score.weight)


def test_the_authors_freeze_what_we_freeze():
    with torch.device("meta"):
        model = IResNetForFaceQuality(IResNetConfig())
    script.freeze_all_but_last(model.backbone, script.PRESETS["diffiqa-r"]["trainable_backbone_tensors"])
    # Measured on the authors' own network.
    assert sum(p.numel() for p in model.backbone.parameters() if p.requires_grad) == 34_235_904


def test_nan_stops_and_names_the_step(setup, tmp_path):
    with pytest.raises(FloatingPointError, match=r"at step 1, on a batch of 4 faces \(rows \d+"):
        distil(setup, tmp_path, "--learning_rate", "inf", "--max_train_steps", "3", "--validation_steps", "0")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--label_column", "score"], "no column 'score'"),
        (["--label_column", "source_row", "--holdout_modulo", "1"], "leaves 0 faces to train on"),
        (["--identity_column", "name"], "no column 'name'"),
        (["--label_optimization", "0.5", "--representation_weight", "0.5"], "nobody has 10 faces"),
    ],
)
def test_data_that_does_not_do(setup, tmp_path, extra, message):
    with pytest.raises(ValueError, match=message):
        distil(setup, tmp_path, *extra)


# -- options ----------------------------------------------------------------------------------------------------------


def test_presets():
    args = parse("--preset", "ediffiqa", "--train_batch_size", "64")
    assert (args.label_optimization, args.representation_weight) == (0.5, 0.5)
    assert (args.centre_fraction, args.centre_min_faces, args.quality_hidden_size) == (0.2, 10, 1024)
    assert (args.num_train_epochs, args.train_batch_size, args.max_grad_norm) == (3, 64, 5)
    args = parse("--preset=diffiqa-r")
    assert (args.learning_rate, args.head_learning_rate, args.train_batch_size) == (1e-4, 1e-3, 128)
    assert (args.trainable_backbone_tensors, args.seed, args.flip_probability) == (100, 42069, 0)
    assert (args.validation_split, args.holdout_modulo, args.num_train_epochs) == ("label", 10, 1)
    assert parse().validation_split == "identity" and parse().flip_probability == 0.5
    known = set(vars(args))
    assert all(set(preset) <= known for preset in script.PRESETS.values())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--model_config", "x"], "exactly one of"),
        (["--degrade_probability", "0.2"], "needs --label_optimization"),
        (["--representation_weight", "2"], "in [0, 1]"),
        (["--label_weights", "1", "2"], "as many positive numbers"),
        (["--label_column", "a", "b", "--label_weights", "1", "0"], "as many positive numbers"),
        (["--label_column", "a", "a"], "names a column twice"),
        (["--best_by", "pauc"], "needs --validation_embeddings"),
    ],
)
def test_options_that_do_not_go_together(capsys, extra, message):
    with pytest.raises(SystemExit):
        parse(*extra)
    assert message in capsys.readouterr().err


def test_every_option_is_explained(monkeypatch):
    assert_every_option_is_explained(script.parse_args, monkeypatch, more_than=40)


# -- parts ------------------------------------------------------------------------------------------------------------


def test_normalizations():
    labels = np.array([2.0, 1.0, 5.0, 3.0])
    minmax = label_columns.fit_normalization(labels, "minmax")
    assert minmax == {"kind": "minmax", "min": 1.0, "max": 5.0}
    np.testing.assert_array_equal(label_columns.normalize(np.array([1, 2, 5, 9, 0]), minmax), [0, 0.25, 1, 1, 0])
    assert label_columns.normalize(labels, label_columns.fit_normalization(labels, "none")).tolist() == labels.tolist()
    many = np.random.default_rng(0).lognormal(size=5000)
    rank = json.loads(json.dumps(label_columns.fit_normalization(many, "rank")))
    # Off by less than the distance of two levels, and by next to nothing where the labels are not at the far ends.
    off = np.abs(label_columns.normalize(many, rank) - (rankdata(many) - 1) / 4999)
    assert off.max() < 0.01 and np.median(off) < 1e-3
    # Half of the labels are equal: they share the middle of their ranks.
    tied = label_columns.fit_normalization(np.r_[np.zeros(500), np.arange(1, 501)], "rank")
    assert label_columns.normalize(np.zeros(1), tied)[0] == pytest.approx(0.25, abs=0.01)
    assert label_columns.normalize(np.array([500.0]), tied)[0] == 1
    with pytest.raises(ValueError, match="nothing to learn"):
        label_columns.fit_normalization(np.ones(3), "minmax")


def test_several_columns_of_labels():
    labels = np.array([[2.0, 10.0], [1.0, 30.0], [5.0, 20.0], [3.0, 15.0]])
    one = parse("--label_column", "a", "--label_weights", "7")
    assert script.fit_labels(labels[:, :1], one) == label_columns.fit_normalization(labels[:, 0], "minmax")
    alone = script.make_targets(labels[:, :1], script.fit_labels(labels[:, :1], one))
    expected = label_columns.normalize(labels[:, 0], label_columns.fit_normalization(labels[:, 0], "minmax"))
    np.testing.assert_array_equal(alone, expected, strict=True)

    two = parse("--label_column", "a", "b", "--label_weights", "3", "1")
    constants = json.loads(json.dumps(script.fit_labels(labels, two)))
    assert constants == {
        "kind": "weighted_mean",
        "columns": [
            {"column": "a", "weight": 0.75, "kind": "minmax", "min": 1.0, "max": 5.0},
            {"column": "b", "weight": 0.25, "kind": "minmax", "min": 10.0, "max": 30.0},
        ],
    }
    targets = script.make_targets(labels, constants)
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets, [0.75 * 0.25, 0.25, 0.75 + 0.125, 0.375 + 0.0625])
    # What is held out is scaled by the constants of what is trained on.
    np.testing.assert_allclose(script.make_targets(np.array([[9.0, 20.0]]), constants), [0.875])
    equal = parse("--label_column", "a", "b", "--label_normalization", "none")
    np.testing.assert_allclose(script.make_targets(labels, script.fit_labels(labels, equal)), labels.mean(1))


def test_split_by_several_labels():
    from datasets import Dataset

    rng = np.random.default_rng(0)
    columns = {"a": rng.random(40), "b": 1000 * rng.random(40), "source_row": np.arange(40)}
    args = parse("--preset", "diffiqa-r", "--label_column", "a", "b", "--label_weights", "2", "1")
    train, heldout, _ = script.split_dataset(Dataset.from_dict(columns), args)
    ranks = 2 * rankdata(columns["a"]) + rankdata(columns["b"])
    assert sorted(heldout["source_row"]) == sorted(np.argsort(ranks, kind="stable")[::10])
    assert sorted([*train["source_row"], *heldout["source_row"]]) == list(range(40))


def test_split_by_label_is_the_authors(setup):
    dataset = load_face_dataset(train_parquet=[str(setup / "faces.parquet")])
    dataset = dataset.add_column("source_row", np.arange(len(dataset)))
    dataset = dataset.select([i for i in range(len(dataset)) if i != UNLABELLED])
    train, heldout, _ = script.split_dataset(dataset, parse("--preset", "diffiqa-r"))
    assert sorted(heldout["quality"]) == sorted(dataset["quality"])[::10]
    assert sorted([*train["quality"], *heldout["quality"]]) == sorted(dataset["quality"])


def test_optimized_labels_by_hand():
    embeddings = torch.tensor([[1.0, 0], [0, 2], [-1, 0]], requires_grad=True)
    centres = torch.tensor([[3.0, 0], [1, 0], [1, 0]])
    out = script.optimize_labels(torch.tensor([0.4, 0.8, 0.9]), embeddings, centres, 0.5)
    torch.testing.assert_close(out, torch.tensor([0.4, 0.3, 0.0]))  # cosines 1, 0, -1; the last is clamped
    assert not out.requires_grad


def test_centres_by_hand():
    embeddings = np.arange(12, dtype=np.float32).reshape(6, 2)
    rows, people = np.array([5, 4, 3, 2, 1]), np.array([0, 0, 1, 1, 2])
    targets = np.array([0.9, 0.8, 0.7, 0.1, 0.2])
    centres, number = script.make_centres(embeddings, rows, people, targets, 0.5, 1)
    # At or above the median, 0.7: rows 5 and 4 of the first person, row 3 of the second, none of the third.
    np.testing.assert_array_equal(centres, [[9, 10], [6, 7]])
    np.testing.assert_array_equal(number, [0, 0, 1, 1, -1])
    centres, number = script.make_centres(embeddings, rows, people, targets, 0.5, 2)
    assert len(centres) == 1 and number.tolist() == [0, 0, -1, -1, -1]


def test_rank_loss_by_hand():
    scores, targets = torch.tensor([0.1, 0.5, 0.2], requires_grad=True), torch.tensor([0.0, 0.3, 0.9])
    total = 0
    for i in range(3):
        for j in range(i + 1, 3):
            p = torch.sigmoid((targets[i] - targets[j]) / 0.1)
            s = (scores[i] - scores[j]) / 0.1
            total = total - p * F.logsigmoid(s) - (1 - p) * F.logsigmoid(-s)
    torch.testing.assert_close(script.pairwise_rank_loss(scores, targets), total / 3)
    # It is least where the differences are those of the targets, whatever their level.
    shifted = (targets + 2).requires_grad_()
    (gradient,) = torch.autograd.grad(script.pairwise_rank_loss(shifted, targets), shifted)
    assert gradient.abs().max() < 1e-6
    assert script.pairwise_rank_loss(scores[:1], targets[:1]) == 0


def test_jitter_moves_the_landmarks_of_picture_and_crop():
    landmarks = json.loads((ROOT / "examples" / "photos" / "landmarks.json").read_text())
    from datasets import Dataset, Image

    names = ["astronaut.jpg", "sample1.jpg"]
    files = [str(ROOT / "examples" / "photos" / name) for name in names]
    dataset = Dataset.from_dict({"image": files, "points": [landmarks[name][0] for name in names]})
    dataset = dataset.cast_column("image", Image())
    still = script.LabelledFaces(dataset, parse("--landmarks_column", "points", "--flip_probability", "0"))
    moved = script.LabelledFaces(
        dataset, parse("--landmarks_column", "points", "--flip_probability", "0", "--landmark_jitter", "3")
    )
    crops = np.stack([still.clean(i) for i in range(2)])
    expected = FaceImageProcessor()(files, landmarks=dataset["points"][:], return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(crops, expected, atol=1e-6)
    np.testing.assert_array_equal(moved.clean(0), crops[0])
    jittered = moved[(0, 0)][0].numpy()
    np.testing.assert_array_equal(jittered, moved[(0, 0)][0].numpy())
    assert not np.array_equal(jittered, moved[(1, 0)][0].numpy())
    # A little: nearer to the still face than the other person is.
    assert 0 < np.abs(jittered - crops[0]).mean() < 0.6 * np.abs(crops[1] - crops[0]).mean()

    pictures = [np.round((crop.transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8) for crop in crops]
    aligned = Dataset.from_dict({"image": pictures}).cast_column("image", Image())
    crop = script.LabelledFaces(aligned, parse("--flip_probability", "0", "--landmark_jitter", "3"))[(0, 0)][0].numpy()
    # The same draw moves the aligned face as it moves the picture, but for a second interpolation and the border.
    inside = np.s_[:, 25:-25, 25:-25]
    assert np.abs(crop - jittered)[inside].mean() < 0.3 * np.abs(crops[0] - jittered)[inside].mean()

    broken = dataset.map(lambda row: {"points": [[0.0, 0.0]] * 5})
    with pytest.raises(FaceImageError, match="row 1 of the training data: landmarks"):
        script.LabelledFaces(broken, parse("--landmarks_column", "points"))[(0, 1)]


def test_validation_measures_what_the_evaluation_does(setup, tmp_path):
    from datasets import concatenate_datasets

    one = load_face_dataset(train_parquet=[str(setup / "faces.parquet")])
    dataset = concatenate_datasets([one, one, one])
    rows = np.random.default_rng(1).permutation(len(dataset))
    dataset = dataset.add_column("source_row", rows)
    rng = np.random.default_rng(0)
    people, index = np.unique(dataset["identity"], return_inverse=True)
    targets = rng.random(len(dataset)).astype(np.float32)
    noise = 2 * rng.standard_normal((len(dataset), 16)) * (1.3 - targets[:, None])
    embeddings = np.empty((len(dataset), 16))
    embeddings[rows] = rng.standard_normal((len(people), 16))[index] + noise
    np.save(tmp_path / "embeddings.npy", embeddings)
    args = parse("--validation_embeddings", str(tmp_path / "embeddings.npy"))
    model = MobileFaceNetForFaceQuality(MobileFaceNetConfig(**TINY)).eval()
    validate = script.Validation(dataset, targets, args)
    figures = validate(validate.scores(model))
    batch = FaceImageProcessor()(one["image"][:], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        by_hand = np.tile(model(batch).scores.numpy(), 3)
    scores = predict(model, script.LabelledFaces(dataset, args), range(len(dataset)), "")["scores"].numpy()
    np.testing.assert_allclose(scores, by_hand, atol=1e-5)
    assert figures["spearman"] == pytest.approx(spearmanr(scores, targets).statistic, abs=1e-6)
    assert figures["mean_absolute_error"] == pytest.approx(np.abs(scores - targets).mean(), abs=1e-6)
    expected = edc_from_embeddings(embeddings[rows], dataset["identity"][:], scores)
    assert 0.05 < expected.fnmr < 0.95
    for limit in (0.2, 0.3):
        assert figures[f"pauc_{limit}"] == pytest.approx(expected.pauc[limit], abs=1e-6)
    with pytest.raises(ValueError, match="needs people"):
        script.Validation(dataset.remove_columns("identity"), targets, args)


def test_degraded_copies_are_not_compared(setup, tmp_path):
    one = load_face_dataset(train_parquet=[str(setup / "faces.parquet")])
    one = one.select(np.arange(60) % len(one))  # an FMR of 1e-3 takes 1,000 non-mated pairs
    # Each face and two copies of it, without the first face, which has no label.
    everyone = one.select(np.repeat(np.arange(len(one)), 3)).add_column("degraded", [False, True, True] * len(one))
    rows = np.arange(1, len(everyone))
    dataset = everyone.select(rows).add_column("source_row", rows)
    rng = np.random.default_rng(0)
    embeddings, targets = rng.standard_normal((len(everyone), 8)), rng.random(len(rows)).astype(np.float32)
    np.save(tmp_path / "embeddings.npy", embeddings)
    args = parse("--validation_embeddings", str(tmp_path / "embeddings.npy"))
    validate = script.Validation(dataset, targets, args)
    pairs = validate.comparisons
    people = np.repeat(one["identity"][:], 3)
    clean = rows[rows % 3 == 0]
    expected = [(i, j) for i in clean for j in clean if i < j]
    assert [tuple(clean[pair]) for pair in pairs.pairs] == expected
    assert pairs.mated.tolist() == [bool(people[i] == people[j]) for i, j in expected]
    result = edc_from_embeddings(embeddings[clean], people[clean], targets[rows % 3 == 0])
    assert validate(targets)["pauc_0.3"] == pytest.approx(result.pauc[0.3], abs=1e-6)
    # What scores mean is measured on the clean faces alone, of which no two are one photo.
    model = MobileFaceNetForFaceQuality(MobileFaceNetConfig(**TINY)).eval()
    calibration = validate.calibration(model, targets)
    clean = targets[rows % 3 == 0]
    assert calibration.num_faces == len(clean) == len(one) - 1
    np.testing.assert_allclose(calibration.quantiles, np.quantile(clean, np.arange(101) / 100), atol=1e-6)
    what = "faces without degraded copies of 8 people held out of `y`"
    assert calibration.data == f"{what}; FNMR of the embeddings `embeddings.npy`"
    assert calibration.num_nonmated == (~pairs.mated).sum() and calibration.levels[0].pairs == pairs.mated.sum()
    # Embeddings by which all mated pairs match leave nothing to choose by.
    np.save(tmp_path / "embeddings.npy", np.eye(60)[np.unique(people, return_inverse=True)[1]])
    with pytest.raises(ValueError, match="all mated pairs"):
        script.Validation(
            dataset, targets, parse(*"--best_by pauc --validation_embeddings".split(), f"{tmp_path}/embeddings.npy")
        )


def test_a_calibration_of_the_first_faces_speaks_of_no_copies(setup, tmp_path, monkeypatch):
    monkeypatch.setattr(label_validation, "MAX_COMPARED", 55)
    faces = load_face_dataset(train_parquet=[str(setup / "faces.parquet")])
    faces = faces.select(np.arange(60) % len(faces)).add_column("source_row", np.arange(60))
    rng = np.random.default_rng(0)
    np.save(tmp_path / "embeddings.npy", rng.standard_normal((60, 8)))
    targets = rng.random(60).astype(np.float32)
    validate = script.Validation(faces, targets, parse("--validation_embeddings", str(tmp_path / "embeddings.npy")))
    model = MobileFaceNetForFaceQuality(MobileFaceNetConfig(**TINY)).eval()
    calibration = validate.calibration(model, targets)
    assert calibration.num_faces == 55 and calibration.data.startswith("faces of 8 people held out of")
