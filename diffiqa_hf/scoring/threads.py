# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Work on items in threads, whose results come in the order of the items."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


_most: int | None = None


def use_cores(count: int | None) -> None:
    """Has this process use so many processors at most, as one of several on a machine; `None`: all again."""
    global _most
    _most = count


def cores() -> int:
    """How many processors this process may run on."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return there if _most is None else min(there, _most)


def in_order(
    function: Callable[[Any], Any], items: Iterable, threads: int, window: Callable[[], int]
) -> Iterator[Any]:
    """
    What a function makes of items, in their order. It works on some of them ahead of the one that is asked for; the
    items themselves are taken in the caller's thread.

    Args:
        function: What is done with an item. An error of its stands in the place of the item's result, after which
            nothing more is done.
        items: An error of theirs comes after the results of those before.
        threads: At a time; with 0 the caller does all of it when the result is asked for.
        window: Is asked before an item is taken: how many may be worked on or wait, as results too. At least one is.
    """
    if threads == 0:
        yield from map(function, items)
        return
    items, failure, more = iter(items), None, True
    waiting: deque[Future] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="diffiqa_hf")
    try:
        while True:
            while more and len(waiting) < max(1, window()):
                try:
                    waiting.append(pool.submit(function, next(items)))
                except StopIteration:
                    more = False
                except Exception as error:
                    more, failure = False, error
            if not waiting:
                break
            yield waiting.popleft().result()
    finally:
        # Whoever stops in the middle does not wait for a slow one.
        pool.shutdown(wait=False, cancel_futures=True)
    if failure is not None:
        raise failure


__all__ = ["cores", "in_order", "use_cores"]
