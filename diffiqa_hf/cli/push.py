# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa push`: a folder to the Hugging Face Hub."""

import argparse
import sys
from pathlib import Path

from .errors import CommandError, printable
from .scoring import be_quiet


DESCRIPTION = """\
Uploads a pipeline, an FR model, a face quality model, or labels of `training/label_quality.py` or
`training/label_centres.py` (as a dataset) to the Hub, in one commit. Before that it loads the folder, refuses weights
that are not safetensors, and writes into it what is missing: sections of the card in README.md, filled in from the
folder and its training.json; pipeline.py; preprocessor_config.json. With --results the figures of a report of
`diffiqa benchmark` are added to training.json and to the card, with their intervals. The token is that of `hf auth
login` or HF_TOKEN. Exit status: 0 done, 1 not (the reason is on stderr), 2 bad usage, 130 interrupted."""


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Adds `push` to the commands of `diffiqa`."""
    parser = commands.add_parser(
        "push",
        help="upload a model folder to the Hub",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what save_pretrained or a training script wrote")
    parser.add_argument("repo_id", metavar="REPO_ID", help="name or owner/name; made when it is not there")
    parser.add_argument(
        "--private",
        action=argparse.BooleanOptionalAction,
        help="of a repository that is made (default: labels, which come with the faces, are private; models are as "
        "your account has it)",
    )
    parser.add_argument("--revision", help="branch to upload to, made when it is not there (default: main)")
    parser.add_argument("--commit-message", help="in place of ours")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="results.json of `diffiqa benchmark`: its figures of --method go into training.json and the card, in "
        "place of those of the same name",
    )
    parser.add_argument("--method", nargs="+", metavar="NAME", help="with --results: the folder's name in the report")
    parser.add_argument(
        "--note",
        action="append",
        default=[],
        metavar="TEXT",
        help="what no run can know, for training.json and the card's notes; may be given several times",
    )
    parser.add_argument("--dry-run", action="store_true", help="check the folder and say what would be done")


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa push`; returns its exit status."""
    be_quiet()
    from ..hub import HubError, benchmark_results, push_folder

    if (args.results is None) != (args.method is None):
        raise CommandError("--results and --method go together")
    try:
        results = [result for name in args.method or () for result in benchmark_results(args.results, name)]
        url, written, uploaded = push_folder(
            args.folder,
            args.repo_id,
            private=args.private,
            revision=args.revision,
            commit_message=args.commit_message,
            dry_run=args.dry_run,
            results=results,
            notes=args.note,
        )
    except HubError as error:
        print(f"diffiqa: {printable(str(error))}", file=sys.stderr)
        return 1
    would = "would be " if args.dry_run else ""
    for name in written:
        print(printable(f"{args.folder / name}: {would}written"))
    if args.dry_run:
        print(printable(f"{args.repo_id}: {len(uploaded)} files would be uploaded: {', '.join(uploaded)}"))
    else:
        print(printable(f"{url}: {len(uploaded)} files"))
    return 0
