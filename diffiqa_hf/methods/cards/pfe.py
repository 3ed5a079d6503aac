# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""PFE: the card."""

from .card import MethodCard
from .words import DETERMINISTIC, OUR_CLIPPING


CARD = MethodCard(
    name="pfe",
    title="PFE",
    paper="Shi and Jain, Probabilistic Face Embeddings, ICCV 2019",
    kind="model-based",
    formula="minus the harmonic mean, over the dimensions of the embedding, of the variances that a module of two "
    "layers gives for it; it reads what the last layer of the FR network reads",
    takes=("weights",),
    needs=("weights",),
    input="112x96, the middle of the face on the ArcFace template, RGB, (x - 127.5) / 128; on another FR network "
    "what that takes",
    raw_range="above 0; an untrained module gives exp(-7) = .0009, and the scale of a trained one is that of its "
    "FR network",
    lower_is_better=True,
    determinism=DETERMINISTIC,
    code_license="MIT",
    weights_license="MIT (none is stated for the files apart from the code)",
    weights_source="the two 64-CNN PFE models, linked by https://github.com/seasonSH/Probabilistic-Face-Embeddings"
    " (unpacked, `weights` takes the .index file; the .data file has to lie beside it), or your own training "
    "(`training/train_quality.py`)",
    checked_against="SphereNet, module and score in NumPy and float64 from a checkpoint in TensorFlow's format "
    "that the test writes (tests/conversion/dialects/test_pfe.py, tests/methods/test_formulas_more.py); the published "
    "files were not at hand, and the names of their tensors were read off the authors' code",
    notes=(
        "the authors give no score for one image: their paper speaks of the harmonic mean of the uncertainty, and "
        "others report that, its inverse or its negative; with the variance, as here, and with its root the order "
        "of faces can differ",
        "what the authors call alpha and gamma in the file are the scale and the shift, which their code calls "
        "gamma and beta",
        "the loss in the authors' code is twice that of the paper less a constant (no half); "
        "`mutual_likelihood_loss` is the paper's",
        "the uncertainty belongs to the embedding that it was trained on: it is no quality for another FR model",
    ),
    training=(
        "`training/train_quality.py --recipe pfe`",
        "the options are those of the authors' config/sphere64_msarcface.py, rate and weight decay converted, "
        "because their loss is twice the paper's",
        "the module is on the FR model that is given, theirs on a SphereNet-64",
        OUR_CLIPPING,
    ),
    networks=("PFEForFaceQuality",),
    dialect="pfe",
    method="pfe:PFEMethod",
    one_pass=True,
)

__all__ = ["CARD"]
