# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa app`: a page that scores photographs, in a browser."""

import argparse
import contextlib
import importlib.util
import ipaddress
import os
import sys
import threading
from typing import TYPE_CHECKING

from ..default_weights import DEFAULT_METHOD
from .errors import CommandError, reason
from .scoring import FR_MODEL_HELP, be_quiet, positive


if TYPE_CHECKING:
    from ..app.scorers import Scorers


DESCRIPTION = """\
Opens a page on this machine that scores photographs in a browser: one, with the meaning of each face's score and why
it has it; which of two to enrol; many, or a zip archive of them, to a table and a contact sheet. A picture may come
from the camera. Nothing that is uploaded leaves the machine or is kept. Ends with Ctrl-C.
It needs `pip install 'diffiqa-hf[app]'`."""
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1", "[::1]")


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Adds `app` to the commands of `diffiqa`."""
    parser = commands.add_parser("app", help="score photographs in a browser", description=DESCRIPTION)
    parser.set_defaults(run=run)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="to listen on (127.0.0.1, this machine alone); on another anybody who reaches it can use it",
    )
    parser.add_argument("--port", type=int, default=7860, metavar="N", help="(7860)")
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="METHOD=PATH",
        help="the weights of a method that needs some, which the page then offers; can be repeated",
    )
    parser.add_argument("--fr-model", metavar="ID_OR_PATH", help=FR_MODEL_HELP)
    parser.add_argument("--detector", metavar="PATH_OR_REPO", help="YuNet's ONNX file or Hub repository")
    parser.add_argument("--max-files", type=positive, default=1_000, metavar="N", help="photographs at a time (1000)")
    parser.add_argument("--max-megabytes", type=positive, default=200, metavar="N", help="of one upload (200)")


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa app`; returns its exit status."""
    for package in ("starlette", "uvicorn", "python_multipart"):
        if importlib.util.find_spec(package) is None:
            raise CommandError(f"the page needs {package}: pip install 'diffiqa-hf[app]'")
    weights = dict(map(_named_weights, args.weights))
    import uvicorn

    from ..app.scorers import Scorers
    from ..app.server import create_app
    from ..app.uploads import Limits

    try:
        scorers = Scorers(weights, args.fr_model, args.detector)
        if weights:
            be_quiet()
        for name in weights:
            scorers.method(name)
    except ValueError as error:  # a name that is no method's, what is no network of it
        raise CommandError(f"--weights: {reason(error)}") from error
    app = create_app(scorers, Limits(args.max_megabytes, 5 * args.max_megabytes, args.max_files), _hosts(args.host))
    config = uvicorn.Config(app, args.host, args.port, log_level="warning", access_log=False, server_header=False)
    try:
        listening = config.bind_socket()
    except SystemExit as error:  # uvicorn's way to say that it can't
        raise CommandError(f"cannot listen on {args.host}, port {args.port}") from error
    place = f"[{args.host}]" if ":" in args.host else args.host
    print(f"http://{place}:{listening.getsockname()[1]}", flush=True)
    print("diffiqa: Ctrl-C ends it", file=sys.stderr)
    threading.Thread(target=_warm_up, args=[scorers], daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again when all is closed
        uvicorn.Server(config).run([listening])
    return 0


def _warm_up(scorers: "Scorers") -> None:
    """Loads what will be asked for first, while the page is there already: torch takes seconds."""
    scorers.method(DEFAULT_METHOD)
    be_quiet()
    scorers.pipeline()


def _named_weights(text: str) -> tuple[str, str]:
    name, sign, path = text.partition("=")
    if not sign or not name or not path:
        raise CommandError(f"--weights {text}: METHOD=PATH, such as lightqnet=lightqnet-dm100.pb")
    if not os.path.exists(path) and (os.path.splitext(path)[1] or os.sep in path.strip(os.sep).partition(os.sep)[2]):
        raise CommandError(f"--weights {text}: no such file")
    return name, path


def _hosts(address: str) -> tuple[str, ...]:
    """By which names the page answers: on the loopback address a page of the web must not reach it by its own."""
    try:
        loopback = address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:  # a name
        loopback = False
    return (*LOOPBACK_NAMES, address) if loopback else ("*",)
