# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the losses share: class centres, cosines to them, and a margin on the sample's own."""

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


def own_cosines(cosine: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cosine.gather(1, labels[:, None])[:, 0]


def replace_own(cosine: torch.Tensor, labels: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    return cosine.scatter(1, labels[:, None], own[:, None])


__all__ = [
    "MarginLoss",
    "UNIT",
    "add_angle",
    "add_angle_monotonic",
    "mean_and_deviation",
    "own_cosines",
    "replace_own",
    "sample_classes",
]
