# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`training/train_quality.py` and `diffiqa_hf.training.recipes`, with tiny networks of the real classes."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.scripts import assert_every_option_is_explained, assert_same_weights, load_script, run_anew
from methods.conftest import FACE_VIT, FACEQGEN, FACEQNET, IRESNET, LIGHTQNET, MOBILE, SPHERENET, filled
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import wasserstein_distance
from transformers import AutoModel

from diffiqa_hf import AutoModelForFaceQuality, FaceImageProcessor, IResNetConfig, IResNetModel
from diffiqa_hf.calibration import Calibration
from diffiqa_hf.evaluation import EDCProtocol, edc_from_embeddings
from diffiqa_hf.evaluation.pair_sampling import sample_pairs
from diffiqa_hf.image_processing_face import face_to_pixels
from diffiqa_hf.methods import load_method
from diffiqa_hf.models.faceqgen import FaceQgenConfig, FaceQgenForFaceQuality
from diffiqa_hf.models.faceqnet import FaceQnetConfig, FaceQnetForFaceQuality
from diffiqa_hf.training.batches import PeopleKeys
from diffiqa_hf.training.recipes import (
    QualityBranch,
    choose_references,
    identification_quality_loss,
    quality_distillation_loss,
    reference_labels,
    restoration_losses,
    sdd_fiqa_labels,
    wasserstein_distances,
)
from diffiqa_hf.training.recipes.faces import make_supervision
from diffiqa_hf.training.recipes.labels import centre_labels


script = load_script("train_quality")

PEOPLE, FACES = 18, 4
NAMES = [f"person {i}" for i in range(PEOPLE)]
HELD_OUT = [name for name in NAMES if zlib.crc32(name.encode()) % 4 == 0]  # by --holdout_modulo 4
# Of the SGD recipes: shorter embeddings than the papers' have other norms.
MAGFACE = '{"l_a": 0.1, "u_a": 10.0, "scale": 8.0, "lambda_g": 1.0}'
CONFIGS = {
    "sdd-fiqa": {key: IRESNET[key] for key in ("depths", "widths", "crop_size")},
    "pcnet": SPHERENET | {"dropout": 0.3},
    "lightqnet": LIGHTQNET,
    "magface": {"model_type": "iresnet", **IRESNET, "dropout": 0.4},
    "cr-fiqa": {"model_type": "mobilefacenet", **MOBILE},
    "vit-fiqa": FACE_VIT | {"quality_token": True, "mask_ratio": 0.25, "drop_path_rate": 0.1},
    "faceqnet": FACEQNET,
    "faceqgen": FACEQGEN,
}
EXTRA = {
    "sdd-fiqa": ["--num_pairs", "3", "--num_rounds", "2"],
    "pcnet": ["--faces_per_person", "2"],
    "lightqnet": ["--faces_per_person", "3"],
    "pfe": ["--faces_per_person", "4"],
    "magface": ["--loss_arguments", MAGFACE],
    "cr-fiqa": ["--loss_arguments", '{"scale": 8.0}'],
    "vit-fiqa": ["--loss_arguments", '{"scale": 8.0}'],
    "faceqgen": ["--reference_column", "good"],
}
every_recipe = pytest.mark.parametrize("recipe", script.RECIPES)


@pytest.fixture(scope="module")
def setup(tmp_path_factory) -> Path:
    """People whose faces are smooth pictures, more or less noisy; an FR model, and configurations."""
    from datasets import Dataset
    from datasets import Image as ImageFeature

    folder = tmp_path_factory.mktemp("quality")
    rng = np.random.default_rng(0)
    images, people, good = [], [], []
    for person in range(PEOPLE):
        base = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        base = np.asarray(base.resize((112, 112), Image.Resampling.BICUBIC), dtype=float)
        for i in range(FACES):
            noise = rng.normal(0, 12 * (i + 1), (14, 14, 3)).repeat(8, 0).repeat(8, 1)
            images.append(Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8)))
            people.append(NAMES[person])
            good.append(i == 0)
    dataset = Dataset.from_dict({"image": images, "identity": people, "good": good})
    dataset.cast_column("image", ImageFeature()).to_parquet(str(folder / "faces.parquet"))
    filled(IResNetModel(IResNetConfig(**IRESNET))).save_pretrained(folder / "fr")
    for recipe, config in CONFIGS.items():
        (folder / f"{recipe}.json").write_text(json.dumps(config))
    return folder


