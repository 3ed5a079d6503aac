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

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


UNIT = 1e-3  # how near 1 the lengths of a whole batch are by rounding, in half precision too, and never by chance


def sample_classes(
    labels: torch.Tensor, num_classes: int, sample_rate: float, generator: torch.Generator | None = None
) -> torch.Tensor:
    """
    The classes that one step of training compares with: those of the batch, and random others up to a fixed fraction.

    Partial FC, An et al., CVPR 2022 (https://arxiv.org/abs/2203.15565).

    Args:
        labels: (N,) classes of the batch, from 0 to `num_classes` - 1.
        num_classes: Number of all classes.
        sample_rate: Fraction of the classes to choose, in (0, 1]. If the batch has more classes than that, they alone
            are chosen.
        generator: Where the random classes come from (default: torch's own generator of the device of `labels`).

    Returns:
        (K,) int64: the chosen classes in ascending order, on the device of `labels`.
    """
    positives = labels.unique()
    count = max(round(sample_rate * num_classes), len(positives))
    device = labels.device if generator is None else generator.device
    priority = torch.rand(num_classes, generator=generator, device=device).to(labels.device)
    priority[positives] = 2.0  # above all random ones
    return priority.topk(count).indices.sort().values


def add_angle(cosine: torch.Tensor, margin: float | torch.Tensor) -> torch.Tensor:
    """
    cos(theta + margin) from cos(theta), exact and with a finite gradient at -1 and 1 too.

    cos(theta) cos(m) - sin(theta) sin(m) needs no arc cosine; where sin(theta) is 0 it is taken as a constant, because
    the square root has no derivative there.
    """
    if not isinstance(margin, torch.Tensor):
        margin = cosine.new_full((), margin)
    square = 1 - cosine.square()
    positive = square > 0
    sine = torch.where(positive, square.where(positive, 1.0).sqrt(), 0.0)
    return cosine * margin.cos() - sine * margin.sin()


def add_angle_monotonic(cosine: torch.Tensor, margin: float | torch.Tensor, easy_margin: bool = False) -> torch.Tensor:
    """
    cos(theta + m) as the authors of ArcFace, CurricularFace and MagFace implement it: where theta + m is beyond pi the
    cosine would rise again, and cos(theta) - m sin(m) takes its place. With `easy_margin` there is a margin only where
    cos(theta) > 0, and cos(theta) elsewhere.
    """
    with_margin = add_angle(cosine, margin)
    if easy_margin:
        return torch.where(cosine > 0, with_margin, cosine)
    if not isinstance(margin, torch.Tensor):
        margin = cosine.new_full((), margin)
    return torch.where(cosine > -margin.cos(), with_margin, cosine - margin * margin.sin())


