# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Norm of the embedding: the card."""

from .card import MethodCard
from .words import DETERMINISTIC, PROBING


CARD = MethodCard(
    name="embedding-norm",
    title="Norm of the embedding",
    paper="none: the plain baseline, as users ask for it (insightface issue 1075, AdaFace issue 166)",
    kind="baseline",
    formula="L2 norm of the embedding, before it is scaled to unit length where the FR model does that",
    raw_range="above 0, scale set by the FR model",
    determinism=DETERMINISTIC,
    code_license="Apache-2.0 (this package)",
    checked_against="NumPy (tests/methods/test_formulas.py)",
    notes=("means little for FR models whose loss does not tie the norm to quality",),
    method="embedding_norm:EmbeddingNorm",
    one_pass=True,
    **PROBING,
)

__all__ = ["CARD"]
