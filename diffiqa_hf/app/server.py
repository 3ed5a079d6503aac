# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The page's server: what is uploaded, within bounds, to the functions that score it, and what they say to HTML."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..images.loading import FaceImageError, first_line
from ..methods.cards import get_card
from ..quality_record import shown_score
from ..version import __version__
from .batches import Batch, Batches, TooManyBatches
from .photographs import explained, one_photograph, two_photographs
from .scorers import KINDS, MethodError, Scorers
from .uploads import MEGABYTE, Limits, UploadError, receive


logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
WAITING = 16  # requests that may wait for their turn; more are sent away
SHOWN = 50  # rows of a batch on the page
# The browser itself then refuses whatever would leave the machine.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors {}"
)


def create_app(
    scorers: Scorers | None = None,
    limits: Limits | None = None,
    hosts: Sequence[str] = ("*",),
    frame_ancestors: str = "'none'",
) -> Starlette:
    """
    The page as an ASGI application.

    Args:
        scorers ([`Scorers`], *optional*): What scores; the methods of the package when not given.
        limits ([`Limits`], *optional*): Of what is uploaded.
        hosts: Names by which the page may be asked for, without the port; `"*"` is any. On the loopback address a page
            of the web must not reach it under a name of its own.
        frame_ancestors: Pages that may show this one inside of them, as a Content-Security-Policy has it.
    """
    page = _Page(scorers or Scorers(), limits or Limits())

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(page.batches.close)

    return Starlette(
        routes=[
            Route("/", page.index),
            Route("/photograph", page.photograph, methods=["POST"]),
            Route("/two", page.two, methods=["POST"]),
            Route("/why", page.why, methods=["POST"]),
            Route("/batches", page.start, methods=["POST"]),
            Route("/batches/{token}", page.progress, methods=["GET"]),
            Route("/batches/{token}", page.forget, methods=["DELETE"]),
            Route("/batches/{token}/cancel", page.cancel, methods=["POST"]),
            Route("/batches/{token}/scores.csv", page.table),
            Route("/batches/{token}/sheet.jpg", page.sheet),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            Middleware(_Guard, policy=POLICY.format(frame_ancestors)),
            Middleware(RequestBodyLimitMiddleware, max_body_size=page.limits.megabytes * MEGABYTE),
        ],
        exception_handlers={HTTPException: _in_a_line, Exception: _unforeseen},
        lifespan=lifespan,
    )


class _Guard:
    """Headers of every answer; what another site has a browser send is refused."""

    def __init__(self, app: ASGIApp, policy: str):
        self.app = app
        self.headers = [
            (b"content-security-policy", policy.encode()),
            (b"referrer-policy", b"no-referrer"),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-store"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        site = Headers(scope=scope).get("sec-fetch-site", "none")
        if scope["method"] not in ("GET", "HEAD") and site not in ("same-origin", "none"):
            await PlainTextResponse("refused: it comes from another site", 403)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self.headers]
            await send(message)

        await self.app(scope, receive, send_with_headers)