class MarginLoss(nn.Module):
    """
    Base of the losses: class centres, sampling of classes, cosine similarities. A subclass gives `margin_cosines`.

    Args:
        num_classes: Number C of people.
        embedding_size: Dimension D of the embeddings.
        scale: s, the factor of the cosines before the softmax.
        sample_rate: Fraction of the classes that a training step compares with, in (0, 1]; see [`sample_classes`].
            In evaluation mode all classes take part. Weight decay and the momentum of an optimizer still move the
            centres that were not chosen, but only the chosen ones have a gradient.

    `weight`, of shape (C, D), holds the class centres; only their directions count. Their lengths at the start say how
    far a first step turns them: N(0, 0.01^2) as in insightface's ArcFace and CosFace and in CurricularFace's and
    CR-FIQA's code, or, with `unit_centres`, uniform numbers scaled to unit length as in AdaFace's and MagFace's.
    """

    unit_centres = False
    needs_norms = False  # of the embeddings, which unit ones do not have

    def __init__(self, num_classes: int, embedding_size: int, scale: float = 64.0, sample_rate: float = 1.0):
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"a margin loss tells at least 2 classes apart, got num_classes={num_classes}")
        if not 0 < sample_rate <= 1:
            raise ValueError(f"sample_rate is a fraction in (0, 1], not {sample_rate}")
        self.scale, self.sample_rate = scale, sample_rate
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_size))
        self.reset_centres()

    @torch.no_grad()
    def reset_centres(self) -> None:
        """Draws the class centres anew."""
        if self.unit_centres:
            nn.init.uniform_(self.weight, -1, 1)
            self.weight /= self.weight.norm(dim=1, keepdim=True)
        else:
            nn.init.normal_(self.weight, std=0.01)

    def cosines(
        self, embeddings: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Cosine similarities (N, K) to the class centres that take part, the columns (N,) of the embeddings' own
        classes, and the norms (N,) of the embeddings. The arguments are those of `forward`.
        """
        num_classes, size = self.weight.shape
        if embeddings.ndim != 2 or embeddings.shape[1] != size:
            raise ValueError(f"embeddings have the shape (N, {size}), got {tuple(embeddings.shape)}")
        if labels.shape != embeddings.shape[:1] or labels.is_floating_point():
            raise ValueError(f"labels are {len(embeddings)} whole numbers, got {tuple(labels.shape)} {labels.dtype}")
        if not len(labels):
            raise ValueError("the batch is empty")
        if labels.min() < 0 or labels.max() >= num_classes:
            raise ValueError(f"labels are from 0 to {num_classes - 1}, got {labels.min()} to {labels.max()}")
        labels, centres = labels.long(), self.weight
        if self.training and self.sample_rate < 1:
            classes = sample_classes(labels, num_classes, self.sample_rate, generator)
            centres, labels = centres.index_select(0, classes), torch.searchsorted(classes, labels)
        dtype = torch.promote_types(torch.promote_types(embeddings.dtype, centres.dtype), torch.float32)
        embeddings, centres = embeddings.to(dtype), centres.to(dtype)
        with torch.autocast(embeddings.device.type, enabled=False):
            cosine = F.linear(F.normalize(embeddings), F.normalize(centres)).clamp(-1, 1)
        norms = embeddings.norm(dim=1)
        if self.training and self.needs_norms and (norms.detach() - 1).abs().max() < UNIT:
            raise ValueError(
                f"{type(self).__name__} learns from the lengths of the embeddings, and these are all 1: of a model "
                "with `normalize_embedding` it takes `embeddings * norms[:, None]`"
            )
        return cosine, labels, norms

    def margin_cosines(self, cosine: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        """T and N of the head of this file: (N, K) from what `cosines` gives."""
        raise NotImplementedError

    def forward(
        self, embeddings: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """
        Args:
            embeddings: (N, D), not normalised. float16 and bfloat16 are taken to float32.
            labels: (N,) whole numbers from 0 to C - 1, the class of each embedding.
            generator: Where the sampled classes come from; one that is seeded for the step makes a run repeat.

        Returns:
            The loss, a scalar, the mean over the batch.

        Raises:
            ValueError: The shapes or the labels do not fit, or the batch is empty.
        """
        cosine, labels, norms = self.cosines(embeddings, labels, generator)
        return F.cross_entropy(self.scale * self.margin_cosines(cosine, labels, norms), labels)


def mean_and_deviation(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """
    Over the batches of all processes that train together: mean and standard deviation (with Bessel's correction; NaN
    of a single value) of values (N,), and how many there are.
    """
    values = values.double() if values.device.type != "mps" else values
    sums = torch.stack([values.sum(), values.new_tensor(len(values))])
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    if together:
        torch.distributed.all_reduce(sums)
    mean = sums[0] / sums[1]
    squares = (values - mean).square().sum()
    if together:
        torch.distributed.all_reduce(squares)
    return mean, (squares / (sums[1] - 1)).sqrt(), int(sums[1])


def _own(cosine: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cosine.gather(1, labels[:, None])[:, 0]


def _replace_own(cosine: torch.Tensor, labels: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    return cosine.scatter(1, labels[:, None], own[:, None])


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
        own = add_angle_monotonic(_own(cosine, labels), self.margin, self.easy_margin)
        return _replace_own(cosine, labels, own)


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
        return _replace_own(cosine, labels, _own(cosine, labels) - self.margin)


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
        angle = (_own(cosine, labels).acos() - self.margin * z).clamp(self.eps, math.pi - self.eps)
        return _replace_own(cosine, labels, angle.cos() - self.margin * (1 + z))


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
        own = _own(cosine, labels)
        if self.training:
            self.t.lerp_(mean_and_deviation(own.detach())[0].to(self.t), self.t_alpha)
        hard = cosine > add_angle(own, self.margin)[:, None]
        cosine = torch.where(hard, cosine * (self.t + cosine), cosine)
        return _replace_own(cosine, labels, add_angle_monotonic(own, self.margin))


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
        own = add_angle_monotonic(_own(cosine, labels), margin, self.easy_margin)
        return _replace_own(cosine, labels, own)

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
    2023 (arXiv:2112.06592):

        CCS = cos(theta_y), the similarity to the own class centre; NNCCS = max over j != y of cos(theta_j)
        CR  = CCS / (NNCCS + 1 + eps)
        L   = ArcFace + quality_weight * smooth_L1(score, CR; beta)

    No gradient flows through CR. The ArcFace part is plain cos(theta + m) at all angles, as in the authors' code
    (fdbtrs/CR-FIQA).

    Args:
        num_classes, embedding_size, scale: See [`MarginLoss`]. All classes take part: a nearest negative among sampled
            ones would be another target.
        margin: m of ArcFace in radians.
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
    ):
        super().__init__(num_classes, embedding_size, scale)
        if certainty_ratio not in ("paper", "official"):
            raise ValueError(f"certainty_ratio is 'paper' or 'official', not {certainty_ratio!r}")
        self.margin, self.quality_weight, self.beta = margin, quality_weight, beta
        self.certainty_ratio = certainty_ratio

    def margin_cosines(self, cosine: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        return _replace_own(cosine, labels, add_angle(_own(cosine, labels), self.margin))

    @torch.no_grad()
    def targets(self, cosine: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """CR (N,) of cosine similarities (N, C) and labels (N,)."""
        ccs = _own(cosine, labels)
        official = self.certainty_ratio == "official"
        own = torch.full_like(ccs, -1e-12 if official else -math.inf)
        nnccs = _replace_own(cosine, labels, own).amax(1)
        # 1 and eps one after the other: in float32 their sum is 1.
        return ccs / (nnccs if official else nnccs + 1 + self.eps)

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor, scores: torch.Tensor) -> CRFIQALossOutput:
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