def arguments(setup: Path, recipe: str, *extra: str) -> list[str]:
    args = ["--recipe", recipe, "--train_parquet", str(setup / "faces.parquet"), "--fr_model", str(setup / "fr")]
    if recipe in CONFIGS and "--model_name_or_path" not in extra:
        args += ["--model_config", str(setup / f"{recipe}.json")]
    args += ["--report_to", "none", "--train_batch_size", "8", "--learning_rate", "1e-3", *EXTRA.get(recipe, [])]
    return [*args, "--validation_fmr", "0.05", "--validation_replicates", "20", *extra]


def train(setup: Path, output_dir: Path, recipe: str, *extra: str) -> None:
    args = ["--output_dir", str(output_dir), "--checkpointing_steps", "2"]
    run_anew(script.main, arguments(setup, recipe, *args, *extra))


# -- runs -------------------------------------------------------------------------------------------------------------


@every_recipe
def test_resumed_training_equals_a_straight_run(setup, tmp_path, recipe):
    extra = ["--max_train_steps", "4", "--holdout_modulo", "4", "--validation_steps", "2", "--ema_decay", "0.5"]
    train(setup, tmp_path / "straight", recipe, *extra)
    # The schedule belongs to the whole run, so the first half is a run of four steps that lost its end.
    train(setup, tmp_path / "stopped", recipe, *extra)
    (tmp_path / "stopped" / "checkpoint-4" / "complete").unlink()
    train(setup, tmp_path / "stopped", recipe, "--resume_from_checkpoint", "latest", *extra)
    for name in ("model/model.safetensors", "checkpoint-4/model.safetensors"):
        assert_same_weights(tmp_path / "straight" / name, tmp_path / "stopped" / name)

    folder = tmp_path / "straight" / "model"
    auto = AutoModel if recipe == "magface" else AutoModelForFaceQuality
    _, info = auto.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    method = load_method(recipe, weights=folder)
    face = Image.fromarray(np.full((112, 112, 3), 90, np.uint8))
    assert method(face).scores.isfinite().all()
    assert FaceImageProcessor.from_pretrained(folder).size == method.image_processor.size
    calibration = Calibration.from_pretrained(folder)
    assert calibration == Calibration.from_pretrained(tmp_path / "stopped" / "model")
    assert calibration.misfit(method.calibration_settings()) is None
    facts = json.loads((folder / "training.json").read_text())
    assert facts["steps"] == 4 and facts["data"][0]["people"] == PEOPLE - len(HELD_OUT)


def test_the_validation_is_the_pauc_of_the_saved_model(setup, tmp_path):
    from datasets import load_dataset

    train(setup, tmp_path, "pcnet", "--max_train_steps", "2", "--holdout_modulo", "4")
    dataset = load_dataset("parquet", data_files=str(setup / "faces.parquet"), split="train")
    rows = [i for i, name in enumerate(dataset["identity"]) if name in HELD_OUT]
    images, names = [dataset[i]["image"] for i in rows], [dataset[i]["identity"] for i in rows]
    scores = load_method("pcnet", weights=tmp_path / "model")(images).scores.numpy()
    with torch.no_grad():
        faces = torch.as_tensor(np.asarray(FaceImageProcessor()(images)["pixel_values"]))
        embeddings = AutoModel.from_pretrained(setup / "fr").eval()(faces).embeddings.numpy()
    pairs, _ = sample_pairs(names)
    protocol = EDCProtocol(fmr=0.05, limits=(0.3,))
    expected = edc_from_embeddings(embeddings, names, scores, protocol, pairs=pairs)
    figures = json.loads((tmp_path / "model" / "validation.json").read_text())
    assert len(rows) == len(HELD_OUT) * FACES and expected.fnmr > 0
    assert figures["pauc_0.3"] == pytest.approx(expected.pauc[0.3], abs=1e-6)
    assert figures["pauc_0.3_floor"] == pytest.approx(expected.floor[0.3], abs=1e-6)
    assert figures["pauc_0.3_low"] <= figures["pauc_0.3_high"] and figures["fnmr"] == pytest.approx(expected.fnmr)
    (result,) = json.loads((tmp_path / "model" / "training.json").read_text())["results"]
    assert result["value"] == figures["pauc_0.3"] and result["low"] == figures["pauc_0.3_low"]

    # What its scores mean, on the same faces and pairs.
    calibration = Calibration.from_pretrained(tmp_path / "model")
    np.testing.assert_allclose(calibration.quantiles, np.quantile(scores, np.arange(101) / 100), atol=1e-5)
    level = calibration.levels[0]
    assert (calibration.num_faces, level.pairs, calibration.fmr) == (len(rows), expected.mated, 0.05)
    assert level.errors / level.pairs == pytest.approx(expected.fnmr)
    people = f"faces of {len(HELD_OUT)} people held out of `faces.parquet`; FNMR of the FR model `fr`"
    assert calibration.data == people
    # A run that goes on from its end measures the same once more.
    (tmp_path / "model" / "calibration.json").unlink()
    extra = ["--max_train_steps", "2", "--holdout_modulo", "4", "--resume_from_checkpoint", "latest"]
    train(setup, tmp_path, "pcnet", *extra)
    assert Calibration.from_pretrained(tmp_path / "model") == calibration
    assert json.loads((tmp_path / "model" / "validation.json").read_text()) == figures


