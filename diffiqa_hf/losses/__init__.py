# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The losses that face recognition models are trained with, and that of CR-FIQA.

All are a softmax cross-entropy over the scaled cosine similarities s cos(theta_j) of an embedding and the centres of
the classes (people), made harder by a margin. With T for what becomes of the similarity to the embedding's own class
y, and N for what becomes of the others:

    L = mean of -log( exp(s T(cos theta_y)) / (exp(s T(cos theta_y)) + sum over j != y of exp(s N(cos theta_j))) )

| loss           | T                                | N                                  |
|----------------|----------------------------------|------------------------------------|
| ArcFace        | cos(theta + m)                   | cos theta                          |
| CosFace        | cos(theta) - m                   | cos theta                          |
| AdaFace        | cos(theta + g_angle) - g_add     | cos theta                          |
| CurricularFace | cos(theta + m)                   | cos theta (t + cos theta) if hard  |
| MagFace        | cos(theta + m(norm))             | cos theta                          |

They are called as `loss(embeddings, labels)` with embeddings that are not normalised: AdaFace and MagFace learn from
their lengths, and refuse unit ones. (Where a model has `config.normalize_embedding`, they are `embeddings * norms[:,
None]` of its output.) The class centres are parameters of the loss, so an optimizer needs those as well as the
model's; they start as in the authors' code of each loss. Running statistics are buffers, so a `state_dict` holds all
there is to go on from. They move in training mode only, and are those of the batches of all processes, where several
train together. Everything is computed in float32 at least, also under autocast.
"""

from .margin import MarginLoss, sample_classes
from .quality import CRFIQALoss, CRFIQALossOutput, MagFaceLoss
from .recognition import AdaFaceLoss, ArcFaceLoss, CosFaceLoss, CurricularFaceLoss


__all__ = [
    "AdaFaceLoss",
    "ArcFaceLoss",
    "CRFIQALoss",
    "CRFIQALossOutput",
    "CosFaceLoss",
    "CurricularFaceLoss",
    "MagFaceLoss",
    "MarginLoss",
    "sample_classes",
]
