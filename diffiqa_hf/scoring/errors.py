# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What readers of files that people wrote raise."""

LONGEST = 1000  # characters of a message


class LineError(ValueError):
    """An error whose message is one line of bounded length, whatever the names and values are that it quotes."""

    def __init__(self, message: str):
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        if len(line) > LONGEST:
            line = f"{line[: LONGEST - 250]} ... {line[-240:]}"
        super().__init__(line)


__all__ = ["LineError"]
