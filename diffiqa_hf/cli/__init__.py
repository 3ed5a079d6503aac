# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The command `diffiqa`.

Each command is a module of this package with `add_parser` and `run`. What is heavy (torch and what stands on it) it
imports when it runs, so that the help is there at once.
"""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from ..version import __version__
from .errors import CommandError, printable


COMMANDS = (
    "score",
    "best",
    "tracks",
    "explain",
    "app",
    "calibrate",
    "evaluate",
    "data",
    "benchmark",
    "trust",
    "methods",
    "convert",
    "export",
    "push",
)


def make_parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of all commands, or of some."""
    parser = argparse.ArgumentParser(prog="diffiqa", description="Face image quality assessment with DifFIQA.")
    parser.add_argument("--version", action="version", version=f"diffiqa_hf {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in names:
        importlib.import_module(f".{name}", __name__).add_parser(commands)
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
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    argv = sys.argv[1:] if argv is None else list(argv)
    # The others' options need not be read for the one that is asked for.
    args = make_parser(argv[:1] if argv[:1] and argv[0] in COMMANDS else COMMANDS).parse_args(argv)
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
