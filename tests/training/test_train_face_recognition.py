# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import json
import re
import zlib
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.networks import MOBILEFACENET as TINY
from fixtures.scripts import (
    ROOT,
    assert_every_option_is_explained,
    assert_same_weights,
    load_script,
    run_anew,
    run_on_two_processes,
)
from safetensors.torch import load_file
from transformers import AutoModel

from diffiqa_hf import FaceImageProcessor, IResNetModel, MobileFaceNetConfig, MobileFaceNetModel
from diffiqa_hf.evaluation import compare_embeddings
from diffiqa_hf.losses import CosFaceLoss
from diffiqa_hf.training.data import load_face_dataset
from diffiqa_hf.training.run import make_accelerator


train_fr = load_script("train_face_recognition")

TINY_IRESNET = {"model_type": "iresnet", "depths": [1, 1, 1], "widths": [4, 4, 8], "embedding_size": 8, "dropout": 0.4}


@pytest.fixture(scope="module")
def setup(tmp_path_factory) -> Path:
    """The example faces as a dataset with people, a teacher, and a student's configuration."""
    from datasets import Dataset, Image

    folder = tmp_path_factory.mktemp("fr")
    faces = json.loads((ROOT / "examples" / "faces" / "faces.json").read_text())["faces"]
    files = [str(ROOT / "examples" / "faces" / face["file"]) for face in faces]
    dataset = Dataset.from_dict({"image": files, "identity": [face["person"] for face in faces]})
    dataset.cast_column("image", Image()).to_parquet(str(folder / "faces.parquet"))
    torch.manual_seed(0)
    teacher = MobileFaceNetModel(MobileFaceNetConfig(**TINY | {"embedding_size": 16}))
    teacher.save_pretrained(folder / "teacher")
    (folder / "student.json").write_text(json.dumps(TINY))
    (folder / "iresnet.json").write_text(json.dumps(TINY_IRESNET))
    return folder


def train(setup: Path, output_dir: Path, *extra: str) -> None:
    args = ["--train_parquet", str(setup / "faces.parquet"), "--output_dir", str(output_dir), "--report_to", "none"]
    run_anew(train_fr.main, [*args, "--train_batch_size", "4", "--checkpointing_steps", "2", *extra])


def distil(setup: Path, output_dir: Path, *extra: str) -> None:
    student = str(setup / "student.json")
    train(setup, output_dir, "--teacher", str(setup / "teacher"), "--student_config", student, *extra)


def assert_resumed_equals_straight(run, folder: Path, *extra: str) -> None:
    extra = ("--learning_rate", "1e-3", "--max_train_steps", "4", *extra)
    run(folder / "straight", *extra)
    # The schedule belongs to the whole run, so the first half is a run of four steps that lost its end.
    run(folder / "stopped", *extra)
    (folder / "stopped" / "checkpoint-4" / "complete").unlink()
    run(folder / "stopped", "--resume_from_checkpoint", "latest", *extra)
    for name in ("model/model.safetensors", "checkpoint-4/model.safetensors"):
        assert_same_weights(folder / "straight" / name, folder / "stopped" / name)


def test_resumed_distillation_equals_straight_run(setup, tmp_path):
    extra = ["--validation_steps", "4", "--holdout_modulo", "3"]
    assert_resumed_equals_straight(lambda *args: distil(setup, *args), tmp_path, *extra)
    assert isinstance(AutoModel.from_pretrained(tmp_path / "straight" / "model"), MobileFaceNetModel)


