# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""GraFIQs: the card."""

from .card import MethodCard
from .words import DETERMINISTIC, FR_SOURCE, ON_LFW, PROBING


CARD = MethodCard(
    name="grafiqs",
    title="GraFIQs",
    paper="Kolf, Damer and Boutros, GraFIQs: Face Image Quality Assessment Using Gradient Magnitudes, CVPRW 2024",
    kind="analytical",
    formula="minus the sum of absolute gradients, at the pixels or at a block, of the mean squared difference "
    "between the statistics of the image and the running ones, over all 2d batch normalisations",
    raw_range="above 0, scale set by the FR model",
    lower_is_better=True,
    determinism=DETERMINISTIC,
    code_license="CC BY-NC 4.0",
    checked_against="a float64 rendering in NumPy with gradients by hand (tests/methods/test_formulas.py)",
    notes=(
        "statistics are taken for each image by itself, so faces can share a batch; the authors run one at a time",
        "the variances are compared, as in the authors' code",
        "the authors give five scores, of the pixels and of the outputs of the four stages: `layer` is `'image'` "
        "or the name of a module, such as `'layer2'`; the paper's text, which may prefer one, was not at hand",
        "the authors' script reads with OpenCV and gives the network BGR unless `--bgr2rgb` is set; here it gets "
        f"what its configuration says: on 50 faces {ON_LFW}, which reads RGB, BGR gives "
        "them another order (Spearman correlation .21), and the mean size of the scores grows by 8 %; with the FR "
        "model in this package on the 24 example faces the correlation is .81",
        "users report high scores of blank images (issue 3 of the authors' repository); on a MobileFaceNet a grey "
        "picture scored below all faces",
    ),
    options=("layer",),
    method="grafiqs:GraFIQs",
    **{
        **PROBING,
        "weights_license": "those of the FR model; CC BY-NC 4.0 for the authors' (none is stated for the files "
        "apart from the code)",
        "weights_source": f"{FR_SOURCE}; the authors' IResNet-50 and -100, linked by "
        "https://github.com/jankolf/GraFIQs",
    },
)

__all__ = ["CARD"]