def make_recipe(setup: Path, recipe: str, *extra: str):
    """The recipe's module and its faces, as `main` makes them, on all people."""
    from datasets import load_dataset

    args = script.parse_args(arguments(setup, recipe, "--output_dir", "none", *extra))
    dataset = load_dataset("parquet", data_files=args.train_parquet, split="train")
    faces = script.Faces(dataset, args, args.degraded_copies)
    people = np.unique(dataset["identity"][:], return_inverse=True)[1][faces.rows % len(dataset)]
    fr_model = AutoModel.from_pretrained(setup / "fr").eval()
    found = make_supervision(args, faces, fr_model, people)
    faces.targets = found.get("references")
    labels = torch.from_numpy(np.nan_to_num(found["labels"]).astype(np.float32)) if "labels" in found else None
    torch.manual_seed(0)
    model = script.make_model(args, fr_model)
    faces.processor = load_method(recipe, weights=model, align=False).image_processor
    return script.RECIPES[recipe](args, model, fr_model, torch.from_numpy(people), labels).train(), faces


@every_recipe
def test_each_learns(setup, recipe):
    module, faces = make_recipe(setup, recipe)
    batch, targets, index = zip(*(faces[0, i] for i in range(24)), strict=True)
    batch, targets, index = torch.stack(batch), torch.stack(targets), torch.tensor(index)
    rate = {"sdd-fiqa": 0.05, "pfe": 0.003}.get(recipe, 0.01)
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], rate)
    frozen = {name: p.clone() for name, p in module.named_parameters() if not p.requires_grad}
    losses = []
    for _ in range(30):
        parts = module(batch, targets, index)
        parts["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append({name: value.item() for name, value in parts.items()})
    # A GAN's sum need not fall: what its generator is for does.
    name = "pixel" if recipe == "faceqgen" else "loss"
    first, last = np.mean([entry[name] for entry in losses[:3]]), np.mean([entry[name] for entry in losses[-3:]])
    assert last < first - 0.1 * abs(first)
    assert all(torch.equal(p, frozen[name]) for name, p in module.named_parameters() if name in frozen)
    assert bool(frozen) == (recipe in ("pfe", "magface"))  # the FR model, and the scale of IResNet's embedding


def test_the_fr_model_is_in_no_checkpoint(setup):
    module, _ = make_recipe(setup, "lightqnet")
    assert {name.split(".")[0] for name in module.state_dict()} == {"model", "branch"}


def test_pfe_trains_the_module_alone(setup, tmp_path):
    train(setup, tmp_path, "pfe", "--max_train_steps", "2")
    model = AutoModelForFaceQuality.from_pretrained(tmp_path / "model")
    before = AutoModel.from_pretrained(setup / "fr").state_dict()  # with its running statistics
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())
    assert model.uncertainty.scale != 1e-4


def test_sdd_fiqa_takes_the_blocks_of_an_fr_model(setup, tmp_path):
    extra = ["--model_name_or_path", str(setup / "fr"), "--learning_rate", "0", "--max_train_steps", "1"]
    train(setup, tmp_path, "sdd-fiqa", *extra)
    # Trained with a rate of 0, and with the running statistics of one batch: in training mode the features are those.
    model = AutoModelForFaceQuality.from_pretrained(tmp_path / "model").train()
    fr_model = AutoModel.from_pretrained(setup / "fr").train()
    read = []
    fr_model.bn2.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].flatten(1)))
    faces = torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = model(faces).embeddings
    fr_model(faces)
    torch.testing.assert_close(features, read[0])


def test_faceqnet_with_a_frozen_trunk(setup, tmp_path):
    train(setup, tmp_path / "one", "faceqnet", "--max_train_steps", "1")
    before = AutoModelForFaceQuality.from_pretrained(tmp_path / "one" / "model").state_dict()
    extra = ["--model_name_or_path", str(tmp_path / "one" / "model"), "--freeze_backbone", "--max_train_steps", "2"]
    train(setup, tmp_path / "two", "faceqnet", *extra)
    after = AutoModelForFaceQuality.from_pretrained(tmp_path / "two" / "model").state_dict()
    changed = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"dense"}


