# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What readers of files that people wrote raise."""

from ..file_utils import printable


LONGEST = 1000  # characters of a message


class LineError(ValueError):
    """An error whose message is one line of bounded length, whatever the names and values are that it quotes."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


def one_line(message: str) -> str:
    """A message on one line of bounded length: the names of files that it quotes may hold anything."""
    line = printable(message)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 250]} ... {line[-240:]}"


__all__ = ["LineError", "one_line"]
