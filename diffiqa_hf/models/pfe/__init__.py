# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
from .configuration_pfe import PFEConfig, SphereNetConfig
from .modeling_pfe import (
    PFEForFaceQuality,
    PFEModelOutput,
    SphereNetModel,
    mutual_likelihood_loss,
    mutual_likelihood_score,
)


__all__ = [
    "PFEConfig",
    "PFEForFaceQuality",
    "PFEModelOutput",
    "SphereNetConfig",
    "SphereNetModel",
    "mutual_likelihood_loss",
    "mutual_likelihood_score",
]
