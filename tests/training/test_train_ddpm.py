# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel
from fixtures.close import assert_close, is_close
from fixtures.scripts import ROOT, load_script, run_anew, run_on_two_processes
from PIL import Image

from diffiqa_hf import DifFIQADiTModel, DifFIQAPipeline, FaceImageError, MobileFaceNetConfig, MobileFaceNetModel
from diffiqa_hf.degradations import degrade_face
from diffiqa_hf.image_processing_face import pixels_to_face
from diffiqa_hf.training.batches import ShuffledKeys
from diffiqa_hf.training.checkpoints import MARKER, TrainingState, find_checkpoint, list_checkpoints
from diffiqa_hf.training.data import training_faces


train_ddpm = load_script("train_ddpm")


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    for path in sorted((ROOT / "examples" / "faces").glob("*.jpg"))[:6]:
        shutil.copy(path, folder)
    return folder


def arguments(faces: Path, output_dir: Path, *extra: str) -> list[str]:
    args = ["--train_data_dir", str(faces), "--output_dir", str(output_dir), "--report_to", "none"]
    args += ["--block_out_channels", "8", "16", "--resolution", "32", "--train_batch_size", "2"]
    args += ["--gradient_accumulation_steps", "2", "--checkpointing_steps", "1", "--validation_steps", "0"]
    return [*args, "--ema_update_every", "1", *extra]


def train(faces: Path, output_dir: Path, *extra: str) -> None:
    run_anew(train_ddpm.main, arguments(faces, output_dir, *extra))


def weights(output_dir: Path) -> dict[str, torch.Tensor]:
    return UNet2DModel.from_pretrained(output_dir / "pipeline" / "unet").state_dict()


@torch.no_grad()
def restored(output_dir: Path) -> torch.Tensor:
    """What the UNet makes of noise. (Adam makes whole steps of the rounding in gradients that should be 0.)"""
    unet = UNet2DModel.from_pretrained(output_dir / "pipeline" / "unet")
    return unet(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), 5).sample


def dit_config(folder: Path) -> Path:
    sizes = {"hidden_size": 32, "num_layers": 2, "num_attention_heads": 2, "patch_size": 4, "sample_size": 32}
    path = folder / "dit.json"
    path.write_text(json.dumps(sizes))
    return path


def test_resumed_run_equals_straight_run(faces, tmp_path):
    train(faces, tmp_path / "straight", "--max_train_steps", "4")
    train(faces, tmp_path / "stopped", "--max_train_steps", "2")
    # A kill while step 3 was being written leaves this behind.
    half = tmp_path / "stopped" / "checkpoint-3"
    half.mkdir()
    train(faces, tmp_path / "stopped", "--max_train_steps", "4", "--resume_from_checkpoint", "latest")
    straight, stopped = weights(tmp_path / "straight"), weights(tmp_path / "stopped")
    assert all(torch.equal(straight[name], stopped[name]) for name in straight)
    # The limit holds, and what stays are the last ones.
    assert [path.name for path in list_checkpoints(tmp_path / "straight")] == ["checkpoint-3", "checkpoint-4"]


def test_the_average_warms_up_by_optimizer_steps_as_ema_pytorch_does():
    unet = UNet2DModel(sample_size=8, block_out_channels=(8,), norm_num_groups=8, down_block_types=("DownBlock2D",),
                       up_block_types=("UpBlock2D",), layers_per_block=1)  # fmt: skip
    ema = train_ddpm.make_ema(unet, 0.995)
    decays = {}
    for step in range(10, 10_001, 10):
        with torch.no_grad():
            unet.conv_in.bias.fill_(float(step))
        train_ddpm.update_ema(ema, unet, step)
        decays[step] = ema.cur_decay_value
        if step == 100:  # until here a copy
            assert ema.shadow_params[1].eq(100).all()
    assert [round(decays[step], 3) for step in (500, 1000, 2000, 10_000)] == [0.982, 0.989, 0.993, 0.995]
    assert min(step for step, decay in decays.items() if decay == 0.995) == 2930


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_twice_the_batch(faces, tmp_path):
    train(faces, tmp_path / "one", "--max_train_steps", "3", "--train_batch_size", "4")
    args = arguments(faces, tmp_path / "two", "--max_train_steps", "3", "--train_batch_size", "2")
    assert "2 process(es)" in run_on_two_processes("train_ddpm", args)
    torch.testing.assert_close(restored(tmp_path / "two"), restored(tmp_path / "one"), atol=1e-4, rtol=0)
    # One process goes on from what two have left.
    resume = ["--max_train_steps", "4", "--train_batch_size", "4", "--resume_from_checkpoint", "latest"]
    for run in ("one", "two"):
        train(faces, tmp_path / run, *resume)
    torch.testing.assert_close(restored(tmp_path / "two"), restored(tmp_path / "one"), atol=1e-4, rtol=0)