def test_faceqnet_on_a_trunk_of_keras_vggface(setup, tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs h5py: pip install 'diffiqa-hf[keras]'")
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    trunk = filled(FaceQnetForFaceQuality(FaceQnetConfig(**FACEQNET))).state_dict()
    layers = {}
    for name, tensor in trunk.items():
        module, _, kind = name.rpartition(".")
        if name.startswith("dense") or kind == "num_batches_tracked":
            continue
        # Of the stages there are FACEQNET's: one block, then two.
        block = {"0": "conv2_1", "1": "conv3_1", "2": "conv3_2"}.get(name.split(".")[1])
        part = {"reduce": "1x1_reduce", "conv": "3x3", "increase": "1x1_increase", "proj": "1x1_proj"}
        layer = f"{block}_{part[name.split('.')[2]]}" if block else "conv1/7x7_s2"
        if module.endswith(".norm"):
            layers.setdefault(f"{layer}/bn", {})[names[kind]] = tensor.numpy()
        else:
            layers[layer] = {"kernel": tensor.permute(2, 3, 1, 0).numpy()}
    path = tmp_path / "rcmalli_vggface_tf_notop_resnet50.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, weights in layers.items():
            group = file.require_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{kind}:0".encode() for kind in weights]
            for kind, values in weights.items():
                group.create_dataset(f"{layer}/{kind}:0", data=values)
    extra = ["--model_name_or_path", str(path), "--freeze_backbone", "--max_train_steps", "2"]
    train(setup, tmp_path / "run", "faceqnet", *extra)
    trained = AutoModelForFaceQuality.from_pretrained(tmp_path / "run" / "model")
    kept = {name: tensor for name, tensor in trained.state_dict().items() if not name.startswith("dense")}
    assert kept and all(torch.equal(tensor, trunk[name]) for name, tensor in kept.items())
    # The head is new, and it has been trained.
    run = script.parse_args(arguments(setup, "faceqnet", "--output_dir", str(tmp_path), *extra))
    torch.manual_seed(run.seed)
    new = script.make_model(run, None).state_dict()
    assert not any(torch.equal(trained.state_dict()[name], new[name]) for name in new if name.startswith("dense"))


def test_embeddings_can_be_given(setup, tmp_path):
    from datasets import load_dataset

    dataset = load_dataset("parquet", data_files=str(setup / "faces.parquet"), split="train")
    with torch.no_grad():
        faces = torch.as_tensor(np.asarray(FaceImageProcessor()(dataset["image"][:])["pixel_values"]))
        embeddings = AutoModel.from_pretrained(setup / "fr").eval()(faces).embeddings.numpy()
    np.save(tmp_path / "e.npy", embeddings)
    extra = ["--max_train_steps", "1", "--holdout_modulo", "4", "--validation_steps", "0"]
    train(setup, tmp_path / "made", "sdd-fiqa", *extra)
    train(setup, tmp_path / "given", "sdd-fiqa", *extra, "--fr_embeddings", str(tmp_path / "e.npy"))
    made, given = (np.load(tmp_path / name / "supervision.npz")["labels"] for name in ("made", "given"))
    np.testing.assert_allclose(made, given, atol=1e-3)
    kept = [i for i, name in enumerate(dataset["identity"]) if name not in HELD_OUT]
    names = np.array(dataset["identity"])[kept]
    np.testing.assert_allclose(given, sdd_fiqa_labels(embeddings[kept], names, 3, 2, seed=0))
    # PCNet's pairs are compared by them as well; not mirrored, the faces have these embeddings anyway.
    extra = [*extra, "--flip_probability", "0"]
    train(setup, tmp_path / "online", "pcnet", *extra)
    train(setup, tmp_path / "read", "pcnet", *extra, "--fr_embeddings", str(tmp_path / "e.npy"))
    np.save(tmp_path / "e.npy", np.roll(embeddings, 1, 0))
    train(setup, tmp_path / "others", "pcnet", *extra, "--fr_embeddings", str(tmp_path / "e.npy"))
    online, read, others = (
        load_file(tmp_path / name / "model" / "model.safetensors")["score.weight"]
        for name in ("online", "read", "others")
    )
    torch.testing.assert_close(read, online, atol=1e-5, rtol=0)
    assert (others - online).abs().max() > 1e-4
    np.save(tmp_path / "e.npy", embeddings[:50])
    with pytest.raises(ValueError, match="e.npy has 50 rows and the dataset "):
        train(setup, tmp_path / "short", "sdd-fiqa", *extra, "--fr_embeddings", str(tmp_path / "e.npy"))


def test_degraded_copies_are_further_faces(setup):
    module, faces = make_recipe(setup, "sdd-fiqa", "--degraded_copies", "1")
    count = PEOPLE * FACES
    assert len(faces) == 2 * count == len(module.labels)
    clean, copy = faces.clean(5), faces.clean(count + 5)
    assert np.abs(clean - copy).mean() > 0.01 and np.array_equal(copy, faces.clean(count + 5))
    assert module.people[5] == module.people[count + 5]
    module, faces = make_recipe(setup, "faceqgen", "--degraded_copies", "1")
    # The reference of every face is the one good face of its person, undegraded.
    assert (faces.targets == np.tile(np.arange(PEOPLE).repeat(FACES) * FACES, 2)).all()
    for epoch in range(8):
        face, target, _ = faces[epoch, count + 5]
        mirrored = [np.array_equal(x, clean[:, :, ::-1]) for x, clean in ((face, faces.clean(count + 5)),)]
        assert np.array_equal(target.numpy(), faces.clean(4)[:, :, ::-1] if mirrored[0] else faces.clean(4))


@pytest.mark.parametrize("recipe", ["pcnet", "lightqnet", "faceqnet"])
def test_faces_are_made_at_the_size_at_which_the_method_scores(setup, recipe):
    from datasets import Dataset
    from datasets import Image as ImageFeature

    module, faces = make_recipe(setup, recipe, "--degraded_copies", "1", "--flip_probability", "1")
    sharp = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8))
    faces.dataset = Dataset.from_dict({"image": [sharp]}).cast_column("image", ImageFeature())
    faces.rows = np.arange(2)
    processor = load_method(recipe, weights=module.model, align=False).image_processor
    assert [*module.model.config.crop_size] == [*processor.size.values()] != [112, 112]
    face, beside, _ = faces[0, 0]
    # From the picture at once: by way of 112x112 what the network is given would be another.
    assert np.array_equal(face.flip(2), processor(sharp)["pixel_values"][0])
    assert np.array_equal(beside.flip(2), FaceImageProcessor()(sharp)["pixel_values"][0])
    face, beside, _ = faces[0, 1]
    assert np.array_equal(beside.flip(2), faces.clean(1)) and beside.shape[1:] == (112, 112)
    degraded = Image.fromarray(face_to_pixels(faces.clean(1)))
    assert np.array_equal(face.flip(2), processor(degraded)["pixel_values"][0])


