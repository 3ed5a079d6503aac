# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What face quality networks are trained with, as `training/train_quality.py` does it: labels that are made of the
embeddings of an FR model, and losses. The losses of PFE and PCNet stand beside their models (`diffiqa_hf.models.pfe`,
`diffiqa_hf.models.pcnet`), those of MagFace and CR-FIQA in `diffiqa_hf.losses`.
"""

from .faceqgen import restoration_losses
from .labels import centre_labels, choose_references, reference_labels, sdd_fiqa_labels, wasserstein_distances
from .lightqnet import QualityBranch, identification_quality_loss, quality_distillation_loss


__all__ = [
    "QualityBranch",
    "centre_labels",
    "choose_references",
    "identification_quality_loss",
    "quality_distillation_loss",
    "reference_labels",
    "restoration_losses",
    "sdd_fiqa_labels",
    "wasserstein_distances",
]
