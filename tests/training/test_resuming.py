# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Runs that go on: with what they had, with other processes and batches, in another folder, or not at all."""

import argparse
import json
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from fixtures.scripts import ROOT, load_script, run_anew
from safetensors.torch import load_file

from diffiqa_hf.training.batches import PeopleKeys, ShuffledKeys, training_batches
from diffiqa_hf.training.checkpoints import (
    BEST,
    MARKER,
    TrainingState,
    find_checkpoint,
    list_checkpoints,
    restore_best,
)
from diffiqa_hf.training.run import add_output_arguments, check_tracker, count_or_none, is_due, positive


train_ddpm = load_script("train_ddpm")


def largest_difference(one: Path, other: Path) -> float:
    """Of two files of weights, relative to the largest of them."""
    ours, theirs = load_file(one), load_file(other)
    assert ours.keys() == theirs.keys()
    scale = max(value.abs().max() for value in theirs.values())
    return float(max((ours[name] - theirs[name]).abs().max() for name in ours) / scale)


# -- the order of the faces -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [[(4, 1), (4, 2)], [(4, 2), (4, 1)], [(4, 1), (8, 1)], [(3, 2), (5, 1), (2, 4)]])
def test_other_batches_and_processes_skip_and_repeat_no_face(way):
    """(batch, processes), changed after a few batches of each: every epoch that is full has each face once."""
    length, position, seen = 24, 0, []
    for batch, processes in way:
        for process in range(processes):
            keys = ShuffledKeys(length, batch, 0, position, process, processes)
            seen += [key for part in islice(keys, 6) for key in part]
        position += 6 * keys.stride
    counts = Counter(seen)
    assert set(counts.values()) == {1} and len(counts) == position
    full = position // length
    assert full and {key for key in counts if key[0] < full} == {(e, i) for e in range(full) for i in range(length)}


def drawn(keys, state: TrainingState, batches: int) -> list[tuple[list[int], float]]:
    """The faces of each batch, and what dropout would draw for it."""
    dataset = [int(i) for i in range(24)]

    class Faces(torch.utils.data.Dataset):
        def __getitem__(self, key):
            return dataset[key[1]]

    found = training_batches(Faces(), keys, state, 0)
    return [(batch.tolist(), torch.rand(1).item()) for batch in islice(found, batches)]