def test_nan_stops_and_names_the_step(setup, tmp_path):
    named = r"at step 1, on a batch of 8 faces \(rows (\d+, ){7}\d+ of the dataset"
    with pytest.raises(FloatingPointError, match=named):
        train(setup, tmp_path, "cr-fiqa", "--learning_rate", "inf", "--max_train_steps", "3")


def test_data_that_does_not_do(setup, tmp_path):
    with pytest.raises(ValueError, match="no column 'name'"):
        train(setup, tmp_path, "pcnet", "--identity_column", "name")
    with pytest.raises(ValueError, match="no column 'icao'"):
        train(setup, tmp_path, "faceqnet", "--reference_column", "icao")
    with pytest.raises(ValueError, match="leaves 0 faces to train on and holds 72 out"):
        train(setup, tmp_path, "pcnet", "--holdout_modulo", "1")
    with pytest.raises(ValueError, match="^pcnet is a PCNetForFaceQuality, this is a LightQNetForFaceQuality"):
        config = {"model_type": "lightqnet", **LIGHTQNET}
        (tmp_path / "c.json").write_text(json.dumps(config))
        train(setup, tmp_path, "pcnet", "--model_config", str(tmp_path / "c.json"))
    # Before anything is trained: too few comparisons for the FMR.
    with pytest.raises(ValueError, match="non-mated"):
        train(setup, tmp_path, "pcnet", "--holdout_modulo", "4", "--validation_fmr", "0.001")
    assert not list(tmp_path.glob("checkpoint-*"))


# -- options ----------------------------------------------------------------------------------------------------------


def parse(recipe: str, *extra: str):
    return script.parse_args(["--recipe", recipe, "--output_dir", "x", "--train_parquet", "y", *extra])


def test_a_recipe_sets_what_is_not_given():
    args = parse("lightqnet")
    assert (args.train_batch_size, args.faces_per_person, args.max_train_steps) == (128, 16, 64_000)
    assert (args.learning_rate, args.weight_decay, args.optimizer) == (0.01, 1e-5, "sgd")
    assert (args.idq_scale, args.idq_margin, args.distillation_weight, args.idq_hard) == (16, 0.4, 10, False)
    assert (parse("sdd-fiqa").num_pairs, parse("sdd-fiqa").num_rounds) == (24, 12)
    args = parse("pfe", "--num_train_epochs", "2", "--faces_per_person", "3")
    assert (args.max_train_steps, args.num_train_epochs, args.faces_per_person) == (None, 2, 3)
    assert parse("faceqnet").weight_decay == 0 and parse("faceqnet").lr_milestones == []
    known = set(vars(args))
    assert all(set(defaults) <= known for defaults in script.DEFAULTS.values())
    assert set(script.DEFAULTS) == set(script.RECIPES) and set(script.PAIR_RECIPES) <= set(script.RECIPES)


