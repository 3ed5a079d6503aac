# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa trust`: does the score of each method fall when the face gets worse?"""

import argparse
import importlib.util
import sys
from pathlib import Path

from .devices import placed
from .errors import CommandError, printable, reason
from .scoring import be_quiet


DESCRIPTION = """\
Damages faces in a dozen ways (out of focus, moved, dark, covered, badly aligned, ...) at five strengths, and takes
pictures that show no face. A method can be trusted where its score falls with each step of each damage, where what is
no face scores below the faces, and where copies that are as good (mirrored, JPEG of quality 95, shifted by a pixel)
score alike. Writes report.md, results.json and a picture. What was computed is kept, so that a run that was stopped
goes on. Photographs without a face are added where scikit-image is installed (pip install 'diffiqa-hf[trust]').
Exit status: 0 the report is there, 2 the panel can't be run as described, 130 interrupted."""

EPILOG = """\
a panel (YAML, or the same in JSON):
  title: Two methods
  output: runs/trust
  faces: {folder: faces/mine, number: 200}
  methods:
    - {name: DifFIQA(R), method: diffiqa-r}
    - {name: DifFIQA, method: diffiqa, faces: 24}
All that can be set is documented in diffiqa_hf/evaluation/trust/study.py."""


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Adds `trust` to the commands of `diffiqa`."""
    parser = commands.add_parser(
        "trust",
        help="does the score fall when the face gets worse",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("config", metavar="CONFIG", help="the panel, .yaml or .json")
    parser.add_argument("--output", metavar="FOLDER", help="of the report, in place of the panel's")
    parser.add_argument("--device", help="such as cpu, cuda (default: an accelerator if there is one)")
    parser.add_argument("--no-plot", action="store_true", help="no picture, for which matplotlib is needed")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa trust`; returns its exit status."""
    if not args.no_plot and importlib.util.find_spec("matplotlib") is None:
        raise CommandError("needs matplotlib: pip install 'diffiqa-hf[plot]' (or give --no-plot)")
    from dataclasses import replace

    import torch
    from tqdm import tqdm

    from ..evaluation.study.config import ConfigError
    from ..evaluation.trust.report import write_trust_report
    from ..evaluation.trust.study import TrustConfig, run_study
    from ..methods import load_method

    be_quiet()

    def load(method):
        try:
            loaded = load_method(method.method, method.weights, method.fr_model, align=False, **method.options)
        except Exception as error:  # whatever the libraries raise for what is no such model
            raise CommandError(f"{method.name}: {reason(error)}") from error
        loaded = placed(loaded, args.device, config.dtype)
        if config.dtype == "float32":
            loaded.enable_folding(winograd=loaded.device == torch.device("cpu"))
        return loaded

    def bar(**options):
        return tqdm(disable=args.quiet or not sys.stderr.isatty(), leave=False, **options)

    try:
        config = TrustConfig.from_file(args.config)
        if args.output:
            config = replace(config, output=args.output, cache=config.cache or str(Path(config.output) / "cache"))
        results, counts = run_study(config, load, bar)
        options = {"title": config.title, "notes": config.notes, "pictures": not args.no_plot}
        write_trust_report(results, counts, config.output, **options)
    except ConfigError as error:
        raise CommandError(reason(error)) from error
    except OSError as error:
        raise CommandError(f"{error.filename or args.config}: {reason(error)}") from error
    for name, result in results.items():
        print(printable(f"{name}: {len(result.failures())} of {result.checks} checks failed"))
    print(printable(f"{Path(config.output) / 'report.md'}"))
    return 0
