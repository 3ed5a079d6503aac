# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Who is held out of a training, and in which half of those: by the name alone, wherever it is asked."""

import zlib


HALVES = ("choose", "report")  # what is chosen on the one is reported on the other


def is_held_out(name: str, modulo: int) -> bool:
    """Whether the training scripts hold this person out (`--holdout_modulo`; 0 holds nobody out)."""
    return modulo > 0 and zlib.crc32(name.encode()) % modulo == 0


def half_of(name: str, modulo: int) -> str:
    """In which half a person is who was held out with this modulus."""
    # What is held out is a multiple of the modulus, so that the next digit is the one that still varies.
    return HALVES[zlib.crc32(name.encode()) // modulo % 2]


__all__ = ["HALVES", "half_of", "is_held_out"]
