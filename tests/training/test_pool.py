# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import io

import numpy as np
import pandas as pd
import pytest
import torch
from fixtures.scripts import ROOT, load_script
from PIL import Image

from diffiqa_hf import AutoModelForFaceQuality, MobileFaceNetConfig, MobileFaceNetForFaceQuality, MobileFaceNetModel
from diffiqa_hf.image_processing_face import pixels_to_face
from diffiqa_hf.training.distillation import RANK_TEMPERATURE, pairwise_rank_loss
from diffiqa_hf.training.embedding_hints import WithEmbeddings, embedding_targets, embedding_weights
from diffiqa_hf.training.pool import Pool, leave_one_out, quality_labels, ranks, unit


make_pool, train_on_pool = load_script("make_pool"), load_script("train_on_pool")
train_fr_student = load_script("train_fr_student")

SMALL = {
    "stem_width": 8,
    "stem_groups": 8,
    "stages": [[8, 8, 1, 2], [16, 8, 1, 2], [16, 8, 1, 2]],
    "feature_width": 16,
    "embedding_size": 8,
    "hidden_act": "relu6",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pool of the example faces with a teacher of random weights, and the folder of that teacher."""
    root = tmp_path_factory.mktemp("pool")
    rows = []
    for i, path in enumerate(sorted((ROOT / "examples" / "faces").glob("*.jpg"))[:12]):
        buffer = io.BytesIO()
        Image.open(path).convert("RGB").resize((112, 112)).save(buffer, "PNG")
        rows.append({"image": {"bytes": buffer.getvalue(), "path": path.name}, "identity": f"person {i // 2}"})
    pd.DataFrame(rows).to_parquet(root / "faces.parquet")
    # Its embeddings make the labels: by chance as many sure faces as other pictures, from which no bias is learnt.
    torch.manual_seed(1)
    MobileFaceNetModel(MobileFaceNetConfig(**SMALL)).save_pretrained(root / "teacher")
    make(root, "10")
    return root


def make(root, series, *extra):
    args = ["--train_parquet", str(root / "faces.parquet"), "--fr_model", str(root / "teacher"), "--non_faces", "6"]
    args += ["--series", series, "--holdout_modulo", "3", "--output_dir", str(root / "pool"), *extra]
    make_pool.main(args)


def test_a_pool_goes_on_where_it_was(folder):
    pool = Pool.open(folder / "pool", ["teacher"])
    assert pool.table["kind"].eq("face").sum() == 12 and pool.table["kind"].eq("non-face").sum() == 6
    assert len(pool.images) == len(pool.table) == 12 + 6 + 3 * 10
    strengths = pool.table["strength"][18:].to_numpy().reshape(10, 3)
    assert (np.diff(strengths, axis=1) > 0).all()
    before, embedded = np.array(pool.images), np.array(pool.embeddings["teacher"])
    # As a run leaves it that was stopped, while it wrote, after the faces.
    (folder / "pool" / "images.done").write_text("12")
    (folder / "pool" / "teacher.done").write_text("12")
    images = np.load(folder / "pool" / "images.npy", mmap_mode="r+")
    images[20:] = 0
    make(folder, "10")
    again = Pool.open(folder / "pool", ["teacher"])
    assert np.array_equal(again.images, before)
    np.testing.assert_allclose(again.embeddings["teacher"], embedded, rtol=0, atol=0.02 * np.abs(embedded).max())
    with pytest.raises(SystemExit, match="another pool"):
        make(folder, "11")


def test_a_pool_has_the_mirrored_images_embeddings_where_asked(folder):
    make(folder, "10", "--mirrored", "--precision", "float32")
    pool = Pool.open(folder / "pool", ["teacher", "teacher-mirrored"])
    teacher = MobileFaceNetModel.from_pretrained(folder / "teacher").eval()
    faces = torch.from_numpy(np.stack([pixels_to_face(np.array(image[:, ::-1])) for image in pool.images[:12]]))
    with torch.inference_mode():
        expected = teacher(faces).embeddings.numpy()
    found = pool.embeddings["teacher-mirrored"][:12]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_of_a_pool_that_is_being_made_whole_series_are_read(folder):
    (folder / "pool" / "teacher.done").write_text("23")
    try:
        assert len(Pool.open(folder / "pool", ["teacher"]).table) == 21
    finally:
        (folder / "pool" / "teacher.done").write_text("48")


def test_the_centre_of_the_others():
    vectors = unit(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, -1.0]]))
    centres, found = leave_one_out(vectors, np.array(["a", "a", "a", "b"]))
    assert found.tolist() == [True, True, True, False]
    np.testing.assert_allclose(centres[0], unit(vectors[1] + vectors[2]))


def test_ranks_of_many_equal_values_are_their_middle():
    np.testing.assert_allclose(ranks(np.array([0.0, 1.0]), np.repeat([0.0, 1.0], 500)), [0.25, 0.75], atol=0.01)


def test_labels_fall_along_a_series_and_with_the_similarity():
    """Two people of two faces and one of one, each with a series of three; the last copy of one came out better."""
    angles = np.radians([0, 20, 120, 140, 240])
    clean = np.stack([np.cos(angles), np.sin(angles)], 1) * np.array([3, 3, 2.5, 2.5, 2])[:, None]
    turned = np.radians([10, 50, 120])
    copies = np.concatenate([np.stack([np.cos(a - turned), np.sin(a - turned)], 1) for a in angles])
    copies[[1, 2]] = copies[[2, 1]]
    embeddings = np.concatenate([clean, np.full((1, 2), np.nan), copies])
    table = pd.DataFrame(
        {
            "face": [*range(5), -1, *np.repeat(range(5), 3)],
            "series": [-1] * 6 + np.repeat(range(5), 3).tolist(),
            "strength": [0.0] * 6 + [0.1, 0.5, 0.9] * 5,
            "kind": ["face"] * 5 + ["non-face"] + ["turn"] * 15,
            "identity": ["a", "a", "b", "b", "c", "", *np.repeat(["a", "a", "b", "b", "c"], 3)],
            "heldout": False,
        }
    )
    labels = quality_labels(Pool(table, np.zeros((21, 1, 1, 3)), {"model": embeddings}))
    assert np.isfinite(labels).all() and labels.min() >= 0 and labels.max() <= 1 and labels[5] == 0
    series = np.hstack([labels[:5, None], labels[6:].reshape(5, 3)])
    assert (np.diff(series, axis=1) <= 0).all() and (series[:, 0] > series[:, -1]).all()
    assert series[0, 3] == series[0, 2] < series[0, 1]

    # How far each moves when it is mirrored, seen from the mean of the faces.
    plain = np.nan_to_num(embeddings)
    mirrored = plain + np.random.default_rng(0).normal(0, 0.5, plain.shape)
    pool = Pool(table, np.zeros((21, 1, 1, 3)), {"model": plain, "model-mirrored": mirrored})
    moved = quality_labels(pool, mirrored_weight=1.0)
    ends = [vectors[:5] - plain[:5].mean(0) for vectors in (plain, mirrored)]
    cosines = (ends[0] * ends[1]).sum(1) / np.prod([np.linalg.norm(vectors, axis=1) for vectors in ends], axis=0)
    assert np.argsort(moved[:5]).tolist() == np.argsort(cosines).tolist() and moved[5] == 0
    assert (np.diff(np.hstack([moved[:5, None], moved[6:].reshape(5, 3)]), axis=1) <= 0).all()
    np.testing.assert_allclose(quality_labels(pool, mirrored_weight=0.25)[:5], 0.75 * labels[:5] + 0.25 * moved[:5])

    # The norms alone, of one model and of two that say the opposite.
    opposite = np.concatenate([unit(clean) * np.array([1, 2, 3, 4, 5])[:, None], plain[5:]])
    pool = Pool(table, np.zeros((21, 1, 1, 3)), {"model": opposite, "other": unit(plain) * 6 - opposite})
    by_norm = quality_labels(pool, ["model"], 1.0)
    assert np.argsort(by_norm[:5]).tolist() == [0, 1, 2, 3, 4]
    assert np.ptp(quality_labels(pool, ["model", "other"], 0.5)[:5]) < 0.1 * np.ptp(by_norm[:5])


def test_training_makes_a_model_that_tells_faces(folder, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(MobileFaceNetConfig(**SMALL).to_json_string(use_diff=False))
    args = ["--pool", str(folder / "pool"), "--fr_model", "teacher", "--model_config", str(config)]
    args += ["--series_per_batch", "2", "--faces_per_batch", "2", "--non_faces_per_batch", "2"]
    args += ["--twice_per_batch", "2", "--checkpointing_steps", "1", "--validation_steps", "0"]
    args += ["--face_rank_loss_weight", "0.3"]
    train_on_pool.main([*args, "--max_train_steps", "3", "--output_dir", str(tmp_path / "straight")])
    train_on_pool.main([*args, "--max_train_steps", "3", "--output_dir", str(tmp_path / "run")])
    for checkpoint in ("checkpoint-3",):
        (tmp_path / "run" / checkpoint).rename(tmp_path / "gone")
    train_on_pool.main(
        [*args, "--max_train_steps", "3", "--output_dir", str(tmp_path / "run"), "--resume_from_checkpoint", "latest"]
    )
    models = [AutoModelForFaceQuality.from_pretrained(tmp_path / run / "model").eval() for run in ("straight", "run")]
    assert models[0].config.face_check
    faces = Pool.open(folder / "pool", ["teacher"]).images[:4]
    found = [train_on_pool.score(model, faces, "cpu") for model in models]
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-5 * np.abs(found[0]).max())


def test_the_face_check_alone_is_trained_and_the_scores_stay(folder, tmp_path):
    config = MobileFaceNetConfig(**SMALL, face_check=True)
    torch.manual_seed(0)  # of weights by chance some give no feature at all, which nothing can be learnt from
    MobileFaceNetForFaceQuality(config).save_pretrained(tmp_path / "start")
    args = ["--pool", str(folder / "pool"), "--fr_model", "teacher", "--model_name_or_path", str(tmp_path / "start")]
    args += ["--series_per_batch", "2", "--faces_per_batch", "2", "--non_faces_per_batch", "2"]
    args += ["--twice_per_batch", "2", "--validation_steps", "0", "--output_dir", str(tmp_path / "run")]
    train_on_pool.main([*args, "--only_face_check", "--max_train_steps", "3", "--warmup_steps", "1"])
    faces = Pool.open(folder / "pool", ["teacher"]).images[:4]
    models = [AutoModelForFaceQuality.from_pretrained(tmp_path / name).eval() for name in ("start", "run/model")]
    (scores, logits), (scores_then, logits_then) = (train_on_pool.score(model, faces, "cpu") for model in models)
    np.testing.assert_allclose(scores_then, scores, rtol=0, atol=1e-5 * np.abs(scores).max())
    assert (np.abs(logits_then - logits) > 1e-4).all()


def test_a_network_learns_the_embeddings_beside(folder, tmp_path):
    config = MobileFaceNetConfig(**SMALL, face_check=True)
    torch.manual_seed(0)
    MobileFaceNetForFaceQuality(config).save_pretrained(tmp_path / "start")
    args = ["--pool", str(folder / "pool"), "--fr_model", "teacher", "--model_name_or_path", str(tmp_path / "start")]
    args += ["--series_per_batch", "2", "--faces_per_batch", "2", "--non_faces_per_batch", "2"]
    args += ["--twice_per_batch", "2", "--validation_steps", "1", "--max_train_steps", "3", "--warmup_steps", "1"]
    for name, weight in (("without", "0"), ("with", "1")):
        train_on_pool.main([*args, "--embedding_loss_weight", weight, "--output_dir", str(tmp_path / name)])
    models = [AutoModelForFaceQuality.from_pretrained(tmp_path / name / "model") for name in ("without", "with")]
    # The layers are left out, and what was learnt by them stays.
    assert models[0].state_dict().keys() == models[1].state_dict().keys()
    weights = [torch.cat([p.flatten() for p in model.backbone.parameters()]) for model in models]
    assert (weights[0] - weights[1]).abs().max() > 1e-4


def test_hints_are_those_of_both_sides_of_a_picture(folder):
    pool = Pool.open(folder / "pool", ["teacher", "teacher-mirrored"])
    (target,) = embedding_targets(pool, ["teacher"])
    known = ((pool.table["kind"] == "face") & ~pool.table["heldout"]).to_numpy()
    both = np.asarray(pool.embeddings["teacher"], np.float64) + pool.embeddings["teacher-mirrored"]
    expected = both - both[known].mean(0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(target[known], expected[known], rtol=0, atol=1e-4)
    labels, is_face = torch.tensor([0.1, 0.5, 0.9, 0.9]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    weights = embedding_weights(labels, is_face)
    assert weights.tolist() == pytest.approx([0.2, 1, 1, 0])

    model = WithEmbeddings(MobileFaceNetForFaceQuality(MobileFaceNetConfig(**SMALL)).eval(), [4])
    faces = torch.rand(4, 3, 112, 112)
    with torch.no_grad():
        features = model.layers[0](model.quality(faces).embeddings)
        unit = torch.nn.functional.normalize(features, dim=1)
        wanted = unit.clone()
        wanted[1] *= -1  # the opposite: a loss of 2
        output, loss = model(faces, [wanted], weights)
        assert loss.item() == pytest.approx(2 / 2.2, abs=1e-5)
        assert torch.equal(output.scores, model.quality(faces).scores)
        assert WithEmbeddings(model.quality, [])(faces, [], weights)[1] == 0


def test_the_order_of_a_series_is_a_loss():
    labels = torch.tensor([[0.9, 0.7, 0.4]])
    right, wrong = torch.tensor([[0.8, 0.6, 0.3]]), torch.tensor([[0.8, 0.6, 0.7]])
    assert train_on_pool.order_loss(right, labels) == 0 < train_on_pool.order_loss(wrong, labels)


def test_the_order_of_clean_faces_counts_where_their_labels_lie_close_together():
    labels, wrong = torch.tensor([0.90, 0.88]), torch.tensor([0.88, 0.90])
    wide, sharp = (
        [pairwise_rank_loss(scores, labels, temperature) for scores in (labels, wrong)]
        for temperature in (RANK_TEMPERATURE, train_on_pool.FACE_TEMPERATURE)
    )
    assert 0 < wide[1] - wide[0] < sharp[1] - sharp[0]


def test_a_student_moves_towards_its_teacher(folder, tmp_path):
    MobileFaceNetModel(MobileFaceNetConfig(**SMALL)).save_pretrained(tmp_path / "start")
    args = ["--pool", str(folder / "pool"), "--teacher", str(folder / "teacher"), "--faces_per_batch", "4"]
    args += ["--model_name_or_path", str(tmp_path / "start"), "--output_dir", str(tmp_path / "run")]
    train_fr_student.main([*args, "--max_train_steps", "3", "--validation_steps", "3", "--checkpointing_steps", "3"])
    assert MobileFaceNetModel.from_pretrained(tmp_path / "run" / "model").config.embedding_size == 8


def test_what_the_student_sees_is_what_the_pipeline_makes(folder):
    image = np.array(Pool.open(folder / "pool", ["teacher"]).images[0])
    rng = np.random.default_rng(0)
    mirrored = train_fr_student.perturb(image, rng, ("mirror",))
    np.testing.assert_array_equal(mirrored[:, :, ::-1], train_fr_student.perturb(image, rng, ()))
    noisy = train_fr_student.perturb(image, np.random.default_rng(1), ("noise",))
    sd = (noisy - train_fr_student.perturb(image, rng, ())).std()
    assert 0.02 <= sd <= train_fr_student.LARGEST_NOISE * 1.05
