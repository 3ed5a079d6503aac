# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The trust panel: whether the score of a method falls when the face gets worse, in each of several kinds of damage,
whether pictures without a face score low, and whether copies of a face that are as good score alike.
"""

from .damages import COPIES, DAMAGES, STRENGTHS, damage
from .non_faces import non_faces
from .panel import TrustResult, run_panel


__all__ = ["COPIES", "DAMAGES", "STRENGTHS", "TrustResult", "damage", "non_faces", "run_panel"]
