# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from transformers import AutoModel

from diffiqa_hf import MobileFaceNetConfig, MobileFaceNetModel


ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("train_fr", ROOT / "training" / "train_face_recognition.py")
train_fr = importlib.util.module_from_spec(spec)
spec.loader.exec_module(train_fr)

TINY = {
    "stem_width": 8,
    "stem_groups": 8,
    "stages": [[8, 8, 1, 2], [8, 8, 1, 2], [8, 8, 1, 2]],
    "feature_width": 16,
    "embedding_size": 8,
}


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
    return folder


def train(setup: Path, output_dir: Path, *extra: str) -> None:
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    args = ["--train_parquet", str(setup / "faces.parquet"), "--teacher", str(setup / "teacher")]
    args += ["--student_config", str(setup / "student.json"), "--output_dir", str(output_dir), "--report_to", "none"]
    train_fr.main([*args, "--train_batch_size", "4", "--checkpointing_steps", "2", *extra])


def test_resumed_run_equals_straight_run(setup, tmp_path):
    extra = ["--learning_rate", "1e-3", "--validation_steps", "4", "--holdout_modulo", "3"]
    train(setup, tmp_path / "straight", "--max_train_steps", "4", *extra)
    # The schedule belongs to the whole run, so the first half is a run of four steps that lost its end.
    train(setup, tmp_path / "stopped", "--max_train_steps", "4", *extra)
    (tmp_path / "stopped" / "checkpoint-4" / "complete").unlink()
    train(setup, tmp_path / "stopped", "--max_train_steps", "4", "--resume_from_checkpoint", "latest", *extra)
    straight = AutoModel.from_pretrained(tmp_path / "straight" / "model").state_dict()
    stopped = AutoModel.from_pretrained(tmp_path / "stopped" / "model").state_dict()
    assert all(torch.equal(straight[name], stopped[name]) for name in straight)


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
        "fnmr_at_fmr_1e-3": 0.0,
        "mated_pairs": 2,
    }
    # Names crosswise: the mated pairs are the farther ones.
    assert train_fr.verification(embeddings, ["a", "b", "a", "b"])["fnmr_at_fmr_1e-3"] == 1.0


def test_augmented_faces_are_faces():
    faces = torch.rand(8, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
    out = train_fr.augment(faces, torch.Generator().manual_seed(1))
    assert out.shape == faces.shape and out.abs().max() <= 1 and not torch.equal(out, faces)
    assert torch.equal(out, train_fr.augment(faces, torch.Generator().manual_seed(1)))