def test_the_picture_is_degraded_as_it_is_stored(tmp_path):
    """Large pictures, bright on one side: blur of so many pixels does less to them, and they are mirrored together."""
    rng = np.random.default_rng(0)
    left_bright = np.linspace(200, 60, 336)[None, :, None] + rng.normal(0, 20, (336, 336, 3))
    for i in range(2):
        Image.fromarray(left_bright.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{i}.png")
    pairs = []
    for options in ((), ("--degrade_picture",)):
        args = train_ddpm.parse_args(arguments(tmp_path, tmp_path / "run", *options, "--resolution", "112"))
        dataset, _ = training_faces(Accelerator(cpu=True), args)
        faces = train_ddpm.FacePairs(dataset, args)
        pairs.append([faces[epoch, 1] for epoch in range(6)])
    mirrored = [pair["clean"][:, :, -1].mean() > pair["clean"][:, :, 0].mean() for pair in pairs[0]]
    assert any(mirrored) and not all(mirrored)
    for epoch, (small, large) in enumerate(zip(*pairs, strict=True)):
        assert_close(large["clean"], small["clean"])
        assert large["degraded"].shape == (3, 112, 112) and large["degraded"].abs().max() <= 1
        assert not is_close(large["degraded"], small["degraded"], 0.01)
        picture = np.asarray(Image.open(tmp_path / "1.png"))
        rng = np.random.default_rng([args.seed, epoch, 1])
        if rng.random() < 0.5:
            picture = np.ascontiguousarray(picture[:, ::-1])
        assert_close(large["degraded"], torch.from_numpy(pixels_to_face(degrade_face(picture, rng))))
        for pair in (small, large):  # the bright side of both is the same
            assert (pair["degraded"] - pair["degraded"].mean()).mul(pair["clean"] - pair["clean"].mean()).mean() > 0


def test_an_unreadable_face_is_named(faces, tmp_path):
    shutil.copytree(faces, tmp_path / "faces")
    (tmp_path / "faces" / "zz.jpg").write_bytes(b"no image")
    with pytest.raises(FaceImageError, match="row 6 of the training data"):
        train(tmp_path / "faces", tmp_path / "run", "--max_train_steps", "8", "--train_batch_size", "6")


def save_fr_model(folder: Path) -> Path:
    stages = [[8, 8, 1, 2], [8, 8, 1, 2], [8, 8, 1, 2]]
    config = MobileFaceNetConfig(crop_size=[32, 32], stem_width=8, stem_groups=8, stages=stages)
    MobileFaceNetModel(config).save_pretrained(folder)
    return folder


def test_saves_a_pipeline_and_a_grid(faces, tmp_path):
    save_fr_model(tmp_path / "fr")
    extra = ["--max_train_steps", "1", "--fr_model", str(tmp_path / "fr"), "--validation_steps", "1"]
    train(faces, tmp_path / "run", *extra)
    pipe = DifFIQAPipeline.from_pretrained(tmp_path / "run" / "pipeline")
    assert pipe(next(faces.glob("*.jpg")), num_repeats=1).scores.isfinite().all()
    assert (tmp_path / "run" / "validation" / "step-000001.png").exists()


@pytest.mark.parametrize("architecture", ["unet", "dit"])
def test_learns(faces, tmp_path, architecture):
    """On one face the loss falls: what is logged at the end is well below what it was at first."""
    single = tmp_path / "one"
    single.mkdir()
    shutil.copy(next(faces.glob("*.jpg")), single)
    logged = []
    original = Accelerator.log
    Accelerator.log = lambda self, values, step: logged.append(values["loss"])
    try:
        extra = ["--max_train_steps", "40", "--learning_rate", "3e-3", "--logging_steps", "5"]
        extra += ["--architecture", architecture, "--max_train_timestep", "500", "--blend_timesteps", "500"]
        if architecture == "dit":
            extra += ["--unet_config", str(dit_config(tmp_path))]
        train(single, tmp_path / "run", *extra, "--checkpointing_steps", "100", "--gradient_accumulation_steps", "1")
    finally:
        Accelerator.log = original
    assert logged[-1] < 0.5 * logged[0]


def test_a_transformer_goes_into_the_pipeline_in_the_place_of_the_unet(faces, tmp_path):
    config = ["--architecture", "dit", "--unet_config", str(dit_config(tmp_path))]
    fr_model = ["--fr_model", str(save_fr_model(tmp_path / "fr"))]
    train(faces, tmp_path / "straight", "--max_train_steps", "3", *fr_model, *config)
    train(faces, tmp_path / "stopped", "--max_train_steps", "2", *config)
    train(faces, tmp_path / "stopped", "--max_train_steps", "3", "--resume_from_checkpoint", "latest", *config)
    straight, stopped = (
        DifFIQADiTModel.from_pretrained(tmp_path / run / "pipeline" / "unet").state_dict()
        for run in ("straight", "stopped")
    )
    assert all(torch.equal(straight[name], stopped[name]) for name in straight)
    pipe = DifFIQAPipeline.from_pretrained(tmp_path / "straight" / "pipeline")
    assert type(pipe.unet) is DifFIQADiTModel and pipe.unet.config.patch_size == 4
    images = sorted(faces.glob("*.jpg"))[:2]
    scores = pipe(images, num_repeats=1).scores
    assert scores.isfinite().all()
    pipe.save_pretrained(tmp_path / "again")
    assert_close(DifFIQAPipeline.from_pretrained(tmp_path / "again")(images, num_repeats=1).scores, scores)


def test_find_checkpoint(tmp_path):
    assert find_checkpoint(tmp_path, None) is None
    assert find_checkpoint(tmp_path, "latest") is None
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / MARKER).touch()
    (tmp_path / "checkpoint-11").mkdir()
    (tmp_path / "checkpoint-12.tmp").mkdir()
    (tmp_path / "checkpoint-12.tmp" / MARKER).touch()
    assert find_checkpoint(tmp_path, "latest").name == "checkpoint-10"
    with pytest.raises(FileExistsError, match="another run"):
        find_checkpoint(tmp_path, None)
    with pytest.raises(FileNotFoundError, match="checkpoint-11"):
        find_checkpoint(tmp_path, str(tmp_path / "checkpoint-11"))


