# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa_hf.training.launch`: what launchers leave in the environment of a script."""

import argparse
import logging

import pytest
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.launch import prepare_simple_launcher_cmd_env
from fixtures.scripts import ROOT, load_script

from diffiqa_hf.labelling.shards import add_shard_arguments, find_share, log_share
from diffiqa_hf.training.launch import missing_processes
from diffiqa_hf.training.run import add_output_arguments


MEETING = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK", "ACCELERATE_MIXED_PRECISION")


def launched(monkeypatch, *options: str) -> dict[str, str]:
    """What `accelerate launch --cpu` itself gives the one process that it starts."""
    for name in MEETING:
        monkeypatch.delenv(name, raising=False)
    args = launch_command_parser().parse_args(["--cpu", *options, "script.py"])
    args.num_machines, args.use_cpu, args.dynamo_backend, args.mixed_precision = 1, True, "no", "no"
    args.num_cpu_threads_per_process = 1
    return prepare_simple_launcher_cmd_env(args)[1]


def test_accelerate_launch_on_cpus_starts_one_of_several(monkeypatch):
    assert "started one" in missing_processes(1, launched(monkeypatch, "--num_processes", "2"))
    assert missing_processes(1, launched(monkeypatch, "--num_processes", "1")) is None
    assert missing_processes(1, launched(monkeypatch)) is None


@pytest.mark.parametrize("name", ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"))
def test_processes_that_know_nothing_of_each_other(name):
    environment = {name: "2", "MASTER_ADDR": "127.0.0.1", "ACCELERATE_MIXED_PRECISION": "no"}
    assert "2 processes were started" in missing_processes(1, environment)
    assert missing_processes(2, environment) is None
    assert missing_processes(1, {name: "1"}) is None


def test_tasks_of_slurm():
    assert "srun started 3 tasks" in missing_processes(1, {"SLURM_STEP_NUM_TASKS": "3"})
    assert missing_processes(1, {"SLURM_STEP_NUM_TASKS": "3", "WORLD_SIZE": "1"}) is None  # torchrun in each
    assert missing_processes(3, {"SLURM_STEP_NUM_TASKS": "3"}) is None  # which the script was told


def test_whoever_is_alone_is_left_alone():
    assert missing_processes(1, {}) is None
    assert missing_processes(1, {"MASTER_ADDR": "127.0.0.1"}) is None  # of another program
    assert missing_processes(1, {"WORLD_SIZE": ""}) is None


def test_label_scripts_say_it(monkeypatch, caplog):
    for name, value in launched(monkeypatch, "--num_processes", "2").items():
        monkeypatch.setenv(name, value)
    args = argparse.Namespace(process_index=None, num_processes=None, device=None)
    with caplog.at_level(logging.WARNING):
        log_share(find_share(args))
    assert "started one" in caplog.text
    caplog.clear()
    args = argparse.Namespace(process_index=0, num_processes=2, device=None)
    log_share(find_share(args))
    assert not caplog.text


@pytest.mark.parametrize("add", (add_output_arguments, add_shard_arguments))
def test_the_help_says_what_starts_two(add):
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    add(parser)
    assert "ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2" in parser.format_help()


def test_all_scripts_that_are_launched_have_that_help(capsys):
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "training").glob("*.py")}
    launched = sorted(name for name, text in texts.items() if "accelerate launch" in text)
    assert len(launched) > 5
    for name in launched:
        with pytest.raises(SystemExit):
            load_script(name).main(["--help"])
        assert "ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2" in capsys.readouterr().out, name
