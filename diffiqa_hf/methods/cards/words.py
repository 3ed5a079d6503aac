# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What several cards say in the same words."""

from typing import Any


CANONICAL = "112x112 on the ArcFace template, RGB, [-1, 1]"
OF_THE_FR_MODEL = "what the FR model takes: canonical faces (112x112 on the ArcFace template) by its configuration"
FR_LICENSE = "those of the FR model"
FR_SOURCE = "any FR model: the small one in this package, a folder made by `diffiqa convert`, or a published file"
DETERMINISTIC = "none: the same pixels give the same score"
SEEDED = "seed: the random numbers of a face are made of the seed and its pixels alone, whatever batch it is in"
PROBING: dict[str, Any] = {
    "takes": ("fr_model",),
    "input": OF_THE_FR_MODEL,
    "weights_license": FR_LICENSE,
    "weights_source": FR_SOURCE,
}
REGRESSION: dict[str, Any] = {
    "kind": "regression",
    "takes": ("weights",),
    "needs": ("weights",),
    "determinism": DETERMINISTIC,
    "method": "regression:QualityModelMethod",
    "one_pass": True,
}
IRESNET_HEAD = ("IResNetForFaceQuality", "MobileFaceNetForFaceQuality")
ON_LFW = "of LFW with a MobileFaceNet trained on CASIA-WebFace (benchmarks/bug_effects.py)"
OUR_CLIPPING = "the norm of the gradient is clipped at 5, theirs is not clipped"
TRAP_COLOUR = "faces go in as RGB; a file written as BGR by other tools gives other scores without any error"


__all__ = [
    "CANONICAL",
    "DETERMINISTIC",
    "FR_LICENSE",
    "FR_SOURCE",
    "IRESNET_HEAD",
    "OF_THE_FR_MODEL",
    "ON_LFW",
    "OUR_CLIPPING",
    "PROBING",
    "REGRESSION",
    "SEEDED",
    "TRAP_COLOUR",
]