@pytest.mark.parametrize("loss", train_fr.LOSSES)
def test_resumed_margin_loss_equals_straight_run(setup, tmp_path, loss):
    # With dropout and sampled classes, which are random as well; a look at the held-out people comes in between.
    extra = ["--loss", loss, "--model_config", str(setup / "iresnet.json"), "--sample_rate", "0.5"]
    extra += ["--holdout_modulo", "3", "--validation_steps", "2"]
    assert_resumed_equals_straight(lambda *args: train(setup, *args), tmp_path, *extra)
    centres = "checkpoint-4/model_1.safetensors"  # and running statistics
    assert_same_weights(tmp_path / "straight" / centres, tmp_path / "stopped" / centres)
    state = load_file(tmp_path / "straight" / centres)
    assert state.pop("weight").shape == (5, 8)  # eight people, of whom three are held out
    before = train_fr.LOSSES[loss](5, 8).state_dict()
    assert all(not torch.equal(value, before[name]) for name, value in state.items())
    model = AutoModel.from_pretrained(tmp_path / "straight" / "model")
    assert isinstance(model, IResNetModel)
    assert model(torch.zeros(2, 3, 112, 112)).embeddings.shape == (2, 8)


@pytest.mark.slow
def test_two_processes_go_on_where_they_were(setup, tmp_path):
    args = ["--train_parquet", str(setup / "faces.parquet"), "--report_to", "none", "--loss", "cosface"]
    args += ["--model_config", str(setup / "student.json"), "--holdout_modulo", "3", "--validation_steps", "2"]
    args += ["--train_batch_size", "2", "--checkpointing_steps", "2"]

    def run(folder: Path, *extra: str) -> None:
        run_on_two_processes("train_face_recognition", [*args, "--output_dir", str(folder), *extra])
        assert json.loads((folder / "model" / "training.json").read_text())["processes"] == 2

    assert_resumed_equals_straight(run, tmp_path)


def test_a_margin_loss_learns_the_people(setup, tmp_path):
    extra = ["--loss", "cosface", "--loss_arguments", '{"scale": 8.0}', "--model_config", str(setup / "student.json")]
    extra += ["--train_batch_size", "24", "--degrade_probability", "0", "--ema_decay", "0", "--optimizer", "sgd"]
    extra += ["--learning_rate", "0.2", "--weight_decay", "5e-4", "--checkpointing_steps", "40"]
    train(setup, tmp_path, *extra, "--max_train_steps", "40")
    faces = json.loads((ROOT / "examples" / "faces" / "faces.json").read_text())["faces"]
    batch = FaceImageProcessor()([ROOT / "examples" / "faces" / face["file"] for face in faces])["pixel_values"]
    names = [face["person"] for face in faces]
    labels = torch.tensor([sorted(set(names)).index(name) for name in names])
    loss = CosFaceLoss(8, 8, scale=8.0)
    loss.load_state_dict(load_file(tmp_path / "checkpoint-40" / "model_1.safetensors"))
    model = AutoModel.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        cosine, _, _ = loss.eval().cosines(model(torch.as_tensor(np.asarray(batch))).embeddings, labels)
    # Chance is an eighth; the most frequent person is a fifth of the faces.
    assert (cosine.argmax(1) == labels).float().mean() > 0.6


def test_training_goes_on_from_a_model(setup, tmp_path):
    extra = ["--loss", "arcface", "--model_name_or_path", str(setup / "teacher"), "--learning_rate", "0"]
    train(setup, tmp_path, *extra, "--max_train_steps", "2")
    before = dict(AutoModel.from_pretrained(setup / "teacher").named_parameters())
    after = dict(AutoModel.from_pretrained(tmp_path / "model").named_parameters())
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_a_grown_model_starts_as_the_small_one(setup, tmp_path):
    stages = [[8, 8, 2, 2], [8, 8, 1, 2], [8, 8, 3, 2]]
    config = TINY | {"embedding_size": 16, "stages": stages}
    (tmp_path / "deeper.json").write_text(json.dumps(config))
    extra = ["--loss", "arcface", "--model_name_or_path", str(setup / "teacher"), "--learning_rate", "0"]
    train(setup, tmp_path, *extra, "--model_config", str(tmp_path / "deeper.json"), "--max_train_steps", "2")
    before = AutoModel.from_pretrained(setup / "teacher").train()
    after = AutoModel.from_pretrained(tmp_path / "model").train()
    assert after.config.stages == stages
    faces = torch.rand(4, 3, 112, 112) * 2 - 1
    torch.testing.assert_close(after(faces).embeddings, before(faces).embeddings)
    # The new blocks do learn: what they end in is zero, what flows into it is not.
    after(faces).embeddings.square().sum().backward()
    for block in (1, 4, 5):
        assert after.blocks[block].project.norm.weight.grad.abs().max() > 0


