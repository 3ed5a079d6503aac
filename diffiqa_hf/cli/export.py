# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa export`: a face quality model, or the networks of a DifFIQA pipeline, to ONNX."""

import argparse
import sys
from pathlib import Path

from .errors import CommandError, printable, reason


DESCRIPTION = """\
Writes a face quality model (DifFIQA(R), CR-FIQA, ...) as an ONNX file of any batch size. Its metadata says how a
picture becomes its input. The scores of both are compared. Written as `model.onnx` into the folder of the model, it is
what `--engine auto` of the other commands takes, as long as it is of the same weights.
Of the folder of a DifFIQA pipeline it writes the UNet and the FR model, `unet.onnx` and `fr_model.onnx`, into a
folder. Into that of the pipeline itself: then `--engine auto` takes them, and they read the weights from the files
that are there. Needs `pip install "diffiqa_hf[onnx]"`.
Exit status: 0 written, 1 not (the reason is on stderr), 2 bad usage, 130 interrupted."""

TOLERANCE = 1e-4  # of the scores


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Adds `export` to the commands of `diffiqa`."""
    parser = commands.add_parser(
        "export",
        help="write a face quality model or a pipeline as ONNX",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="folder, Hub id or published file of a face quality model, or the folder of a pipeline; default",
    )
    parser.add_argument(
        "output", type=Path, metavar="FILE.onnx", help="the file to write (of a pipeline: the folder); a file goes"
    )
    parser.add_argument("--revision", help="of a model on the Hub: branch, tag or commit")


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa export`; returns its exit status."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if (Path(args.model) / "model_index.json").exists():
        return _export_pipeline(args)
    from ..conversion.networks import load_quality_model
    from ..default_weights import QUALITY_MODEL
    from ..inference.onnx import export_onnx, largest_difference
    from ..scoring.onnx_forms import quiet_export, source_digest

    try:
        folder = QUALITY_MODEL if args.model == "default" else args.model
        model = load_quality_model(folder, revision=args.revision).eval()
    except Exception as error:  # whatever the libraries trip over in a folder that is none
        raise CommandError(f"cannot load the model {args.model}: {reason(error)}") from error
    try:
        with quiet_export():
            export_onnx(model, args.output, source=source_digest(folder))
    except (ImportError, OSError) as error:
        print(f"diffiqa: {printable(f'cannot write {args.output}: {reason(error)}')}", file=sys.stderr)
        return 1
    line = f"{args.output}: {type(model).__name__}, {args.output.stat().st_size / 2**20:.1f} MiB"
    difference = largest_difference(model, args.output)
    print(printable(f"{line}; its scores in ONNX Runtime differ by {difference:.1e} at most"))
    if not difference < TOLERANCE:
        args.output.unlink()
        print(f"diffiqa: that is more than {TOLERANCE:g}: the file is removed", file=sys.stderr)
        return 1
    return 0


def _export_pipeline(args: argparse.Namespace) -> int:
    from ..inference.onnx_pipeline import export_pipeline
    from ..inference.onnx_session import PIPELINE_FORMS
    from ..pipeline_diffiqa import DifFIQAPipeline
    from ..scoring.onnx_forms import PIPELINE_WEIGHTS, pipeline_digests, quiet_export
    from .scoring import be_quiet

    be_quiet()
    folder = args.output
    try:
        pipe = DifFIQAPipeline.from_pretrained(args.model)
    except Exception as error:  # whatever the libraries trip over in a folder that is none
        raise CommandError(f"cannot load the model {args.model}: {reason(error)}") from error
    digests = pipeline_digests(args.model)
    if digests is None:
        wanted = " and ".join(f"{name}/{file}" for name, file in PIPELINE_WEIGHTS.items())
        raise CommandError(f"{args.model}: its weights have to be in single or half precision, in {wanted}")
    weights = None
    if folder.exists() and folder.samefile(args.model):
        weights = {name: folder / name / file for name, file in PIPELINE_WEIGHTS.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with quiet_export():
            export_pipeline(pipe, folder, digests[0], weights)
    except (ImportError, OSError) as error:
        print(f"diffiqa: {printable(f'cannot write into {folder}: {reason(error)}')}", file=sys.stderr)
        return 1
    for name, file in PIPELINE_FORMS.items():
        size = (folder / file).stat().st_size / 2**20
        print(printable(f"{folder / file}: {type(getattr(pipe, name)).__name__}, {size:.1f} MiB"))
    return 0
