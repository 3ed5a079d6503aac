# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""How far a long run is: a bar with rate and remaining time in a terminal, a line a minute in a log."""

import sys
import time
from collections.abc import Callable


class Progress:
    """
    Counts images on stderr, as a context manager.

    Args:
        total: How many there are.
        quiet: Nothing is shown.
        every: Seconds between two lines where stderr is no terminal; a run that takes less has none.
        clock: Seconds.
    """

    def __init__(
        self, total: int, quiet: bool = False, every: float = 60.0, clock: Callable[[], float] = time.monotonic
    ):
        self.total, self.done, self.every, self.clock = total, 0, every, clock
        self.bar = None
        self.quiet = quiet
        if not quiet and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, unit="image", file=sys.stderr)
        self.begun = self.last = clock()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error) -> None:
        if self.bar is not None:
            self.bar.close()

    def update(self) -> None:
        """One image more."""
        self.done += 1
        if self.bar is not None:
            self.bar.update()
        elif not self.quiet and (now := self.clock()) - self.last >= self.every:
            self.last = now
            print(f"diffiqa: {self.line(now - self.begun)}", file=sys.stderr, flush=True)

    def line(self, seconds: float) -> str:
        """How far it is after so many seconds."""
        rate = self.done / max(seconds, 1e-9)
        left = (self.total - self.done) / max(rate, 1e-9)
        shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        return f"{self.done:,} of {self.total:,} images, {shown} a second, {_duration(left)} left"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{seconds / 86_400:.1f} days"


__all__ = ["Progress"]
