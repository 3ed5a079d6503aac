# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
LightQNet's losses: Chen, Yi and Lv, IEEE Signal Processing Letters 2021
(https://github.com/KaenChan/lightqnet-train). Quality is a classification: will two faces of a person match?
"""

import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from ...models.modeling_face import in_float32
from ...models.pfe.modeling_pfe import mated_pairs


EPS = 1e-6  # a sigmoid in float32 reaches 0 and 1, whose logarithms must be finite


def identification_quality_loss(
    scores: torch.Tensor,
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    scale: float = 16.0,
    margin: float = 0.4,
    hard: bool = False,
) -> torch.Tensor:
    r"""
    The identification quality loss (Eq. 3), the mean over the mated pairs of a batch of

    $$-t \log f - (1 - t) \log(1 - f),\quad f = \min(q_i, q_j),\quad t = \sigma(s (\cos(e_i, e_j) - m))$$

    The lower of two scores alone gets the gradient. (The authors' code takes for f the score of the first face of each
    ordered pair: it does not transpose the second before the minimum. Its configuration has hard labels; the paper's
    best results are with soft ones.)

    Args:
        scores: (N,) q, in (0, 1).
        embeddings: (N, D) of an FR model, of any length. No gradient goes into them.
        labels: (N,), which person each face is of.
        scale, margin: s and m (the paper's 16 and 0.4).
        hard: t is 1 where the similarity is above m and 0 elsewhere (Eq. 1).

    Raises:
        ValueError: No two faces are of one person.
    """
    first, second = mated_pairs(labels)
    embeddings = embeddings.detach().float()
    similarity = cosine_similarity(embeddings[first], embeddings[second])
    wanted = (similarity > margin).float() if hard else (scale * (similarity - margin)).sigmoid()
    lower = torch.minimum(scores[first], scores[second]).float().clamp(EPS, 1 - EPS)
    return -(wanted * lower.log() + (1 - wanted) * (1 - lower).log()).mean()


def quality_distillation_loss(scores: torch.Tensor, teacher_scores: torch.Tensor) -> torch.Tensor:
    """
    The distillation loss (Eq. 4): the Kullback-Leibler divergence of two Bernoulli distributions, with the teacher's
    probability and the student's. The mean over the batch, as in the authors' code; the paper writes a sum.

    Args:
        scores, teacher_scores: (N,) in (0, 1). No gradient goes into the teacher's.
    """
    student = scores.float().clamp(EPS, 1 - EPS)
    teacher = teacher_scores.detach().float().clamp(EPS, 1 - EPS)
    yes = teacher * (teacher.log() - student.log())
    no = (1 - teacher) * ((1 - teacher).log() - (1 - student).log())
    return (yes + no).mean()


class QualityBranch(nn.Module):
    """
    The teacher: what the FR model's last layer reads, (N, in_features), to scores (N,) in (0, 1). As in the authors'
    code its logit is normalised over the batch and has neither scale nor shift.
    """

    def __init__(self, in_features: int, width: int = 256):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_features, width, bias=False),
            nn.BatchNorm1d(width, eps=1e-3),
            nn.ReLU(),
            nn.Linear(width, 1, bias=False),
            nn.BatchNorm1d(1, eps=1e-3, affine=False),
        )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return in_float32(self.layers, hidden_states.flatten(1)).squeeze(1).sigmoid()


__all__ = ["QualityBranch", "identification_quality_loss", "quality_distillation_loss"]