@pytest.mark.parametrize("kind", ["shuffled", "people"])
def test_what_dropout_draws_belongs_to_the_batch(kind):
    def keys(start: int, process: int, processes: int):
        if kind == "shuffled":
            return ShuffledKeys(24, 4, 0, start, process, processes)
        return PeopleKeys(np.arange(24) // 3, 4, 2, 0, start, process, processes)

    state = TrainingState(None)
    straight = drawn(keys(0, 0, 1), state, 6)
    kept = state.state_dict()
    assert kept["position"] == 6 * keys(0, 0, 1).stride
    assert len({value for _, value in straight}) == 6
    # Two processes: the batches of one, each with its own draws, in turns.
    ranks = [drawn(keys(0, process, 2), TrainingState(None), 3) for process in range(2)]
    assert [batch for pair in zip(*ranks, strict=True) for batch in pair] == straight
    # Whatever else has drawn in between.
    torch.rand(1000)
    later = TrainingState(None)
    later.load_state_dict(state.state_dict() | {"position": 4 * keys(0, 0, 1).stride})
    assert drawn(keys(later.place(0), 0, 1), later, 2) == straight[4:]


def test_another_number_of_faces_goes_on_with_the_next_epoch(caplog):
    state = TrainingState(None, faces=10)
    state.position = 23
    later = TrainingState(None, faces=12)
    later.load_state_dict(state.state_dict())
    assert later.position == 3 * 12 and "10 faces were trained on then, 12 are now" in caplog.text


def test_other_faces_or_another_order_go_on_with_the_next_epoch(caplog):
    state = TrainingState(None, faces=10, order="a")
    state.position = 23
    for order in ("a", None):  # None: of an earlier version
        later = TrainingState(None, faces=10, order=order)
        later.load_state_dict(state.state_dict())
        assert later.position == 23 and not caplog.text
    later = TrainingState(None, faces=10, order="b")
    later.load_state_dict(state.state_dict())
    assert (
        later.position == 30 and "in another order, or others among them, are now: goes on with epoch 3" in caplog.text
    )


def test_a_checkpoint_of_an_earlier_version_counts_by_its_steps():
    state = TrainingState(None)
    state.load_state_dict({"step": 3, "ema": None})
    assert state.place(8) == 24


def test_what_a_run_cannot_change_on_its_way():
    saved = TrainingState(None, fixed={"seed": 0, "optimizer": "sgd"}).state_dict()
    TrainingState(None, fixed={"seed": 0, "optimizer": "sgd"}).load_state_dict(saved)
    with pytest.raises(ValueError, match="^the checkpoint is that of a run with --optimizer sgd, this one has adamw$"):
        TrainingState(None, fixed={"seed": 0, "optimizer": "adamw"}).load_state_dict(saved)


# -- a whole run ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    for path in sorted((ROOT / "examples" / "faces").glob("*.jpg"))[:6]:
        shutil.copy(path, folder)
    unet = {"sample_size": 32, "block_out_channels": [4, 8], "layers_per_block": 1, "norm_num_groups": 4}
    unet |= {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2, "add_attention": False}
    (folder / "dropout.json").write_text(json.dumps({**unet, "dropout": 0.5}))
    return folder


def train(faces: Path, output_dir: Path, steps: int, *extra: str) -> None:
    args = ["--train_data_dir", str(faces), "--unet_config", str(faces / "dropout.json"), "--resolution", "32"]
    args += [
        "--report_to",
        "none",
        "--validation_steps",
        "0",
        "--ema_update_every",
        "1",
        "--max_train_steps",
        str(steps),
    ]
    args += ["--train_batch_size", "2", "--gradient_accumulation_steps", "2", "--checkpointing_steps", "2", *extra]
    run_anew(train_ddpm.main, [*args, "--output_dir", str(output_dir)])


def test_dropout_and_what_a_checkpoint_has(faces, tmp_path):
    train(faces, tmp_path / "straight", 4)
    train(faces, tmp_path / "stopped", 2)
    train(faces, tmp_path / "stopped", 4, "--resume_from_checkpoint", "checkpoint-2")
    weights = "pipeline/unet/diffusion_pytorch_model.safetensors"
    assert largest_difference(tmp_path / "straight" / weights, tmp_path / "stopped" / weights) < 1e-5
    # The UNets of a checkpoint load by name, the averaged one as the run saves it.
    last = tmp_path / "straight" / "checkpoint-4"
    unet = UNet2DModel.from_pretrained(last, subfolder="unet")
    for name, value in load_file(last / "model.safetensors").items():
        torch.testing.assert_close(unet.state_dict()[name], value, rtol=1e-6, atol=0)
    averaged = last / "unet_ema" / "diffusion_pytorch_model.safetensors"
    assert largest_difference(averaged, tmp_path / "straight" / weights) < 1e-6
    # Rates are those of now, whatever the schedule; the rest of the optimizer goes on.
    train(faces, tmp_path / "stopped", 5, "--resume_from_checkpoint", "latest", "--learning_rate", "0.5")
    optimizer = torch.load(tmp_path / "stopped" / "checkpoint-5" / "optimizer.bin", weights_only=True)
    assert [group["lr"] for group in optimizer["param_groups"]] == [0.5]
    assert {int(state["step"]) for state in optimizer["state"].values()} == {5}
    with pytest.raises(ValueError, match="--seed 0, this one has 1"):
        train(faces, tmp_path / "stopped", 6, "--resume_from_checkpoint", "latest", "--seed", "1")


@pytest.mark.parametrize("none", ["0", "-1"])
def test_limits_and_intervals_of_nothing(faces, tmp_path, none):
    """No limit keeps all; no interval: after the last step alone."""
    train(faces, tmp_path / "all", 3, "--checkpoints_total_limit", none, "--checkpointing_steps", "1")
    assert [path.name for path in list_checkpoints(tmp_path / "all")] == [f"checkpoint-{i}" for i in (1, 2, 3)]
    extra = ["--checkpointing_steps", none, "--logging_steps", none, "--validation_steps", none]
    train(faces, tmp_path / "last", 2, *extra, "--holdout_modulo", none)
    assert [path.name for path in list_checkpoints(tmp_path / "last")] == ["checkpoint-2"]
    assert not (tmp_path / "last" / "validation").exists()


def test_types_of_options():
    assert [count_or_none(text) for text in ("5", "0", "-1", "-7")] == [5, 0, 0, 0]
    assert positive("3") == 3
    for text in ("0", "-1"):
        with pytest.raises(argparse.ArgumentTypeError, match="no positive number"):
            positive(text)
    assert [is_due(step, 2, step == 5) for step in range(1, 6)] == [False, True, False, True, True]
    assert [is_due(step, 0, step == 3) for step in range(1, 4)] == [False, False, True]
    parser = argparse.ArgumentParser()
    add_output_arguments(parser)
    assert parser.parse_args(["--output_dir", "x", "--validation_steps", "-1"]).validation_steps == 0


def test_checkpoints_by_name_by_path_and_none_of_that_name(tmp_path, monkeypatch):
    run, other = tmp_path / "run", tmp_path / "elsewhere" / "checkpoint-6"
    for path in (run / "checkpoint-6", run / "checkpoint-8", other):
        path.mkdir(parents=True)
        (path / MARKER).touch()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find_checkpoint(run, "checkpoint-6") == run / "checkpoint-6"
    assert find_checkpoint(run, str(other)) == other
    assert find_checkpoint(tmp_path / "new", "checkpoint-6") == Path("checkpoint-6")  # a path from here
    with pytest.raises(
        FileNotFoundError, match="run/checkpoint-7 is no checkpoint.*; there are checkpoint-6, checkpoi"
    ):
        find_checkpoint(run, "checkpoint-7")


def test_the_best_is_what_it_was_at_the_checkpoint(tmp_path):
    checkpoint, run = tmp_path / "checkpoint-5", tmp_path / "run"
    (checkpoint / BEST).mkdir(parents=True)
    (checkpoint / BEST / "model").write_text("at 5")
    restore_best(checkpoint, run)  # in another folder
    assert (run / BEST / "model").read_text() == "at 5"
    (run / BEST / "model").unlink()
    (run / BEST / "model").write_text("at 9, which is left")
    restore_best(checkpoint, run)
    assert (run / BEST / "model").read_text() == (checkpoint / BEST / "model").read_text() == "at 5"
    shutil.rmtree(checkpoint / BEST)
    restore_best(checkpoint, run)
    assert not (run / BEST).exists()


def test_trackers():
    check_tracker("none")
    check_tracker("tensorboard")
    with pytest.raises(
        ValueError, match="--report_to nowhere: there is no such tracker; there are .*wandb.* and none"
    ):
        check_tracker("nowhere")
    with pytest.raises(ValueError, match="--report_to aim: the tracker is not installed"):
        check_tracker("aim")
