# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The error of everything that reads and converts foreign files."""

from ..file_utils import printable


class CheckpointError(ValueError):
    """
    A file can't be converted. The message is the reason in one line, without the name of the file, whatever the names
    are that it quotes of it.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))


__all__ = ["CheckpointError"]
