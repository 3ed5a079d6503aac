# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The command `diffiqa`.

Each command is a module of this package with `add_parser` and `run`. What is heavy (torch and what stands on it) it
imports when it runs, so that the help is there at once.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from ..version import __version__
from . import benchmark, best, calibrate, convert, data, evaluate, explain, export, methods, push, score, trust
from .errors import CommandError, printable


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="diffiqa", description="Face image quality assessment with DifFIQA.")
    parser.add_argument("--version", action="version", version=f"diffiqa_hf {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (score, best, explain, calibrate, evaluate, data, benchmark, trust, methods, convert, export, push):
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments after `diffiqa`; those of the process when `None`.

    Returns:
        The exit status: 0 all done, 1 some of it failed (or, where there is one thing to do, that failed), 2 nothing
        could be done or bad usage, 130 interrupted.
    """
    # A file name that the terminal's encoding lacks must not end a run.
    sys.stdout.reconfigure(errors="backslashreplace")
    args = make_parser().parse_args(argv)
    try:
        return args.run(args)
    except CommandError as error:
        print(f"diffiqa: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("diffiqa: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has left (`diffiqa score ... | head`); the last flush must not fail as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