@pytest.mark.parametrize(
    ("recipe", "extra", "message"),
    [
        ("pcnet", ["--model_config", "a", "--model_name_or_path", "b"], "one of --model_config"),
        ("pfe", ["--model_config", "a"], "is a module on --fr_model"),
        ("sdd-fiqa", ["--fr_embeddings", "a", "--degraded_copies", "1"], "has no rows for"),
        ("pfe", ["--fr_embeddings", "a"], "makes no use of --fr_embeddings"),
        ("faceqnet", ["--freeze_backbone"], "goes with --recipe faceqnet and --model_name_or_path"),
        ("pcnet", ["--faces_per_person", "1"], "--faces_per_person is 2 at least"),
        ("serfiq", [], "invalid choice"),
    ],
)
def test_options_that_do_not_go_together(capsys, recipe, extra, message):
    with pytest.raises(SystemExit):
        parse(recipe, *extra)
    assert message in capsys.readouterr().err


def test_every_option_is_explained(monkeypatch):
    assert_every_option_is_explained(script.parse_args, monkeypatch, more_than=40)


# -- parts ------------------------------------------------------------------------------------------------------------


def take(keys: PeopleKeys, batches: int) -> list[list[tuple[int, int]]]:
    iterator = iter(keys)
    return [next(iterator) for _ in range(batches)]


def test_batches_of_people():
    people = np.random.default_rng(0).permutation(np.repeat(np.arange(12), [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]))
    batches = take(PeopleKeys(people, 9, 3, 0, 0, 0, 1), 40)
    seen = set()
    for number, batch in enumerate(batches):
        indices = [index for _, index in batch]
        assert {epoch for epoch, _ in batch} == {number} and len(set(indices)) == len(indices) in (8, 9)
        counts = np.bincount(people[indices])
        assert counts.max() <= 3 and (counts > 1).any()
        seen |= set(indices)
    assert seen == {i for i in range(len(people)) if people[i] not in (0, 6)}
    # From the middle on, and on two processes, the batches are the same ones.
    assert take(PeopleKeys(people, 9, 3, 0, 7, 0, 1), 5) == batches[7:12]
    assert take(PeopleKeys(people, 9, 3, 0, 6, 1, 2), 5) == batches[7:16:2]
    with pytest.raises(ValueError, match="nobody has two faces"):
        PeopleKeys(np.arange(5), 4, 2, 0, 0, 0, 1)


def make_embeddings(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(6), 5)
    embeddings = 2 * rng.standard_normal((6, 8))[people] + rng.standard_normal((30, 8))
    order = rng.permutation(30)
    return embeddings[order].astype(np.float32), np.array([f"p{i}" for i in people[order]])


def test_wasserstein_distances():
    rng = np.random.default_rng(0)
    for a, b in ((1, 1), (3, 24), (24, 24), (7, 5)):
        first, second = rng.standard_normal((20, a)), rng.standard_normal((20, b)) + 1
        expected = [wasserstein_distance(x, y) for x, y in zip(first, second, strict=True)]
        np.testing.assert_allclose(wasserstein_distances(first, second), expected, rtol=1e-12)
    np.testing.assert_allclose(wasserstein_distances(np.zeros((2, 3)), np.zeros((2, 4))), 0, atol=1e-15)


def test_sdd_fiqa_labels_with_all_pairs():
    embeddings, people = make_embeddings()
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    similarity = unit @ unit.T
    raw = []
    for i in range(30):
        mated = (people == people[i]) & (np.arange(30) != i)
        raw.append(wasserstein_distance(similarity[i, mated], similarity[i, people != people[i]]))
    expected = 100 * (np.array(raw) - min(raw)) / (max(raw) - min(raw))
    # 25 faces of others: all of them are drawn, in every round.
    np.testing.assert_allclose(sdd_fiqa_labels(embeddings, people, 25, 3), expected, atol=1e-9)
    # Fewer pairs estimate the same, and more rounds better.
    errors = [np.abs(sdd_fiqa_labels(embeddings, people, 3, rounds) - expected).mean() for rounds in (1, 200)]
    assert errors[1] < errors[0] and errors[1] < 15


