# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa convert`: a published checkpoint to a folder that `from_pretrained` loads."""

import argparse
import os
import sys
from pathlib import Path

from ..conversion import DIALECTS
from .errors import printable, reason
from .scoring import be_quiet


DESCRIPTION = """\
Converts a published checkpoint (.pth, .pt, .ckpt, .bin, .safetensors; TensorFlow's .pb and .index, Keras' .h5, MXNet's
.params, dlib's .dat) to a folder with config.json, the weights as safetensors, preprocessor_config.json and a model
card. A face recognition model is then used with `diffiqa score --fr-model DEST`. Of a model folder whose tensors have
a prefix (`module.` of DataParallel, `_orig_mod.` of torch.compile, ...) it takes that off. Nothing in the file is run.
Exit status: 0 converted, 1 not (the reason is on stderr), 2 bad usage, 130 interrupted."""


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Adds `convert` to the commands of `diffiqa`."""
    width = max(len(dialect.name) for dialect in DIALECTS)
    dialects = "\n".join(f"  {dialect.name:<{width}}  {dialect.description}" for dialect in DIALECTS)
    parser = commands.add_parser(
        "convert",
        help="convert a published checkpoint to a model folder",
        description=DESCRIPTION,
        epilog=f"dialects:\n{dialects}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("source", metavar="SOURCE", help="the checkpoint file; or a folder, for names with a prefix")
    parser.add_argument("dest", type=Path, metavar="DEST", help="the folder to write")
    parser.add_argument(
        "--from",
        dest="dialect",
        choices=[dialect.name for dialect in DIALECTS],
        metavar="DIALECT",
        help="whose naming of the tensors it is (default: told from the names)",
    )
    parser.add_argument(
        "--weights",
        choices=("ema", "model"),
        help="of a training checkpoint of diffiqa, which has both: the average (default) or the last weights",
    )
    parser.add_argument(
        "--allow-pickle-globals",
        action="append",
        default=[],
        metavar="NAME",
        help="read a pickle that holds objects of this class or function as well, leaving them out; may be repeated",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the model that is in DEST")


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa convert`; returns its exit status."""
    be_quiet()
    from ..conversion.checkpoint import check_dest, load_foreign, save_converted
    from ..conversion.folders import unwrap_folder
    from ..conversion.loading import CheckpointError

    try:
        check_dest(args.dest, args.overwrite)
        if os.path.isdir(args.source):
            model, prefix = unwrap_folder(args.source, args.dest, overwrite=args.overwrite)
            parameters = sum(parameter.numel() for parameter in model.parameters())
            line = f"{args.dest}: {type(model).__name__} of {parameters:,} parameters from {args.source}"
            print(printable(f"{line}, the prefix {prefix!r} taken off the names"))
            return 0
        if args.overwrite and args.dest.resolve() in Path(args.source).resolve().parents:
            return _fail(f"{args.source} is in {args.dest}, which would be replaced")
        converted = load_foreign(
            args.source, args.dialect, weights=args.weights, allow_pickle_globals=args.allow_pickle_globals
        )
        save_converted(converted, args.dest, overwrite=args.overwrite)
    except CheckpointError as error:
        return _fail(f"{args.source}: {error}")
    except OSError as error:
        named = reason(error) if error.errno is None else f"cannot write {args.dest}: {reason(error)}"
        return _fail(named)
    name = os.path.basename(args.source)
    parameters = sum(parameter.numel() for parameter in converted.model.parameters())
    part = f", {converted.weights} weights" if converted.weights else ""
    line = f"{args.dest}: {type(converted.model).__name__} of {parameters:,} parameters from {name}"
    print(printable(f"{line} ({converted.dialect.name}{part})"))
    return 0


def _fail(line: str) -> int:
    print(f"diffiqa: {printable(line)}", file=sys.stderr)
    return 1
