# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What the training scripts have in common: they survive kills, stop at a full disk or a loss that is no number, and do
on two processes what they do on one.
"""

import errno
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Image
from fixtures.networks import make_scheduler, make_unet
from fixtures.scripts import ROOT, load_script, run_on_two_processes
from methods.conftest import FACEQNET, filled, in_range
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from diffiqa_hf import DifFIQAPipeline, FaceImageProcessor, MobileFaceNetConfig, MobileFaceNetModel
from diffiqa_hf.models.faceqnet import FaceQnetConfig, FaceQnetForFaceQuality
from diffiqa_hf.training.checkpoints import list_checkpoints
from diffiqa_hf.training.run import ROWS_NAMED, check_loss, full_disk_in_one_line, save_array


resource = pytest.importorskip("resource", reason="kills and limits are those of POSIX")

NAMES = ("train_ddpm", "train_face_recognition", "train_diffiqa_r", "train_quality", "label_quality", "label_centres")
LABELLERS = ("label_quality", "label_centres")  # which write shards in place of checkpoints
SCRIPTS = {name: load_script(name) for name in NAMES}
every_script = pytest.mark.parametrize("name", SCRIPTS)
KILLS = 20
STEPS = 40  # and as many shards of one row
SIZE = 32
TINY = {
    "crop_size": [SIZE, SIZE],
    "stem_width": 8,
    "stem_groups": 8,
    "stages": [[8, 8, 1, 2], [8, 8, 1, 2], [8, 8, 1, 2]],
    "feature_width": 16,
    "embedding_size": 8,
}
RESUME = ["--resume_from_checkpoint", "latest"]


def run_script(name: str, args: list[str], log: str, largest: int | None) -> None:
    """In a process of its own: the script, with its output in a file, and with no file larger than `largest`."""
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(written, 1)
    os.dup2(written, 2)
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    SCRIPTS[name].main(args)


class Runs:
    """
    Processes of the scripts.

    They are forked from one that has imported PyTorch and the other libraries, which takes longer than a run does, and
    has run nothing of them.
    """

    def __init__(self, folder: Path):
        self.folder, self.number = folder, 0
        faces = json.loads((ROOT / "examples" / "faces" / "faces.json").read_text())["faces"]
        files = [str(ROOT / "examples" / "faces" / face["file"]) for face in faces]
        people = [face["person"] for face in faces]
        columns = {"image": files, "identity": people, "score": np.linspace(0.2, 0.9, len(files))}
        dataset = Dataset.from_dict(columns).cast_column("image", Image())
        dataset.to_parquet(folder / "faces.parquet")
        dataset.select([i % len(files) for i in range(STEPS)]).to_parquet(folder / "many.parquet")
        same = Dataset.from_dict({**columns, "image": files[:1] * len(files)}).cast_column("image", Image())
        same.to_parquet(folder / "same.parquet")
        torch.manual_seed(0)
        fr_model = MobileFaceNetModel(MobileFaceNetConfig(**TINY)).eval()
        fr_model.save_pretrained(folder / "fr")
        for name, dropout in (("mobile", 0.2), ("still", 0.0)):
            config = {"model_type": "mobilefacenet", **TINY, "dropout": dropout}
            (folder / f"{name}.json").write_text(json.dumps(config))
        unet = make_unet(SIZE, (4, 4), add_attention=False)
        scheduler = make_scheduler()
        processor = FaceImageProcessor(size={"height": SIZE, "width": SIZE})
        pipe = DifFIQAPipeline(unet, scheduler, fr_model, processor, num_timesteps=2, num_repeats=1)
        pipe.save_pretrained(folder / "pipeline")

        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([__name__])
        # The server has the environment of the moment in which it starts.
        environment = {
            "HF_DATASETS_CACHE": str(folder / "cache"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
            "TQDM_DISABLE": "1",  # a limit on files is one on logs as well
        }
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in environment.items():
                patch.setenv(variable, value)
            first = self.context.Process(target=os.getpid)
            first.start()
            first.join()
        self._straight = {}

    def arguments(self, name: str, output_dir: Path) -> list[str]:
        """The same for a new run and for one that goes on."""
        args = {
            "train_ddpm": "--block_out_channels 4 8 --resolution 32 --train_batch_size 1 --ema_update_every 2 "
            "--gradient_accumulation_steps 2",
            "train_face_recognition": "--loss cosface --sample_rate 0.5 --teacher {0}/fr --distillation_weight 1 "
            "--model_config {0}/mobile.json --train_batch_size 4 --holdout_modulo 3 --validation_steps 0",
            "train_diffiqa_r": "--preset ediffiqa --label_column score --centre_min_faces 1 --centre_fraction 0.5 "
            "--model_name_or_path {0}/fr --quality_hidden_size 8 --train_batch_size 4 --holdout_modulo 3 "
            "--validation_steps 4 --ema_decay 0.9",
            "train_quality": "--recipe cr-fiqa --model_config {0}/mobile.json --fr_model {0}/fr --train_batch_size 4 "
            "--ema_decay 0.9",
            "label_quality": "--model {0}/pipeline --train_parquet {0}/many.parquet --shard_size 1 --device cpu",
            "label_centres": "--fr_model {0}/fr --train_parquet {0}/many.parquet --shard_size 1 --device cpu",
        }[name]
        args = args.format(self.folder).split()
        if name not in LABELLERS:
            args += ["--train_parquet", str(self.folder / "faces.parquet"), "--report_to", "none", *RESUME]
            args += ["--max_train_steps", str(STEPS), "--checkpointing_steps", "1"]
        if name == "train_ddpm":
            args += ["--validation_steps", "0"]
        return [*args, "--output_dir", str(output_dir)]

    def start(self, name: str, args: list[str], largest: int | None = None):
        """The process, and the file of what it writes."""
        self.number += 1
        log = self.folder / f"{name}-{self.number}.log"
        process = self.context.Process(target=run_script, args=(name, args, str(log), largest))
        process.start()
        return process, log

    def finish(self, name: str, output_dir: Path) -> str:
        return self.run(name, self.arguments(name, output_dir))

    def run(self, name: str, args: list[str]) -> str:
        process, log = self.start(name, args)
        process.join(120)
        assert process.exitcode == 0, log.read_text()[-2000:]
        return log.read_text()

    def straight(self, name: str) -> Path:
        """A run that nothing has stopped."""
        if name not in self._straight:
            self._straight[name] = self.folder / "straight" / name
            self.finish(name, self._straight[name])
        return self._straight[name]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("reliability"))


def progress(name: str, folder: Path) -> set[str]:
    """Names of checkpoints, or of shards, and of those that are being written."""
    parent, what = (folder / "data", "train-*") if name in LABELLERS else (folder, "checkpoint-*")
    return {path.name for pattern in (what, f".{what}") for path in parent.glob(pattern)}


def assert_whole(name: str, folder: Path, straight: Path) -> int:
    """Whatever has the name of a checkpoint, or of a shard, is one. The number of steps, or shards, that are done."""
    if name in LABELLERS:
        shards = list((folder / "data").glob("*.parquet"))
        for shard in shards:
            assert shard.read_bytes() == (straight / "data" / shard.name).read_bytes(), shard
        return len(shards)
    files = {path.name for path in (straight / f"checkpoint-{STEPS}").iterdir()}
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    for path in found:
        assert {file.name for file in path.iterdir()} - {"best"} == files - {"best"}, path  # there from the first on
        for file in path.iterdir():
            if file.suffix == ".safetensors":
                assert load_file(file)
            elif file.suffix in (".bin", ".pkl"):
                torch.load(file, weights_only=False)
    assert set(found) == set(list_checkpoints(folder))
    return max((int(path.name.split("-")[1]) for path in found), default=0)


def assert_same_results(name: str, folder: Path, straight: Path) -> None:
    """Bitwise: labels and embeddings, or the weights of the model, of the best one and of the checkpoints."""
    suffix = (".parquet", ".json", ".npy") if name in LABELLERS else (".safetensors",)
    ours, theirs = (
        {path.relative_to(run): path for path in run.rglob("*") if path.suffix in suffix} for run in (folder, straight)
    )
    assert ours.keys() == theirs.keys() and ours
    for path in ours:
        if name in LABELLERS:
            assert ours[path].read_bytes() == theirs[path].read_bytes(), path
        else:
            one, other = load_file(ours[path]), load_file(theirs[path])
            assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one), path


@pytest.mark.slow
@every_script
def test_killed_at_random_moments(runs, tmp_path, name):
    """
    Twenty times: four while the run may still be beginning, four just when something is being written, the others
    within half a second of that. A run that comes to its end before is checked, and another one begun.
    """
    straight = runs.straight(name)
    rng = np.random.default_rng(NAMES.index(name))
    number = kills = gone_on = torn = 0
    folder, done, seen = tmp_path / "0", 0, set()
    while kills < KILLS:
        before = progress(name, folder)
        process, log = runs.start(name, runs.arguments(name, folder))
        if kills % 5:
            while process.is_alive() and not progress(name, folder) - before:
                time.sleep(0.001)
            process.join(rng.uniform(0, 0.005 if kills % 5 == 1 else 0.5))
        else:
            process.join(rng.uniform(0, 2))
        process.kill()
        process.join()
        assert process.exitcode in (0, -9), log.read_text()[-2000:]
        now = assert_whole(name, folder, straight)
        assert now >= done
        if done and name not in LABELLERS and "goes on from" in (text := log.read_text()):
            assert f"checkpoint-{done}, step {done}" in text
            gone_on += 1
        kills += process.exitcode != 0
        left = [path for path in folder.rglob("*") if path.name.endswith((".tmp", ".old"))]
        left = {(path, path.stat().st_mtime_ns) for path in left}
        torn, seen = torn + bool(left - seen), left
        done = now
        if process.exitcode == 0:
            assert_same_results(name, folder, straight)
            number += 1
            folder, done = tmp_path / str(number), 0
    assert done or number
    runs.finish(name, folder)
    assert_same_results(name, folder, straight)
    if name not in LABELLERS:
        assert torn  # some kills came while a checkpoint was being written, or deleted
        assert gone_on
        assert not list(folder.glob("checkpoint-*.tmp")) and not list(folder.glob("checkpoint-*.old"))
    print(f"{name}: {kills} kills, {torn} in a write; {gone_on} starts went on from a checkpoint, {number} runs ended")


# -- a full disk ------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("a small tmpfs can't be mounted here (it takes root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(file: Path, free: int = 4096) -> None:
    """Fills a disk but for one page."""
    with open(file, "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(free))
        except OSError as error:
            assert error.errno == errno.ENOSPC
        filler.truncate(filler.tell() - free)


def almost_finished(name: str, straight: Path, folder: Path) -> None:
    """A run that has to take its last step yet, or to label its last row."""
    if name in LABELLERS:
        shutil.copytree(straight, folder)
        (folder / "data" / f"train-{STEPS - 1:06d}.parquet").unlink()
        return
    gone = ("model", "pipeline", f"checkpoint-{STEPS}")
    shutil.copytree(straight, folder, ignore=shutil.ignore_patterns(*gone))


def assert_stopped_in_one_line(name: str, folder: Path, straight: Path, process, log: Path) -> None:
    process.join(120)
    text = log.read_text()
    assert process.exitcode == 1 and "Traceback" not in text, text[-2000:]
    line = text.strip().splitlines()[-1]
    assert "the disk is full, or a file would be larger than is allowed" in line
    assert "MB are free" in line
    assert assert_whole(name, folder, straight) == STEPS - 1
    if name in LABELLERS:
        assert "start the same command again" in line
    else:
        assert f"the last whole checkpoint is {folder / f'checkpoint-{STEPS - 1}'}; make room" in line
    assert not list(folder.rglob("*.tmp"))  # which would take what room there is


@pytest.mark.slow
@every_script
def test_a_file_that_may_not_be_written(runs, tmp_path, name):
    straight, folder = runs.straight(name), tmp_path / "run"
    almost_finished(name, straight, folder)
    last = f"data/train-{STEPS - 1:06d}.parquet" if name in LABELLERS else f"checkpoint-{STEPS}/optimizer.bin"
    largest = (straight / last).stat().st_size - 1
    assert_stopped_in_one_line(name, folder, straight, *runs.start(name, runs.arguments(name, folder), largest))
    runs.finish(name, folder)
    assert_same_results(name, folder, straight)


@pytest.mark.slow
@every_script
def test_a_full_disk(runs, tmp_path, name):
    straight = runs.straight(name)
    with small_disk(tmp_path / "disk") as disk:
        folder = disk / "run"
        almost_finished(name, straight, folder)
        fill(disk / "filler")
        assert_stopped_in_one_line(name, folder, straight, *runs.start(name, runs.arguments(name, folder)))
        (disk / "filler").unlink()
        runs.finish(name, folder)
        assert_same_results(name, folder, straight)


@contextmanager
def small_files(largest: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("write", "raised"),
    [
        (lambda path: path.write_bytes(bytes(100_000)), OSError),
        (lambda path: save_array(path, np.zeros(100_000)), OSError),
        (lambda path: torch.save({"a": torch.zeros(100_000)}, path), RuntimeError),
        (lambda path: save_file({"a": torch.zeros(100_000)}, path), SafetensorError),
    ],
    ids=["python", "numpy", "torch", "safetensors"],
)
@pytest.mark.parametrize("part", [0.01, 0.5, 1.0])
def test_whoever_writes_it_is_recognised(tmp_path, write, raised, part):
    file = tmp_path / "file.npy"
    write(file)
    largest = int(part * file.stat().st_size) - 1
    with small_files(largest), pytest.raises(raised):
        write(file)
    with small_files(largest), pytest.raises(SystemExit, match="there is no checkpoint yet; make room") as stopped:
        with full_disk_in_one_line(tmp_path):
            write(file)
    assert "\n" not in str(stopped.value) and "MB are free" in str(stopped.value)


def test_arrays_are_written_whole_or_not_at_all(tmp_path):
    file, array = tmp_path / "new" / "array.npy", np.random.default_rng(0).random((100, 7)).astype(np.float32)
    save_array(file, array)
    np.testing.assert_array_equal(np.load(file, mmap_mode="r"), array)
    # Here NumPy alone would leave a file that lacks a byte, and say nothing.
    with small_files(file.stat().st_size - 1), pytest.raises(OSError, match="File too large"):
        save_array(file, array + 1)
    np.testing.assert_array_equal(np.load(file), array)
    assert list(file.parent.iterdir()) == [file]


def test_other_errors_are_left_alone(tmp_path):
    with pytest.raises(FileNotFoundError), full_disk_in_one_line(tmp_path):
        (tmp_path / "none").read_text()
    with pytest.raises(RuntimeError, match="shape"), full_disk_in_one_line(tmp_path):
        raise RuntimeError("shape")


# -- a loss that is no number -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number(value):
    check_loss(torch.tensor(1e30), 3, [1])
    with pytest.raises(FloatingPointError) as stopped:
        check_loss(torch.tensor(value), 3, np.array([5, 2]))
    expected = f"the loss is {value} at step 3, on a batch of 2 faces (rows 5, 2 of the dataset)"
    assert str(stopped.value) == expected
    with pytest.raises(FloatingPointError, match=r"step 3, batch 1 of 4, on .* 63 and 36 more of the dataset\)"):
        check_loss(torch.tensor(value), 3, range(ROWS_NAMED + 36), "batch 1 of 4")


# -- two processes ----------------------------------------------------------------------------------------------------


def curve(logs: Path) -> np.ndarray:
    """The loss that was logged after each step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logged = EventAccumulator(str(logs)).Reload().Scalars("loss")
    assert [entry.step for entry in logged] == list(range(1, len(logged) + 1))
    return np.array([entry.value for entry in logged])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_ddpm", "train_diffiqa_r", "train_quality"])
