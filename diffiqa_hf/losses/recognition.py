# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Margin losses of face recognition."""

import math

import torch

from .margin import MarginLoss, add_angle, add_angle_monotonic, mean_and_deviation, own_cosines, replace_own


class ArcFaceLoss(MarginLoss):
    """
    ArcFace: an additive angular margin, T = cos(theta + m). Deng et al., CVPR 2019 (arXiv:1801.07698).

    Args:
        num_classes, embedding_size, scale, sample_rate: See [`MarginLoss`].
        margin: m in radians (the paper's 0.5).
        easy_margin: See [`add_angle_monotonic`], whose replacement for angles beyond pi - m is not in the paper but in
            the authors' code.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        scale: float = 64.0,
        margin: float = 0.5,
        easy_margin: bool = False,
        sample_rate: float = 1.0,
    ):
        super().__init__(num_classes, embedding_size, scale, sample_rate)
        self.margin, self.easy_margin = margin, easy_margin

    def margin_cosines(self, cosine: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        own = add_angle_monotonic(own_cosines(cosine, labels), self.margin, self.easy_margin)
        return replace_own(cosine, labels, own)


class CosFaceLoss(MarginLoss):
    """
    CosFace: an additive cosine margin, T = cos(theta) - m. Wang et al., CVPR 2018 (arXiv:1801.09414).

    Args:
        num_classes, embedding_size, scale, sample_rate: See [`MarginLoss`].
        margin: m. The paper trains with 0.35; insightface's published CosFace models with 0.4.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        scale: float = 64.0,
        margin: float = 0.35,
        sample_rate: float = 1.0,
    ):
        super().__init__(num_classes, embedding_size, scale, sample_rate)
        self.margin = margin

    def margin_cosines(self, cosine: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        return replace_own(cosine, labels, own_cosines(cosine, labels) - self.margin)


class AdaFaceLoss(MarginLoss):
    """
    AdaFace: the margin follows the embedding's norm, a proxy of image quality. Kim et al., CVPR 2022
    (arXiv:2204.00964):

        z = clip(h (norm - mean) / (std + eps), -1, 1)
        T = cos(theta - m z) - (m + m z)

    mean and std are exponential averages over the batches, and no gradient flows through z. The clips are those of the
    authors' code (mk-minchul/AdaFace, head.py): norms to [0.001, 100], cosines to [-1 + eps, 1 - eps], the angle with
    its margin to [eps, pi - eps], with eps = 1e-3.

    Args:
        num_classes, embedding_size, scale, sample_rate: See [`MarginLoss`].
        margin: m (the paper's 0.4).
        h: Concentration of z (the paper's 0.333).
        t_alpha: Weight of the new batch in the averages (the paper's 0.01). A batch of one face has no spread and
            leaves them as they are.

    The buffers `batch_mean` and `batch_std` begin at 20 and 100, as in the authors' code.
    """

    eps = 1e-3
    unit_centres = needs_norms = True

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        scale: float = 64.0,
        margin: float = 0.4,
        h: float = 0.333,
        t_alpha: float = 0.01,
        sample_rate: float = 1.0,
    ):
        super().__init__(num_classes, embedding_size, scale, sample_rate)
        self.margin, self.h, self.t_alpha = margin, h, t_alpha
        self.register_buffer("batch_mean", torch.tensor(20.0))
        self.register_buffer("batch_std", torch.tensor(100.0))

    def margin_cosines(self, cosine: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        norms = norms.detach().clamp(0.001, 100)
        if self.training:
            mean, deviation, count = mean_and_deviation(norms)
            if count > 1:
                self.batch_mean.lerp_(mean.to(self.batch_mean), self.t_alpha)
                self.batch_std.lerp_(deviation.to(self.batch_std), self.t_alpha)
        z = ((norms - self.batch_mean) / (self.batch_std + self.eps) * self.h).clamp(-1, 1)
        cosine = cosine.clamp(-1 + self.eps, 1 - self.eps)
        angle = (own_cosines(cosine, labels).acos() - self.margin * z).clamp(self.eps, math.pi - self.eps)
        return replace_own(cosine, labels, angle.cos() - self.margin * (1 + z))


class CurricularFaceLoss(MarginLoss):
    """
    CurricularFace: ArcFace that gives hard negatives more weight as training goes on. Huang et al., CVPR 2020
    (arXiv:2004.00288):

        T = cos(theta_y + m)
        N = cos(theta_j) if cos(theta_y + m) >= cos(theta_j), else cos(theta_j) (t + cos(theta_j))

    t is the exponential average of the batches' mean cos(theta_y), taken before it is used. Angles beyond pi - m: see
    [`add_angle_monotonic`]; hard is judged by cos(theta_y + m) all the same, as in the authors' code.

    Args:
        num_classes, embedding_size, scale, sample_rate: See [`MarginLoss`].
        margin: m in radians (the paper's 0.5).
        t_alpha: Weight of the new batch in t. The authors' code has 0.01; the paper gives 0.99 as the momentum.

    The buffer `t` begins at 0.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        scale: float = 64.0,
        margin: float = 0.5,
        t_alpha: float = 0.01,
        sample_rate: float = 1.0,
    ):
        super().__init__(num_classes, embedding_size, scale, sample_rate)
        self.margin, self.t_alpha = margin, t_alpha
        self.register_buffer("t", torch.tensor(0.0))

    def margin_cosines(self, cosine: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        own = own_cosines(cosine, labels)
        if self.training:
            self.t.lerp_(mean_and_deviation(own.detach())[0].to(self.t), self.t_alpha)
        hard = cosine > add_angle(own, self.margin)[:, None]
        cosine = torch.where(hard, cosine * (self.t + cosine), cosine)
        return replace_own(cosine, labels, add_angle_monotonic(own, self.margin))


__all__ = ["AdaFaceLoss", "ArcFaceLoss", "CosFaceLoss", "CurricularFaceLoss"]
