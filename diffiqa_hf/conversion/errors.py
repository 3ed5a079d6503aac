# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The error of everything that reads and converts foreign files."""


class CheckpointError(ValueError):
    """A file can't be converted. The message is the reason in one line, without the name of the file."""


__all__ = ["CheckpointError"]