def test_a_model_grows_only_deeper():
    small, other = MobileFaceNetConfig(**TINY), TINY | {"stages": [[8, 8, 1, 2], [8, 8, 1, 2]]}
    small = MobileFaceNetModel(small)
    with pytest.raises(ValueError):
        train_fr.grow(small, MobileFaceNetModel(MobileFaceNetConfig(**other)))
    deeper = TINY | {"stages": [[8, 8, 2, 2], [8, 8, 1, 2], [8, 8, 1, 2]]}
    with pytest.raises(ValueError, match="fewer blocks"):
        train_fr.grow(MobileFaceNetModel(MobileFaceNetConfig(**deeper)), small)
    wider = TINY | {"stages": [[8, 8, 1, 2], [16, 8, 1, 2], [8, 8, 1, 2]]}
    with pytest.raises(RuntimeError, match="size mismatch"):
        train_fr.grow(small, MobileFaceNetModel(MobileFaceNetConfig(**wider)))


def test_distillation_beside_a_margin_loss(setup, tmp_path):
    """Weight 1 and 2 move the class centres alike in the first step, and the model differently."""
    extra = ["--loss", "arcface", "--model_config", str(setup / "student.json"), "--max_train_steps", "2"]
    extra += ["--teacher", str(setup / "teacher"), "--checkpointing_steps", "1", "--learning_rate", "0.01"]
    extra += ["--optimizer", "sgd"]
    for weight in ("1", "2"):
        train(setup, tmp_path / weight, *extra, "--distillation_weight", weight)
    assert_same_weights(*(tmp_path / weight / "checkpoint-1" / "model_1.safetensors" for weight in ("1", "2")))
    one, two = (load_file(tmp_path / weight / "checkpoint-1" / "model.safetensors") for weight in ("1", "2"))
    assert any(not torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([], "a teacher is needed"),
        (["--loss", "arcface", "--distillation_weight", "1"], "a teacher is needed"),
        (["--loss", "arcface", "--teacher", "x"], "no use of a teacher"),
    ],
)
def test_options_that_do_not_go_together(setup, tmp_path, capsys, extra, message):
    with pytest.raises(SystemExit):
        train(setup, tmp_path, *extra)
    assert message in capsys.readouterr().err


def test_a_margin_loss_needs_people(setup, tmp_path):
    with pytest.raises(ValueError, match="no column 'name'"):
        train(setup, tmp_path, "--loss", "arcface", "--identity_column", "name", "--max_train_steps", "1")


def test_every_option_is_explained(monkeypatch):
    assert_every_option_is_explained(train_fr.parse_args, monkeypatch, more_than=20)


def test_joined_teachers_keep_the_mean_similarity():
    rng = np.random.default_rng(0)
    teachers = [rng.standard_normal((200, 6)), rng.standard_normal((200, 4)) + 5]
    target = train_fr.join_teachers(teachers, 10).numpy()
    target = target / np.linalg.norm(target, axis=1, keepdims=True)
    expected = 0
    for embeddings in teachers:
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        centred = unit - unit.mean(0)
        centred /= np.linalg.norm(centred, axis=1, keepdims=True)
        expected = expected + centred @ centred.T / 2
    np.testing.assert_allclose(target @ target.T, expected, atol=1e-5)
    # The kept components are those with the most energy.
    fewer = train_fr.join_teachers(teachers, 3).numpy()
    energy = np.sort(np.linalg.eigvalsh(np.cov(train_fr.join_teachers(teachers, 10).numpy().T, ddof=0)))
    assert (fewer**2).sum() / 200 == pytest.approx(energy[-3:].sum(), rel=0.05)


