# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the commands say when something is wrong."""

from ..file_utils import printable


class CommandError(Exception):
    """Ends a command with one line on stderr and exit status 2."""


def reason(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


__all__ = ["CommandError", "printable", "reason"]