def test_only_earlier_checkpoints_are_pruned(faces, tmp_path):
    train(faces, tmp_path, "--max_train_steps", "4", "--checkpoints_total_limit", "9")
    extra = ["--resume_from_checkpoint", str(tmp_path / "checkpoint-1"), "--checkpoints_total_limit", "1"]
    train(faces, tmp_path, "--max_train_steps", "2", *extra)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-3", "checkpoint-4"]


def test_averages_stay_on_the_device_of_the_model():
    # Accelerate reads a checkpoint to the CPU; "meta" stands for a GPU here.
    model = torch.nn.Linear(2, 2)
    state = TrainingState(EMAModel(model.parameters())).state_dict()
    on_device = TrainingState(EMAModel(model.to("meta").parameters()))
    on_device.load_state_dict(state)
    assert {p.device.type for p in on_device.ema.shadow_params} == {"meta"}


def test_nan_stops_and_names_the_batch(faces, tmp_path):
    named = r"at step \d, batch [01] of 2, on a batch of 2 faces \(rows [0-5], [0-5] of the dataset\)"
    with pytest.raises(FloatingPointError, match=named):
        train(faces, tmp_path, "--max_train_steps", "8", "--learning_rate", "1e30")


def test_people_are_held_out_by_name(tmp_path):
    from datasets import Dataset

    from diffiqa_hf.training.data import load_face_dataset
    from diffiqa_hf.training.held_out import hold_out

    file = str(tmp_path / "faces.parquet")
    Dataset.from_dict({"identity": [f"person {i // 2}" for i in range(60)]}).to_parquet(file)
    everyone = load_face_dataset(train_parquet=[file])
    kept, out = (hold_out(everyone, "identity", 3, heldout) for heldout in (False, True))
    assert len(kept) + len(out) == 60 and len(out) > 0
    assert not set(kept["identity"]) & set(out["identity"])
    with pytest.raises(ValueError, match="exactly one"):
        load_face_dataset()
    with pytest.raises(ValueError, match="no face to train on"):
        ShuffledKeys(0, 4, 0, 0, 0, 1)