async def _in_a_line(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(str(error.detail), error.status_code)


async def _unforeseen(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"this can't be done: {first_line(error)}", 500)


class _Page:
    def __init__(self, scorers: Scorers, limits: Limits):
        self.scorers, self.limits = scorers, limits
        self.batches = Batches(scorers)
        self.templates = Jinja2Templates(HERE / "templates")
        self.templates.env.trim_blocks = self.templates.env.lstrip_blocks = True
        self.templates.env.filters["shown_score"] = shown_score
        self.no_detector = scorers.check_detector()
        self._turn: Any = None
        self._waiting = 0

    # -- pages --------------------------------------------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        return self.templates.TemplateResponse(
            request,
            "index.html",
            {
                "cards": self.scorers.cards,
                "limits": self.limits,
                "no_detector": self.no_detector,
                "version": __version__,
            },
        )

    async def photograph(self, request: Request) -> Response:
        async with self._form(request) as form:
            (content,) = await _contents(form, "photograph")
            choice = self._choice(form)
        shown = await self._in_turn(lambda: one_photograph(self.scorers, content, **choice))
        return self.templates.TemplateResponse(request, "photograph.html", shown)

    async def two(self, request: Request) -> Response:
        async with self._form(request) as form:
            contents = [(await _contents(form, name))[0] for name in ("first", "second")]
            choice = self._choice(form)
        shown = await self._in_turn(lambda: two_photographs(self.scorers, contents, **choice))
        return self.templates.TemplateResponse(request, "two.html", shown)

    async def why(self, request: Request) -> Response:
        async with self._form(request) as form:
            crop = form.get("crop")
        if not isinstance(crop, str):
            raise HTTPException(422, "there is no face")
        shown = await self._in_turn(lambda: explained(self.scorers, crop))
        return self.templates.TemplateResponse(request, "why.html", shown)

    # -- batches ------------------------------------------------------------------------------------------------------

    async def start(self, request: Request) -> Response:
        async with self._form(request) as form:
            choice = self._choice(form)
            files = [file for file in form.getlist("photographs") if isinstance(file, UploadFile) and file.filename]
            if not files:
                raise HTTPException(422, "there is no photograph")
            batch = await run_in_threadpool(self._start, files, **choice)
        return JSONResponse({"token": batch.token, "total": batch.total})

    def _start(self, files: Sequence[UploadFile], name: str, kind: str) -> Batch:
        folder = TemporaryDirectory(prefix="diffiqa_app_")
        try:
            received = receive([(file.filename or "", file.file) for file in files], Path(folder.name), self.limits)
            return self.batches.start(received, folder, name, kind)
        except UploadError as error:
            folder.cleanup()
            raise HTTPException(422, str(error)) from error
        except TooManyBatches as error:
            folder.cleanup()
            raise HTTPException(503, str(error)) from error
        except BaseException:
            folder.cleanup()
            raise

    async def progress(self, request: Request) -> Response:
        batch = self._batch(request)
        state = {"state": batch.state, "done": batch.done, "total": batch.total}
        if batch.ended:
            shown = {"batch": batch, "shown": SHOWN, "method": get_card(batch.method).title}
            state["html"] = self.templates.get_template("batch.html").render(shown)
        return JSONResponse(state)

    async def cancel(self, request: Request) -> Response:
        self.batches.cancel(self._batch(request).token)
        return Response(status_code=204)

    async def forget(self, request: Request) -> Response:
        self.batches.forget(self._batch(request).token)
        return Response(status_code=204)

    async def table(self, request: Request) -> Response:
        return _download(self._ended(request).table.encode(), "text/csv; charset=utf-8", "scores.csv")

    async def sheet(self, request: Request) -> Response:
        return _download(self._ended(request).sheet, "image/jpeg", "contact_sheet.jpg")

    def _batch(self, request: Request) -> Batch:
        batch = self.batches.get(request.path_params["token"])
        if batch is None:
            raise HTTPException(404, "this batch is gone: its results are kept for a quarter of an hour")
        return batch

    def _ended(self, request: Request) -> Batch:
        batch = self._batch(request)
        if not batch.ended:
            raise HTTPException(409, "this batch has not ended yet")
        return batch

    # -- what all share -----------------------------------------------------------------------------------------------

    def _form(self, request: Request) -> Any:
        """The form of a request; the files in it are deleted at the end of the block."""
        # A member more than is allowed, so that it is our line that says what the bound is.
        return request.form(max_files=self.limits.files + 1, max_fields=20, max_part_size=2 * MEGABYTE)

    def _choice(self, form: Any) -> dict[str, str]:
        name, kind = form.get("method"), form.get("kind")
        if name not in [card.name for card in self.scorers.cards]:
            raise HTTPException(422, "this method is not at hand")
        if kind not in KINDS:
            raise HTTPException(422, f"the kind is one of {', '.join(KINDS)}")
        if kind == "photographs" and self.no_detector is not None:
            raise HTTPException(422, f"no face can be looked for: {self.no_detector}")
        return {"name": name, "kind": kind}

    async def _in_turn(self, function: Callable[[], Any]) -> Any:
        """What a function gives, one at a time: more would not be faster."""
        import anyio

        if self._turn is None:
            self._turn = anyio.Lock()
        if self._waiting >= WAITING:
            raise HTTPException(503, "too many people ask at a time: try again later")
        self._waiting += 1
        try:
            async with self._turn:
                return await run_in_threadpool(function)
        except (FaceImageError, MethodError) as error:
            raise HTTPException(422, str(error)) from error
        finally:
            self._waiting -= 1


async def _contents(form: Any, name: str) -> list[bytes]:
    file = form.get(name)
    if not isinstance(file, UploadFile) or not file.filename:
        raise HTTPException(
            422, "there is no photograph" if name == "photograph" else f"there is no {name} photograph"
        )
    return [await file.read()]


def _download(content: bytes, kind: str, name: str) -> Response:
    return Response(content, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})


__all__ = ["create_app"]
