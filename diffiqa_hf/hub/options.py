# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the training and labelling scripts say to a card and to the Hub: their options, and what follows from them."""

import argparse
import importlib.metadata
import logging
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from .push import check_login, hub_reason, push_folder
from .record import DataFacts, HubError, ResultFacts, TrainingFacts, training_source


logger = logging.getLogger(__name__)


def training_facts(
    script: str,
    args: argparse.Namespace,
    argv: Sequence[str] | None,
    dataset: Any,
    accelerator: Any,
    *,
    steps: int,
    results: Iterable[ResultFacts] = (),
    heldout: str | None = None,
) -> TrainingFacts:
    """
    The facts of a run of a training script.

    Args:
        script (`str`): Such as `"training/train_ddpm.py"`.
        args (`argparse.Namespace`): With the options of [`add_hub_arguments`] and of
            [`~diffiqa_hf.training_utils.add_data_arguments`].
        argv (`Sequence[str]`, *optional*): What `args` was made of; the arguments of the process when `None`.
        dataset (`datasets.Dataset`): What was trained on.
        accelerator (`accelerate.Accelerator`): What trained.
        steps (`int`): Of the optimizer.
        results, heldout: As in [`TrainingFacts`]; people by `--holdout_modulo` where `heldout` is not given.
    """
    import torch

    column = args.identity_column
    people = len(set(dataset[column])) if column in dataset.column_names else None
    if heldout is None and args.holdout_modulo:
        heldout = f"the people whose name's CRC-32 is divisible by {args.holdout_modulo}"
    versions = {"Python": platform.python_version(), "torch": torch.__version__.split("+")[0]}
    versions |= {name: importlib.metadata.version(name) for name in ("diffusers", "transformers", "accelerate")}
    return TrainingFacts(
        command=_command(script, sys.argv[1:] if argv is None else argv),
        data=[DataFacts(training_source(args), len(dataset), people, args.training_data_license)],
        results=list(results),
        heldout=heldout,
        steps=steps,
        processes=accelerator.num_processes,
        device=accelerator.device.type,
        license_id=args.weights_license_id,
        license_text=args.weights_license,
        versions=versions,
        notes=args.card_note,
    )


def _command(script: str, argv: Sequence[str]) -> str:
    """The command of a run, without what concerns the Hub, and without the folders of this machine."""
    kept, skipping = [], False
    for token in argv:
        if token.startswith("--"):
            name = token.split("=")[0]
            skipping = name in _HUB_OPTIONS
            if skipping:
                continue
        elif skipping:
            continue
        option, sign, value = token.partition("=") if token.startswith("--") else ("", "", token)
        kept.append(option + sign + (Path(value).name if os.path.isabs(value) else value))
    return f"accelerate launch {script} {shlex.join(kept)}".rstrip()


_HUB_OPTIONS = (
    "--card_note",
    "--push_to_hub",
    "--hub_model_id",
    "--hub_private",
    "--hub_revision",
    "--resume_from_checkpoint",
    "--training_data",
    "--training_data_license",
    "--weights_license",
    "--weights_license_id",
)


def add_hub_arguments(parser: argparse.ArgumentParser, card: bool = True) -> None:
    """The options of a training script for the card (what only a person knows) and for the Hub."""
    if card:
        group = parser.add_argument_group("model card")
        group.add_argument("--training_data", help="what the faces are, in words (default: the name of the source)")
        group.add_argument("--training_data_license", help="of the faces, in words")
        group.add_argument("--weights_license", help='of the weights, in words: "for research only"')
        group.add_argument("--weights_license_id", help="of the weights, as the Hub names it: apache-2.0, other, ...")
        group.add_argument(
            "--card_note",
            action="append",
            default=[],
            metavar="TEXT",
            help="what no run can know and a reader has to; may be given several times",
        )
    hub = parser.add_argument_group("Hub")
    hub.add_argument(
        "--push_to_hub",
        action="store_true",
        help="upload the result; the token is that of `hf auth login` or HF_TOKEN",
    )
    hub.add_argument("--hub_model_id", help="name or owner/name of the repository (default: name of --output_dir)")
    hub.add_argument("--hub_private", action="store_true", default=None, help="make a private repository")
    hub.add_argument("--hub_revision", help="branch to upload to (default: main)")


def check_hub_arguments(args: argparse.Namespace) -> None:
    """
    Before a run of days: whether there will be a token at its end.

    Raises:
        HubError: It is asked to push and there is none, or it is not valid.
    """
    if args.push_to_hub:
        try:
            HfApi(token=check_login()).whoami()
        except HfHubHTTPError as error:
            raise HubError(f"--push_to_hub: {hub_reason(error)}") from error


def push_when_asked(args: argparse.Namespace, folder: str | os.PathLike) -> str | None:
    """
    Pushes what a run has made, where `--push_to_hub` asks for it; the main process calls it when all is saved.

    Returns:
        `str`: the address of the commit, or `None` where nothing was asked for.

    Raises:
        HubError: It was not pushed. The run is done and the folder is whole: `diffiqa push` does it later.
    """
    if not args.push_to_hub:
        return None
    repo_id = args.hub_model_id or Path(args.output_dir).resolve().name
    try:
        url, _, _ = push_folder(folder, repo_id, private=args.hub_private, revision=args.hub_revision)
    except HubError as error:
        raise HubError(f"{error}. The result is in {folder}: `diffiqa push` uploads it") from error
    logger.info(f"pushed to {url}")
    return url


__all__ = ["add_hub_arguments", "check_hub_arguments", "push_when_asked", "training_facts"]
