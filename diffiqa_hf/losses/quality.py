# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Losses of FR models that learn quality along: MagFace and CR-FIQA."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .margin import MarginLoss, add_angle, add_angle_monotonic, own_cosines, replace_own


class MagFaceLoss(MarginLoss):
    """
    MagFace: the margin grows with the embedding's norm a, and a regulariser rewards long embeddings, so that the norm
    becomes the quality of the image. Meng et al., CVPR 2021 (arXiv:2103.06627):

        T = cos(theta + m(a)),  m(a) = l_margin + (u_margin - l_margin) (a - l_a) / (u_a - l_a)
        L = cross-entropy + lambda_g mean g(a),  g(a) = 1 / a + a / u_a^2

    Norms are clamped to [l_a, u_a] first, as in the authors' code (IrvingMeng/MagFace): beyond it they have no
    gradient. The defaults fit embeddings of dimension 512; shorter ones have smaller norms at the start.

    Args:
        num_classes, embedding_size, scale, sample_rate: See [`MarginLoss`].
        l_a, u_a: Least and greatest norm.
        l_margin, u_margin: Margins in radians at these norms.
        lambda_g: Weight of the regulariser.
        easy_margin: See [`add_angle_monotonic`]. Set in the authors' code; the paper does not speak of it.
    """

    unit_centres = needs_norms = True

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        scale: float = 64.0,
        l_a: float = 10.0,
        u_a: float = 110.0,
        l_margin: float = 0.45,
        u_margin: float = 0.8,
        lambda_g: float = 35.0,
        easy_margin: bool = True,
        sample_rate: float = 1.0,
    ):
        super().__init__(num_classes, embedding_size, scale, sample_rate)
        if not 0 < l_a < u_a:
            raise ValueError(f"0 < l_a < u_a does not hold for l_a={l_a}, u_a={u_a}")
        self.l_a, self.u_a, self.l_margin, self.u_margin = l_a, u_a, l_margin, u_margin
        self.lambda_g, self.easy_margin = lambda_g, easy_margin

    def margin_cosines(self, cosine: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        slope = (self.u_margin - self.l_margin) / (self.u_a - self.l_a)
        margin = self.l_margin + slope * (norms.clamp(self.l_a, self.u_a) - self.l_a)
        own = add_angle_monotonic(own_cosines(cosine, labels), margin, self.easy_margin)
        return replace_own(cosine, labels, own)

    def regularizer(self, norms: torch.Tensor) -> torch.Tensor:
        """Mean of g over the norms (N,), a scalar. It falls up to u_a."""
        norms = norms.clamp(self.l_a, self.u_a)
        return (1 / norms + norms / self.u_a**2).mean()

    def forward(
        self, embeddings: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """As [`MarginLoss.forward`]; the regulariser is in the sum."""
        cosine, labels, norms = self.cosines(embeddings, labels, generator)
        loss = F.cross_entropy(self.scale * self.margin_cosines(cosine, labels, norms), labels)
        return loss + self.lambda_g * self.regularizer(norms)


@dataclass
class CRFIQALossOutput:
    """
    Args:
        loss: recognition_loss + quality_weight * quality_loss, a scalar.
        recognition_loss: The ArcFace part, a scalar.
        quality_loss: The smooth L1 part, a scalar.
        targets: (N,) certainty ratios that the scores are drawn to, without gradient.
    """

    loss: torch.Tensor
    recognition_loss: torch.Tensor
    quality_loss: torch.Tensor
    targets: torch.Tensor


class CRFIQALoss(MarginLoss):
    """
    CR-FIQA: recognition by ArcFace, and a regression of how well the face could be classified. Boutros et al., CVPR
    2023 (arXiv:2112.06592). ViT-FIQA (Atzori et al., ICCVW 2025) has CosFace's margin in its place:

        CCS = cos(theta_y), the similarity to the own class centre; NNCCS = max over j != y of cos(theta_j)
        CR  = CCS / (NNCCS + 1 + eps)
        L   = ArcFace + quality_weight * smooth_L1(score, CR; beta)

    No gradient flows through CR. The ArcFace part is plain cos(theta + m) at all angles, as in the authors' code
    (fdbtrs/CR-FIQA).

    Args:
        num_classes, embedding_size, scale: See [`MarginLoss`]. All classes take part: a nearest negative among sampled
            ones would be another target.
        margin: m of ArcFace in radians.
        cosine_margin: What is taken from the own cosine besides, as CosFace does with `margin=0`; 0.4 in ViT-FIQA.
        quality_weight: lambda of the paper (10).
        beta: Where the smooth L1 turns from a square into a line.
        certainty_ratio: `"paper"` as above, or `"official"`: the authors' code divides by NNCCS alone, which it keeps
            from falling below -1e-12.
    """

    eps = 1e-9

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        scale: float = 64.0,
        margin: float = 0.5,
        quality_weight: float = 10.0,
        beta: float = 0.5,
        certainty_ratio: str = "paper",
        cosine_margin: float = 0.0,
    ):
        super().__init__(num_classes, embedding_size, scale)
        if certainty_ratio not in ("paper", "official"):
            raise ValueError(f"certainty_ratio is 'paper' or 'official', not {certainty_ratio!r}")
        self.margin, self.quality_weight, self.beta = margin, quality_weight, beta
        self.cosine_margin = cosine_margin
        self.certainty_ratio = certainty_ratio

    def margin_cosines(self, cosine: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        own = own_cosines(cosine, labels)
        if self.margin:
            own = add_angle(own, self.margin)
        return replace_own(cosine, labels, own - self.cosine_margin)

    @torch.no_grad()
    def targets(self, cosine: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """CR (N,) of cosine similarities (N, C) and labels (N,)."""
        ccs = own_cosines(cosine, labels)
        official = self.certainty_ratio == "official"
        own = torch.full_like(ccs, -1e-12 if official else -math.inf)
        nnccs = replace_own(cosine, labels, own).amax(1)
        # 1 and eps one after the other: in float32 their sum is 1.
        return ccs / (nnccs if official else nnccs + 1 + self.eps)

    # It needs what no other margin loss does, the scores, and says what the parts of its sum are.
    def forward(  # type: ignore[override]
        self, embeddings: torch.Tensor, labels: torch.Tensor, scores: torch.Tensor
    ) -> CRFIQALossOutput:
        """
        Args:
            embeddings: (N, D), not normalised.
            labels: (N,) whole numbers from 0 to C - 1.
            scores: (N,) what the quality head makes of the faces.

        Raises:
            ValueError: As [`MarginLoss.forward`], or the scores are not one for each embedding.
        """
        if scores.shape != labels.shape:
            raise ValueError(f"scores have the shape of labels, {tuple(labels.shape)}, got {tuple(scores.shape)}")
        cosine, labels, norms = self.cosines(embeddings, labels)
        recognition = F.cross_entropy(self.scale * self.margin_cosines(cosine, labels, norms), labels)
        targets = self.targets(cosine, labels)
        quality = F.smooth_l1_loss(scores.to(targets.dtype), targets, beta=self.beta)
        return CRFIQALossOutput(recognition + self.quality_weight * quality, recognition, quality, targets)


__all__ = ["CRFIQALoss", "CRFIQALossOutput", "MagFaceLoss"]
