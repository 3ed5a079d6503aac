# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Many photographs, scored while the page is told how far it is: a table and a contact sheet come out."""

import csv
import io
import logging
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

from ..images.extraction import FaceExtractor
from ..images.loading import first_line
from ..methods import FaceQualityMethod
from ..scoring.contact_sheet import contact_sheet
from .scorers import JudgedFace, Scorers
from .sentences import why_low
from .uploads import Received


logger = logging.getLogger(__name__)

COLUMNS = ("file", "face", "score", "percentile", "reasons", "error")
KEPT_SECONDS = 15 * 60  # after its end a result is there so long
MOST_KEPT = 8  # batches, those that wait among them


class TooManyBatches(RuntimeError):
    """No more batches are taken for now."""


@dataclass
class Batch:
    """
    One upload of many photographs.

    Args:
        token (`str`): By which the page asks for it; nobody can guess it.
        total, done (`int`): Photographs.
        state (`str`): `"waiting"`, `"running"`, `"done"`, `"cancelled"` or `"failed"`.
        notes (`list[str]`): Lines on what was left out, or why it failed.
        rows (`list[dict]`): By the names in `COLUMNS`, in the order of the photographs.
        sheet (`bytes`): The contact sheet, a JPEG file; empty where no face has a score.
    """

    token: str
    total: int
    method: str
    notes: list[str]
    done: int = 0
    state: str = "waiting"
    rows: list[dict] = field(default_factory=list)
    sheet: bytes = b""
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state not in ("waiting", "running")

    @property
    def table(self) -> str:
        """The rows as CSV, as `diffiqa best --scores` takes it."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_cell(row[column]) for column in COLUMNS] for row in self.rows)
        return text.getvalue()

    @property
    def failed(self) -> list[dict]:
        """The rows without a score."""
        return [row for row in self.rows if row["error"] is not None]

    @property
    def ranked(self) -> list[dict]:
        """The rows with a score, best first."""
        return sorted((row for row in self.rows if row["error"] is None), key=lambda row: -row["score"])


def _cell(value: object) -> object:
    return f"{value:.7g}" if isinstance(value, float) else value


class Batches:
    """
    All batches of a server, scored one at a time in a thread. The photographs are deleted when a batch ends, however
    it ends; its results after a quarter of an hour, or when the page says so.
    """

    def __init__(self, scorers: Scorers, kept_seconds: float = KEPT_SECONDS, most: int = MOST_KEPT):
        self.scorers, self.kept_seconds, self.most = scorers, kept_seconds, most
        self._all: dict[str, Batch] = {}
        self._timers: dict[str, threading.Timer] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="diffiqa_batch")

    def start(self, received: Received, folder: TemporaryDirectory, method: str, kind: str) -> Batch:
        """
        Takes a batch, and the folder that its photographs are in.

        Raises:
            TooManyBatches: So many are there that no more are taken; the folder is the caller's still.
        """
        batch = Batch(secrets.token_urlsafe(24), len(received.uploads), method, list(received.notes))
        with self._lock:
            if len(self._all) >= self.most:
                ended = next((token for token, other in self._all.items() if other.ended), None)
                if ended is None:
                    raise TooManyBatches(f"{self.most} batches are being scored: try again later")
                self._forget(ended)
            self._all[batch.token] = batch
        self._pool.submit(self._run, batch, received, folder, kind)
        return batch

    def get(self, token: str) -> Batch | None:
        """The batch of a token."""
        return self._all.get(token)

    def cancel(self, token: str) -> None:
        """Ends a batch after the faces that are being scored; its rows so far are its result."""
        if (batch := self.get(token)) is not None:
            batch.cancelled.set()

    def forget(self, token: str) -> None:
        """Ends a batch and drops its results."""
        self.cancel(token)
        with self._lock:
            self._forget(token)

    def close(self) -> None:
        """Ends all, and waits until their photographs are deleted."""
        for token in list(self._all):
            self.forget(token)
        self._pool.shutdown()

    def _forget(self, token: str) -> None:
        self._all.pop(token, None)
        if (timer := self._timers.pop(token, None)) is not None:
            timer.cancel()

    def _run(self, batch: Batch, received: Received, folder: TemporaryDirectory, kind: str) -> None:
        try:
            with folder:
                state = self._score(batch, received, kind)
        except Exception as error:  # of a network or a disk: the page shows it, and the server goes on
            logger.exception("a batch failed")
            batch.notes.append(first_line(error))
            state = "failed"
        with self._lock:
            batch.state = state
            if batch.token in self._all:
                timer = threading.Timer(self.kept_seconds, self.forget, [batch.token])
                timer.daemon = True
                self._timers[batch.token] = timer
                timer.start()

    def _score(self, batch: Batch, received: Received, kind: str) -> str:
        if batch.cancelled.is_set():
            return "cancelled"
        batch.state = "running"
        method = self.scorers.method(batch.method)
        extractor = self.scorers.extractor_for(method, kind, "largest")
        for row in _rows(self.scorers, method, extractor, received):
            batch.rows.append(row)
            batch.done += 1
            if batch.cancelled.is_set():
                break
        if batch.ranked:
            # By numbers: two photographs may have one name, which is shown all the same.
            scored = [row | {"number": at} for at, row in enumerate(batch.rows) if row["error"] is None]
            picture = contact_sheet(
                extractor, scored, lambda row: str(received.uploads[row["number"]].path), method.card.title
            )
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=88)
            batch.sheet = file.getvalue()
        return "cancelled" if batch.done < batch.total else "done"


def _rows(scorers: Scorers, method: FaceQualityMethod, extractor: FaceExtractor, received: Received) -> Iterator[dict]:
    uploads = received.uploads
    whole = [upload for upload in uploads if upload.error is None]
    judged: Iterator[JudgedFace] = scorers.judge(method, [str(upload.path) for upload in whole], extractor)
    for upload in uploads:
        row = dict.fromkeys(COLUMNS) | {"file": upload.name, "face": 0, "error": upload.error}
        if upload.error is None:
            record = next(judged).record
            row["error"] = record.error
            if record.error is None:
                row |= {"score": record.score, "percentile": record.percentile, "reasons": "; ".join(why_low(record))}
        yield row


__all__ = ["COLUMNS", "Batch", "Batches", "TooManyBatches"]
