# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""PreFIQs: the card."""

from .card import MethodCard
from .words import DETERMINISTIC, PROBING


CARD = MethodCard(
    name="prefiqs",
    title="PreFIQs",
    paper="Kolf, Ozgur, Atzori, Babnik, Štruc, Damer and Boutros, PreFIQs: Face Image Quality Is What Survives "
    "Pruning, CVPRW 2026",
    kind="analytical",
    formula="1 - D / 2, D being the Euclidean distance between the unit embeddings of the FR model and of its copy "
    "without the 40 % of the weights that have the smallest absolute values",
    raw_range="[0, 1]",
    determinism=DETERMINISTIC,
    code_license="none stated (the authors' repository, https://github.com/jankolf/PreFIQs, is empty so far)",
    checked_against="NumPy and float64 (tests/methods/test_formulas_more.py); no code of the authors is public",
    notes=(
        "the paper itself was not at hand: the distance is that of its abstract; that weights go one by one by their "
        "absolute values, that 0.4 of them is best, and the scale of the score are from a summary of it",
        "what is open: whether the smallest are taken from the whole network, as here, or from each layer "
        "(`scope='layer'`), and whether more than the weights of convolutions and linear layers is pruned",
        "the summary has the paper's networks lose nothing up to 0.7 (IResNet-100 by ArcFace on MS1MV2); a small "
        "network may need less",
        "on LFW dev_test with two MobileFaceNets of a million parameters (docs/results/prefiqs) it has a mean share "
        "of the reachable gain at 0.3 of .51 [.39, .61] with 40 % pruned, .53 and .54 with 20 and 10 %; the norm of "
        "the embedding, for half the time, .62 [.51, .70]",
    ),
    options=("sparsity", "scope"),
    method="prefiqs:PreFIQs",
    **PROBING,
)

__all__ = ["CARD"]
