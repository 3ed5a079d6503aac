# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa benchmark`: quality methods x FR models x benchmarks, and the report."""

import argparse
import importlib.util
import sys
from pathlib import Path

from .errors import CommandError, printable, reason
from .scoring import be_quiet, say


DESCRIPTION = """\
Computes the embeddings and quality scores that a study needs, evaluates every method with every FR model on every
benchmark, and writes a report: report.html (one page, to sort and to hover), report.md, tables as LaTeX and CSV,
pictures as PNG and SVG. What was computed is kept by what it depends on (weights, images, settings), so that a run
that was stopped goes on, and a method that is added costs itself alone. Several processes share the images:
accelerate launch -m diffiqa_hf benchmark CONFIG (on CPUs torchrun, with the same arguments). Exit status: 0 the report
is there (or the first process will write it), 1 with --report-only something is not computed, 2 the study can't be run
as described, 130 interrupted."""

EPILOG = """\
a study (YAML, or the same in JSON):
  title: LFW, two methods
  output: runs/lfw
  methods:
    - {name: DifFIQA, method: diffiqa}
    - {name: DifFIQA t=5, method: diffiqa, options: {num_timesteps: 5}}
    - {name: norm, method: embedding-norm, fr_model: each}
    - {name: theirs, scores: their_scores.txt}
  fr_models:
    - {name: ArcFace, model: arcface/}
  benchmarks:
    - {name: LFW, benchmark: lfw, root: faces/lfw}
    - {name: mine, folder: faces/mine, min_images: 2, mated_per_person: 20, nonmated: 100000}
  ablations:
    - title: Without flip
      fr_model: ArcFace
      variants:
        - {name: w/o flip, method: diffiqa, terms: [noisy, restored]}
        - DifFIQA
  protocols: [default, diffiqa]
  faces: examples/faces
  runtime: 20
All that can be set is documented in diffiqa_hf/evaluation/study/config.py."""


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Adds `benchmark` to the commands of `diffiqa`."""
    parser = commands.add_parser(
        "benchmark",
        help="methods x FR models x benchmarks, and the report",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("config", metavar="CONFIG", help="the study, .yaml or .json")
    parser.add_argument("--output", metavar="FOLDER", help="of the report, in place of the study's")
    parser.add_argument("--device", help="such as cpu, cuda (default: an accelerator if there is one)")
    parser.add_argument("--report-only", action="store_true", help="compute nothing: a report of what there is")
    parser.add_argument("--no-plot", action="store_true", help="no pictures, for which matplotlib is needed")
    parser.add_argument(
        "--scores", action="store_true", help="write the scores of all images too: FOLDER/scores/BENCHMARK.parquet"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa benchmark`; returns its exit status."""
    for package, extra in (("datasets", "evaluate"), *((("matplotlib", "plot"),) if not args.no_plot else ())):
        if importlib.util.find_spec(package) is None:
            raise CommandError(f"needs {package}: pip install 'diffiqa-hf[{extra}]'")
    from ..evaluation.study.config import ConfigError, StudyConfig

    try:
        config = StudyConfig.from_file(args.config)
        return _run(config, args)
    except ConfigError as error:
        raise CommandError(reason(error)) from error


def _run(config, args: argparse.Namespace) -> int:
    from dataclasses import replace

    from datasets.utils.logging import disable_progress_bar

    from ..evaluation.study.report import write_report
    from ..evaluation.study.runner import StudyRunner
    from ..labelling.shards import launched_share

    disable_progress_bar()
    be_quiet()
    if args.output:
        # The cache stays where the study has it.
        config = replace(config, output=args.output, cache=config.cache or str(Path(config.output) / "cache"))
    share = launched_share(args.device)
    progress = not args.quiet and sys.stderr.isatty()
    try:
        runner = StudyRunner(config, share.device, share.process, share.num_processes, progress)
        if not args.quiet and not share.process:
            for name, benchmark in runner.benchmarks.items():
                say(f"{name}: {benchmark.protocol}")
        missing = runner.compute(only_find=args.report_only)
        if share.process:
            return 0  # everything is computed; the first process makes the report
        if missing:
            print(f"diffiqa: {missing} shards are not computed; the report is of the rest", file=sys.stderr)
        study = runner.study()
        if not any(study.evaluations.values()):
            raise CommandError("nothing is computed yet, so there is nothing to report")
        write_report(study, config.output, pictures=not args.no_plot)
        if args.scores:
            runner.write_scores(Path(config.output) / "scores")
    except OSError as error:
        raise CommandError(f"{error.filename or config.output}: {reason(error)}") from error
    print(printable(f"{Path(config.output) / 'report.html'}"))
    return 1 if missing else 0
