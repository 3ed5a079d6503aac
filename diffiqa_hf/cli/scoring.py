# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the commands that score faces share: their options, and the model."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from ..default_weights import DEFAULT_METHOD, QUALITY_MODEL
from .devices import place, placed
from .errors import CommandError, printable, reason
from .progress import Progress


FR_MODEL_HELP = "face recognition model in place of the one inside; dlib: that of the package face_recognition_models"
MOST_LOOKED_AT = 1_000  # images whose size is looked at before anything is scored
PIPELINE_SETTINGS = ("num_timesteps", "num_inference_steps", "num_repeats")  # which have options of their own


def positive(text: str) -> int:
    """The type of an option that counts."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


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


def add_alignment_arguments(parser: argparse._ActionsContainer) -> None:
    """Which images are aligned, and by which detector: the same in all commands."""
    parser.add_argument(
        "--align",
        action=argparse.BooleanOptionalAction,
        help="find the face in every image and align it, or take every image as an aligned crop; without either, what "
        "is no aligned crop is aligned, and crops stay as they are",
    )
    parser.add_argument(
        "--detector",
        metavar="PATH_OR_REPO",
        help="face detector: YuNet's ONNX file or Hub repository (opencv/face_detection_yunet)",
    )


def add_call_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a call, whatever is called."""
    add_alignment_arguments(parser)
    parser.add_argument("--num-timesteps", type=positive, metavar="T", help="steps of noise (default: the model's)")
    parser.add_argument("--num-inference-steps", type=positive, metavar="N", help="UNet calls back over them (all)")
    parser.add_argument("--num-repeats", type=positive, metavar="N", help="draws of noise (default: the model's)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    parser.add_argument("--device", help="such as cpu, cuda, cuda:1 (default: an accelerator if there is one)")
    parser.add_argument("--batch-size", type=positive, metavar="N", help="images at a time (from the free memory)")
    parser.add_argument("--threads", type=positive, metavar="N", help="that read images (as many as processors)")


def add_calibration_argument(parser: argparse.ArgumentParser) -> None:
    """`--calibration`, of the commands that give percentiles."""
    parser.add_argument(
        "--calibration", metavar="FILE.json", help="that of `diffiqa calibrate`, in place of the one beside the model"
    )


def add_engine_argument(parser: argparse.ArgumentParser) -> None:
    """`--engine`, of the commands that only score."""
    parser.add_argument(
        "--engine",
        choices=("auto", "torch", "onnx"),
        default="auto",
        help="what runs the networks: torch; onnx, ONNX Runtime (a network that looks at a face once, and DifFIQA), "
        "whose form of them is made once if need be; auto, ONNX Runtime on a CPU where the form is there or, of the "
        "former, many images are scored (auto)",
    )


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """What scores: a method by its name, and its networks."""
    method = parser.add_mutually_exclusive_group()
    method.add_argument(
        "--method",
        metavar="NAME",
        help=f"as `diffiqa methods` lists them ({DEFAULT_METHOD}, the small network of the package; diffiqa where a "
        "pipeline, --fr-model or an option of diffiqa alone is given)",
    )
    # What scripts have from when it was not the default.
    method.add_argument("--fast", dest="method", action="store_const", const="diffiqa-r", help=argparse.SUPPRESS)
    parser.add_argument(
        "--model",
        "--weights",
        dest="model",
        metavar="ID_OR_PATH",
        help="the method's own network: a folder, Hub id or published file, for diffiqa a pipeline; without --method "
        "a pipeline or a quality model, which says itself what it is",
    )
    parser.add_argument("--fr-model", metavar="ID_OR_PATH", help=FR_MODEL_HELP)


def add_scoring_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of what scores, and of its call."""
    add_method_arguments(parser)
    add_call_arguments(parser)


def chosen_method(args: argparse.Namespace) -> str | None:
    """
    The name of the method that the options mean; `None` where only the network of `--model` says it, a quality model.
    """
    if args.method is not None:
        return args.method
    if args.model is not None:
        try:
            return None if _is_quality_model(args.model) else "diffiqa"
        except Exception as error:  # a name that is no repository, no permission, ...
            raise CommandError(f"cannot load the model {args.model}: {reason(error)}") from error
    of_diffiqa = args.fr_model or any(getattr(args, name) is not None for name in PIPELINE_SETTINGS)
    of_diffiqa = of_diffiqa or getattr(args, "option", None)  # the default method has none
    return "diffiqa" if of_diffiqa else DEFAULT_METHOD


def check_alignment(args: argparse.Namespace) -> None:
    """Raises [`CommandError`] for options that do not go together, before anything is loaded."""
    if args.detector and args.align is False:
        raise CommandError("--detector is for faces that are aligned, and --no-align says that none are")


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
            raise CommandError(f"--{option.replace('_', '-')} goes with --method diffiqa, not {method.card.name}")
    # With people, `diffiqa calibrate` compares faces by it.
    if args.fr_model and "fr_model" not in method.card.takes and not getattr(args, "identities", None):
        what = args.model or method.card.name
        raise CommandError(f"{what} takes no --fr-model: it is a quality model ({method.card.name})")


def load_scorer(args: argparse.Namespace, files: Sequence[str] = ()):
    """
    What the options name, on its device: a [`DifFIQAPipeline`], or a [`~diffiqa_hf.methods.FaceQualityMethod`]. Both
    have `stream` and `image_processor`, which is ready to align the files.
    """
    method = chosen_method(args)
    if method == "diffiqa":
        scorer = placed(load_pipeline(args), args.device)
    elif method is None or args.method is None:
        scorer = _load_unnamed(args.model or str(QUALITY_MODEL), args)
    else:
        scorer = _load_named(method, args)
    set_alignment(scorer.image_processor, args, files)
    return scorer


def set_alignment(processor, args: argparse.Namespace, files: Sequence[str]) -> None:
    """
    Has an image processor align as the options say.

    Raises:
        CommandError: One of the files is to be aligned, and there is no detector.
    """
    if args.align is not None:
        processor.do_align = args.align
    elif not processor.do_align:
        processor.do_align = "auto"
    if args.detector:
        processor.detector = args.detector
    whole = args.align or next((f"{file} is {size}" for file, size in _no_crops(files)), None)
    if not processor.do_align or not whole:
        return
    try:
        processor.check_detector()
    except OSError as error:
        which = "" if whole is True else f"{whole}, no aligned crop of 112x112, and "
        raise CommandError(
            f"{which}{getattr(error, 'what', None) or reason(error)}: --detector FILE names one that is here, and "
            "--no-align takes all images as aligned crops"
        ) from error


def _no_crops(files: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Of some of the files, evenly spread, those that have not the size of an aligned crop, with their size."""
    from ..alignment import TEMPLATE_SIZE
    from ..images.extraction import MIN_SIDE
    from ..images.loading import picture_size

    for file in files[:: -(-len(files) // MOST_LOOKED_AT) or 1]:
        size = picture_size(file)
        if size is not None and max(size) > TEMPLATE_SIZE and min(size) >= MIN_SIDE:
            yield file, f"{size[0]}x{size[1]}"


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


def named_method(args: argparse.Namespace) -> str:
    """As [`chosen_method`], with the name of the method that a folder's or repository's configuration is of."""
    name = chosen_method(args)
    if name is not None:
        return name
    from ..methods.cards import CARDS

    try:
        if os.path.isfile(args.model):
            raise ValueError("a file does not say whose network it is; --method NAME does")
        path = Path(args.model) / "config.json"
        if not path.exists():
            from huggingface_hub import hf_hub_download

            path = Path(hf_hub_download(args.model, "config.json"))
        config = json.loads(path.read_text(encoding="utf-8"))
        what = config["architectures"][0]
        head = "linear" if config.get("quality_hidden_size") is None else "mlp"
        names = [card.name for card in CARDS if what in card.networks and card.head in (None, head)]
        if not names:
            raise ValueError(f"no method has a {what} as its network")
        return names[0]
    except Exception as error:  # a folder that is none, a connection that is not there, a configuration that is broken
        raise CommandError(f"cannot load the model {args.model}: {reason(error)}") from error


def _load_unnamed(model: str, args: argparse.Namespace):
    """The method of a quality model, which says itself what it is."""
    from ..methods import onnx_method

    def in_torch():
        be_quiet()
        return _load_in_torch(model)

    try:
        device = place(args.device)
        engine = getattr(args, "engine", "torch")
        method = onnx_method.load_unnamed(model, engine, device, in_torch)
    except Exception as error:  # whatever the libraries raise for what is none
        raise CommandError(f"cannot load the model {model}: {reason(error)}") from error
    method = method or placed(_named_faults(model, in_torch), device)
    check_taken(method, args)
    return method


def _load_named(name: str, args: argparse.Namespace):
    """A method other than DifFIQA, by its name."""
    from ..methods import get_card

    try:
        # With people, `diffiqa calibrate` compares faces by the other model.
        takes_fr_model = "fr_model" in get_card(name).takes or not getattr(args, "identities", None)
    except Exception as error:  # there is none of this name
        raise CommandError(f"cannot load the method {name}: {reason(error)}") from error
    fr_model = args.fr_model if takes_fr_model else None
    method = placed(load_named(name, args.model, fr_model, args.device, getattr(args, "engine", "torch")), args.device)
    check_taken(method, args)
    return method


def load_named(
    name: str,
    weights: str | None,
    fr_model: str | None,
    device: str | None,
    engine: str,
    dtype: str = "float32",
    make: bool = False,
    **options: Any,
):
    """
    A method other than DifFIQA, in ONNX Runtime or in torch, which is not loaded before it is needed.

    Args:
        make: Whether its ONNX form is made where there is none.
    """
    from ..methods import get_card, load_method, onnx_method

    def in_torch():
        be_quiet()
        return load_method(name, weights, fr_model, engine="torch", **options)

    given = {"weights": weights, "fr_model": fr_model}
    given = {option: value for option, value in given.items() if value is not None}
    try:
        card = get_card(name)
        method = onnx_method.load(card, given, None, engine, place(device), f"torch.{dtype}", in_torch, make)
        return method or in_torch()
    except Exception as error:  # whatever the libraries raise for a folder or file that is not what it should be
        raise CommandError(f"cannot load the method {name}: {reason(error)}") from error


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
    """
    The [`DifFIQAPipeline`] of `--model`, with the FR model of `--fr-model`; in ONNX Runtime, as `--engine` says, an
    [`~diffiqa_hf.methods.onnx_diffiqa.OnnxDifFIQA`].
    """
    from ..methods import get_card, onnx_diffiqa

    model = args.model or "default"

    def in_torch():
        be_quiet()
        card = get_card("diffiqa")
        return card.load_class().load(card, weights=model)

    # A command without --engine has need of what only torch has.
    where = (getattr(args, "engine", "torch"), place(args.device), getattr(args, "dtype", None))
    try:
        scorer = onnx_diffiqa.load(model, *where, in_torch, args.fr_model)
    except Exception as error:  # whatever the libraries raise for what is no pipeline
        raise CommandError(f"cannot load the model {model}: {reason(error)}") from error
    if scorer is not None:
        return scorer
    be_quiet()
    from ..pipeline_diffiqa import DifFIQAPipeline

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
    """The records of the files, without percentiles; how far it is stands on stderr."""
    scorer.calibration = None
    scorer.reading_threads = args.threads
    records = scorer.stream(files, batch_size=args.batch_size, seed=args.seed, **scorer_settings(scorer, args))
    try:
        with Progress(len(files)) as progress:
            index = -1
            for record in records:
                if record.index != index:  # of several faces of one image the first
                    index = record.index
                    progress.update()
                yield record
    except (OSError, ValueError, RuntimeError) as error:  # no detector, no memory, settings that make no sense
        raise CommandError(reason(error)) from error


def take_calibration(scorer, args: argparse.Namespace) -> None:
    """Has a scorer the calibration of `--calibration`, where one is given."""
    if args.calibration:
        from ..calibration import Calibration

        try:
            scorer.calibration = Calibration.from_pretrained(args.calibration)
        except (OSError, ValueError) as error:
            raise CommandError(f"--calibration: {reason(error)}") from error


def percentiles_of(scorer, args: argparse.Namespace, needed_by: str | None):
    """
    The [`Calibration`] that the percentiles of a run are of: that of `--calibration`, or the one beside the model;
    `None` where there is none that holds.

    Args:
        needed_by: The option that can't do without; without one, its absence is no fault and has no line.

    Raises:
        CommandError: The file of `--calibration` is none; there is none that holds, and it is needed.
    """
    take_calibration(scorer, args)
    needed_by = "--calibration" if args.calibration else needed_by
    calibration = scorer.calibration
    why = "there is none beside the model"
    if calibration is not None:
        why = calibration.misfit(scorer.calibration_settings(**scorer_settings(scorer, args)))
        if why is None:
            return calibration
    if needed_by:
        raise CommandError(
            f"{needed_by} needs a calibration of this model with these settings ({why}): `diffiqa calibrate` makes "
            "one, --calibration FILE.json takes it"
        )
    return None


def pipeline_settings(args: argparse.Namespace) -> dict[str, int | None]:
    """Those of the options that a call of the pipeline takes."""
    return {name: getattr(args, name) for name in PIPELINE_SETTINGS}


def scorer_settings(scorer, args: argparse.Namespace) -> dict[str, int | None]:
    """Those of the options that a call of what [`load_scorer`] gives takes: a quality model has none."""
    return pipeline_settings(args) if is_pipeline(scorer) else {}


def is_pipeline(scorer) -> bool:
    """Whether it is DifFIQA itself, whatever runs its networks."""
    return hasattr(scorer, "set_preset")