def test_verification_by_hand():
    # Two people on two axes: everything is told apart.
    embeddings = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], float)
    assert train_fr.verification(embeddings, ["a", "a", "b", "b"]) == {
        "balanced_accuracy": 1.0,
        "mated_pairs": 2,
        "tar_at_fmr_1e-2": 1.0,
        "tar_at_fmr_1e-3": 1.0,
        "tar_at_fmr_1e-4": 1.0,
    }
    # Names crosswise: the mated pairs are the farther ones.
    assert train_fr.verification(embeddings, ["a", "b", "a", "b"])["tar_at_fmr_1e-3"] == 0.0
    with pytest.raises(ValueError, match="no mated"):
        train_fr.verification(embeddings, ["a", "b", "c", "d"])


def test_tar_is_that_at_no_more_than_the_fmr():
    rng = np.random.default_rng(0)
    names = [str(i // 4) for i in range(60)]
    embeddings = rng.standard_normal((60, 3)) + 2 * np.repeat(rng.standard_normal((15, 3)), 4, 0)
    figures = train_fr.verification(embeddings, names)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    pairs = [(i, j) for i in range(60) for j in range(i)]
    mated = np.array([unit[i] @ unit[j] for i, j in pairs if names[i] == names[j]])
    nonmated = np.array([unit[i] @ unit[j] for i, j in pairs if names[i] != names[j]])
    for fmr in (1e-2, 1e-3, 1e-4):
        # Of all thresholds that keep to the rate, the one that lets most mated pairs through; 1,680 non-mated pairs.
        allowed = [t for t in nonmated if (nonmated > t).mean() <= fmr]
        expected = max((mated > t).mean() for t in allowed)
        assert figures[f"tar_at_fmr_{np.format_float_scientific(fmr, exp_digits=1, trim='-')}"] == expected


def test_the_interval_of_the_fnmr_is_that_of_brute_force(caplog):
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(15), 4)
    embeddings = rng.standard_normal((60, 8)) + 2 * np.repeat(rng.standard_normal((15, 8)), 4, 0)
    names = [f"{person:02}" for person in people]
    (result,) = train_fr.heldout_results(embeddings, names)
    assert 0.1 < result.low < result.value < result.high < 1 and result.confidence == 0.95
    assert result.value == pytest.approx(1 - train_fr.verification(embeddings, names)["tar_at_fmr_1e-3"])
    assert result.basis.startswith("90 mated and all 1,680 non-mated pairs of 15 people, bootstrap of 1000")

    pairs = compare_embeddings(embeddings, people)
    mated, nonmated = (pairs.similarities[kind] for kind in (pairs.mated, ~pairs.mated))
    owners, ends = people[pairs.pairs[pairs.mated, 0]], people[pairs.pairs[~pairs.mated]]
    descending = np.argsort(-nonmated)
    rng, rates = np.random.default_rng(0), []
    for _ in range(1000):
        times = np.bincount(rng.integers(15, size=15), minlength=15)
        weights = times[ends].prod(1)[descending]
        # The first non-mated pair that may not match any more.
        rejected = nonmated[descending][np.argmax(weights.cumsum() > 1e-3 * weights.sum() + 1e-9)]
        rates.append((times[owners] * (mated <= rejected)).sum() / times[owners].sum())
    np.testing.assert_allclose([result.low, result.high], np.quantile(rates, [0.025, 0.975]), atol=1e-9)
    # 40 faces have 720 non-mated pairs: no FMR of one in a thousand.
    assert train_fr.heldout_results(embeddings[:40], names[:40]) == [] and "720 non-mated" in caplog.text


def test_a_resumed_run_that_had_reached_its_end_records_the_same(setup, tmp_path):
    dataset = load_face_dataset(train_parquet=[str(setup / "faces.parquet")])
    dataset.select(np.tile(np.arange(len(dataset)), 8)).to_parquet(str(tmp_path / "faces.parquet"))
    extra = ["--train_parquet", str(tmp_path / "faces.parquet"), "--holdout_modulo", "3", "--max_train_steps", "1"]
    distil(setup, tmp_path / "run", *extra)
    path = tmp_path / "run" / "model" / "training.json"
    straight = json.loads(path.read_text())["results"]
    assert [result["metric"] for result in straight] == ["fnmr"]
    path.unlink()
    distil(setup, tmp_path / "run", *extra, "--resume_from_checkpoint", "latest")
    assert json.loads(path.read_text())["results"] == straight
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "FNMR at FMR 1e-3" in card and "No figure was recorded" not in card


def test_processes_wait_for_the_main_one():
    args = train_fr.parse_args("--output_dir x --train_parquet y --teacher z --report_to none".split())
    # NCCL's own 10 minutes are too short for a validation.
    assert make_accelerator(args).init_handler.to_kwargs()["timeout"] >= timedelta(hours=1)


def test_augmented_faces_are_faces():
    faces = torch.rand(8, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
    out = train_fr.augment(faces, torch.Generator().manual_seed(1))
    assert out.shape == faces.shape and out.abs().max() <= 1 and not torch.equal(out, faces)
    assert torch.equal(out, train_fr.augment(faces, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_processes_augment_as_one_does(processes):
    faces = torch.rand(24, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1
    size, blurred = 24 // processes, 0
    for seed in range(12):
        one = train_fr.augment(faces, torch.Generator().manual_seed(seed))
        parts = [
            train_fr.augment(faces[p * size : (p + 1) * size], torch.Generator().manual_seed(seed), p, processes)
            for p in range(processes)
        ]
        torch.testing.assert_close(torch.cat(parts), one)
        # Half of them have lost their resolution, now and then.
        steps = (one[..., 1:] - one[..., :-1]).abs().mean((1, 2, 3))
        blurred += steps[:12].mean() < 0.7 * steps[12:].mean()
    assert 0 < blurred < 12


def test_nan_stops_and_names_the_batch(setup, tmp_path):
    # Three of eight people are held out, and the rows are those of the file.
    named = r"at step 1, on a batch of 4 faces \(rows .* of the dataset\)"
    with pytest.raises(FloatingPointError, match=named) as error:
        distil(setup, tmp_path, "--learning_rate", "inf", "--max_train_steps", "3", "--holdout_modulo", "3")
    named = [int(row) for row in re.search(r"rows ([\d, ]+) of", str(error.value)).group(1).split(", ")]
    people = [face["person"] for face in json.loads((ROOT / "examples" / "faces" / "faces.json").read_text())["faces"]]
    assert len(set(named)) == 4 and all(zlib.crc32(people[row].encode()) % 3 for row in named)


def test_relation_loss_is_a_divergence_from_the_teachers():
    generator = torch.Generator().manual_seed(0)
    wanted, others = torch.randn(3, 8, generator=generator), torch.randn(20, 8, generator=generator)
    embeddings = torch.randn(3, 8, generator=generator)
    # What the teachers give, at any length, has none.
    assert train_fr.relation_loss(2 * wanted, wanted, others).abs() < 1e-6

    def softmax(logits: np.ndarray) -> np.ndarray:
        weights = np.exp(logits - logits.max(1, keepdims=True))
        return weights / weights.sum(1, keepdims=True)

    unit = [x.numpy().astype(np.float64) for x in (embeddings, wanted, torch.cat([wanted, others]))]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in unit]
    teachers, student = softmax(16 * unit[1] @ unit[2].T), softmax(16 * unit[0] @ unit[2].T)
    expected = (teachers * np.log(teachers / student)).sum(1).mean()
    assert train_fr.relation_loss(embeddings, wanted, others).item() == pytest.approx(expected, rel=1e-5)