def test_sdd_fiqa_draws_no_pair_twice_and_no_one_with_themselves():
    # People on axes of their own: similarities to others are 0, so that a label is the mean of those to one's own.
    rng = np.random.default_rng(1)
    embeddings, people = np.zeros((20, 10)), np.repeat(np.arange(5), 4)
    for i in range(20):
        embeddings[i, 2 * people[i] : 2 * people[i] + 2] = 1 + rng.random(2)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    own = np.array([np.delete(unit @ unit[i], i)[np.delete(people, i) == people[i]].mean() for i in range(20)])
    labels = sdd_fiqa_labels(embeddings, people, num_pairs=4, num_rounds=7)
    np.testing.assert_allclose(labels, 100 * (own - own.min()) / np.ptp(own), atol=1e-9)
    assert np.array_equal(labels, sdd_fiqa_labels(embeddings, people, num_pairs=4, num_rounds=7))
    some, again = (sdd_fiqa_labels(embeddings, people, 2, 1, seed=seed) for seed in (0, 1))
    assert not np.array_equal(some, again)


def test_sdd_fiqa_labels_of_what_has_none():
    embeddings, people = make_embeddings()
    people = np.array([f"alone {i}" if i < 5 else name for i, name in enumerate(people)])
    assert (np.isnan(sdd_fiqa_labels(embeddings, people)) == np.isin(np.arange(30), range(5))).all()
    for args, message in (
        ((embeddings, np.arange(30)), "no face with another"),
        ((embeddings, people, 40), "40 pairs with other people are asked for, there are"),
        ((embeddings, people, 0), "at least 1"),
        ((embeddings * [[np.nan]] * 30, people), "not finite"),
        ((embeddings, people[:3]), r"\(N, D\)"),
        ((np.eye(4), [0, 0, 1, 1], 2), "all labels are equal"),
    ):
        with pytest.raises(ValueError, match=message):
            sdd_fiqa_labels(*args)


def test_centre_labels_by_a_plain_loop():
    # Each face is followed by a copy; of the first person one face is clean, of the second none.
    embeddings, people = make_embeddings(3)
    embeddings = np.repeat(embeddings, 2, axis=0)
    embeddings[1::2] += np.random.default_rng(4).standard_normal((30, 8)).astype(np.float32)
    people, sources = np.repeat(people, 2), np.repeat(np.arange(30), 2)
    clean = np.arange(60) % 2 == 0
    clean[np.flatnonzero(people == "p0")[2:]] = False
    clean[people == "p1"] = False
    expected = np.full(60, np.nan)
    for i in range(60):
        total = np.zeros(8)
        for j in range(60):
            if clean[j] and people[j] == people[i] and sources[j] != sources[i]:
                total += embeddings[j].astype(np.float64) / np.linalg.norm(embeddings[j].astype(np.float64))
        if np.any(total):
            one = embeddings[i].astype(np.float64)
            expected[i] = one @ total / np.linalg.norm(one) / np.linalg.norm(total)
    labels = centre_labels(embeddings, people, sources, clean)
    np.testing.assert_allclose(labels, expected, atol=1e-12)
    assert np.isnan(labels[people == "p1"]).all() and np.isnan(labels[people == "p0"]).sum() == 2
    # The order of the rows does not matter, nor what a source is called.
    order, names = np.random.default_rng(5).permutation(60), np.array([f"photo {i}" for i in sources])
    shuffled = centre_labels(embeddings[order], people[order], names[order], clean[order])
    np.testing.assert_allclose(shuffled, expected[order], atol=1e-12)