def test_two_processes_have_the_loss_curve_of_one_with_twice_the_batch(runs, tmp_path, name):
    """
    Batch normalisation takes its statistics from the batch of a process, so that the curves are the same where it has
    none to take: in the UNet, with a single face that has many labels, and with a trunk that is not trained. An FR
    model is never without: test_train_face_recognition.py has it that two processes see the same faces.
    """
    torch.manual_seed(0)
    in_range(filled(FaceQnetForFaceQuality(FaceQnetConfig(**FACEQNET, dropout=0.0)))).save_pretrained(tmp_path / "net")
    args = {
        "train_ddpm": "--train_parquet {0}/faces.parquet --block_out_channels 8 16 --resolution 32 "
        "--gradient_accumulation_steps 1 --learning_rate 3e-3",
        "train_diffiqa_r": "--train_parquet {0}/same.parquet --label_column score --model_config {0}/still.json "
        "--holdout_modulo 0 --flip_probability 0 --learning_rate 1e-2 --head_learning_rate 1e-2",
        "train_quality": "--train_parquet {0}/faces.parquet --recipe faceqnet --model_name_or_path {1}/net "
        "--freeze_backbone --fr_model {0}/fr --learning_rate 1e-2",
    }[name]
    args = [*args.format(runs.folder, tmp_path).split(), "--validation_steps", "0", "--logging_steps", "1"]
    args += ["--max_train_steps", "12"]
    curves = []
    for processes, batch in ((2, 6), (1, 12), (1, 6)):
        folder = tmp_path / f"{processes} of {batch}"
        options = [*args, "--train_batch_size", str(batch), "--output_dir", str(folder)]
        if processes == 2:
            run_on_two_processes(name, options)
        else:
            runs.run(name, options)
        curves.append(curve(folder / "logs" / name))
    two, one, half = curves
    np.testing.assert_allclose(two, one, rtol=1e-3)
    assert len(one) == 12 and abs(half / one - 1).mean() > 0.05