def test_centre_labels_without_copies():
    embeddings = np.array([[2.0, 0], [0, 3], [1, 1], [5, 0], [1, 0], [-1, 0], [0, 1]])
    labels = centre_labels(embeddings, ["a", "a", "a", "b", "c", "c", "c"])
    expected = [np.cos(3 * np.pi / 8), np.cos(3 * np.pi / 8), 1, np.nan]
    np.testing.assert_allclose(labels[:4], expected, atol=1e-12)
    # The mean of two opposite faces is no direction.
    assert np.isnan(labels[6]) and np.isfinite(labels[4:6]).all()
    for args, message in (
        ((embeddings, np.arange(3)), r"\(N, D\)"),
        ((embeddings[:0], []), r"\(N, D\)"),
        ((embeddings, np.arange(7), np.arange(6)), "sources and clean"),
        ((embeddings, np.arange(7), None, [True]), "sources and clean"),
        ((embeddings * 0, np.arange(7)), "zero or not finite"),
        ((embeddings * np.nan, np.arange(7)), "zero or not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            centre_labels(*args)


def test_references_and_labels_of_faceqnet():
    embeddings, people = make_embeddings(2)
    marked = np.arange(30) % 2 == 0
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for marks in (None, marked):
        references = choose_references(embeddings, people, marks)
        for i in range(30):
            mine = [j for j in range(30) if people[j] == people[i]]
            mean = unit[mine].mean(0)
            may = [j for j in mine if marks is None or marks[j]]
            assert references[i] == (max(may, key=lambda j: unit[j] @ mean) if may else -1)
        labels = reference_labels(embeddings, people, references)
        used = [i for i in range(30) if references[i] not in (-1, i)]
        raw = np.array([unit[i] @ unit[references[i]] for i in used])
        np.testing.assert_allclose(labels[used], (raw - raw.min()) / np.ptp(raw), atol=1e-12)
        assert np.isnan(np.delete(labels, used)).all() and len(used) < 30
    assert (choose_references(embeddings, people, np.zeros(30, bool)) == -1).all()
    with pytest.raises(ValueError, match="another person"):
        reference_labels(embeddings, people, np.roll(references, 1))


@pytest.mark.parametrize("hard", [False, True])
def test_identification_quality_loss(hard):
    embeddings, people = make_embeddings(3)
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.05, 0.95, 30)
    labels = np.unique(people, return_inverse=True)[1]
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    terms = []
    for i in range(30):
        for j in range(i):
            if people[i] == people[j]:
                cosine = unit[i] @ unit[j]
                t = float(cosine > 0.7) if hard else 1 / (1 + np.exp(-8 * (cosine - 0.7)))
                f = min(scores[i], scores[j])
                terms.append(-t * np.log(f) - (1 - t) * np.log(1 - f))
    q = torch.tensor(scores, dtype=torch.float32, requires_grad=True)
    e = torch.tensor(embeddings, requires_grad=True)
    loss = identification_quality_loss(q, e, torch.from_numpy(labels), 8, 0.7, hard)
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-5)
    loss.backward()
    assert e.grad is None
    # The best face of a person is the lower one of no pair.
    best = [max(np.flatnonzero(labels == person), key=lambda i: scores[i]) for person in range(6)]
    assert (q.grad[best] == 0).all() and (np.delete(q.grad.numpy(), best) != 0).all()
    # Certain scores have a finite loss.
    assert identification_quality_loss(torch.ones(30), e, torch.from_numpy(labels)).isfinite()
    with pytest.raises(ValueError, match="mated pair"):
        identification_quality_loss(q, e, torch.arange(30))


def test_quality_distillation_loss():
    rng = np.random.default_rng(0)
    p, q = rng.uniform(0.05, 0.95, (2, 20))
    expected = np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    teacher = torch.tensor(p, dtype=torch.float32, requires_grad=True)
    student = torch.tensor(q, dtype=torch.float32, requires_grad=True)
    loss = quality_distillation_loss(student, teacher)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert teacher.grad is None and student.grad.abs().min() > 0
    assert quality_distillation_loss(teacher, teacher).item() == pytest.approx(0, abs=1e-7)


def test_the_branch_of_lightqnet():
    torch.manual_seed(0)
    branch = QualityBranch(6, width=5).double()
    features = torch.randn(9, 2, 3, dtype=torch.float64)
    x = features.flatten(1).numpy()
    first, norm, _, second, _ = branch.layers
    x = x @ first.weight.detach().numpy().T
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3) * norm.weight.detach().numpy() + norm.bias.detach().numpy()
    x = np.maximum(x, 0) @ second.weight.detach().numpy().T
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3)
    np.testing.assert_allclose(branch(features).detach().numpy(), 1 / (1 + np.exp(-x[:, 0])), rtol=1e-12)


def test_restoration_losses_move_their_own_networks():
    torch.manual_seed(0)
    model = FaceQgenForFaceQuality(FaceQgenConfig(**FACEQGEN)).double().train()
    faces, targets = torch.rand(2, 3, 3, 32, 32, dtype=torch.float64) * 2 - 1
    losses = restoration_losses(model, faces, targets)
    with torch.no_grad():
        restored = model.generator(faces)
        made, genuine = (model.discriminator(x).numpy() for x in (restored, targets))

    def cross_entropy(logits: np.ndarray, label: int) -> float:
        probability = 1 / (1 + np.exp(-logits))
        return -np.log(probability if label else 1 - probability).mean()

    assert losses["pixel"].item() == pytest.approx(np.abs(restored - targets).mean().item(), rel=1e-9)
    assert losses["adversarial"].item() == pytest.approx(cross_entropy(made, 1), rel=1e-9)
    expected = (cross_entropy(genuine, 1) + cross_entropy(made, 0)) / 2
    assert losses["discriminator"].item() == pytest.approx(expected, rel=1e-9)
    for name, part, other in (
        ("adversarial", model.generator, model.discriminator),
        ("discriminator", model.discriminator, model.generator),
    ):
        model.zero_grad()
        losses[name].backward(retain_graph=True)
        assert all(p.grad is not None for p in part.parameters())
        assert all(p.grad is None for p in other.parameters())
