# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
FaceQAN: Babnik, Peer and Štruc, "FaceQAN: Face Image Quality Assessment Through Adversarial Noise Exploration", ICPR
2022 (https://github.com/LSIbabnikz/FaceQAN).
"""

import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from ..image_processing_face import FaceImageProcessor
from .cards import MethodCard
from .network_method import NetworkMethod


class FaceQAN(NetworkMethod):
    r"""
    How little adversarial noise moves the embedding.

    From k copies of the face with uniform noise, l steps of the basic iterative method are taken against the cosine
    similarity to the face. With S the l k similarities on the way, the score is

    $$\left(\frac{1 + \bar S}{2} \cdot \mathrm{clip}(1 - \sigma_S, 0, 1) \cdot \cos(f(x), f(x^f))\right)^p$$

    Args:
        eps (`float`, *optional*, defaults to 0.001): Bound of the noise and length of a step, pixels being in [0, 1].
        num_steps (`int`, *optional*, defaults to 5): l.
        num_starts (`int`, *optional*, defaults to 10): k.
        exponent (`int`, *optional*, defaults to 5): p.
        clip (`tuple[float, float]`, *optional*, defaults to `(0.0, 1.0)`): Where noisy pixels are kept. The authors'
            code has (-1, 1).
    """

    # Times num_starts copies.
    cpu_batch_size = 4
    accelerator_batch_size = 32
    needs_gradients = True

    def __init__(
        self,
        card: MethodCard,
        model: nn.Module,
        image_processor: FaceImageProcessor | None = None,
        eps: float = 0.001,
        num_steps: int = 5,
        num_starts: int = 10,
        exponent: int = 5,
        clip: tuple[float, float] = (0.0, 1.0),
    ):
        super().__init__(card, model, image_processor)
        for name, value in (("num_steps", num_steps), ("num_starts", num_starts), ("exponent", exponent)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} has to be a positive integer, got {value!r}")
        if not 0 < eps < 1:
            raise ValueError(f"eps has to lie between 0 and 1, got {eps!r}")
        self.eps = eps
        self.num_steps = num_steps
        self.num_starts = num_starts
        self.exponent = exponent
        self.clip = clip

    def raw_scores(self, faces: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        # Canonical faces have twice the scale of pixels in [0, 1].
        step = 2 * self.eps
        low, high = (2 * bound - 1 for bound in self.clip)
        noise = torch.stack([self._noise(face, seed) for face in faces])
        copies = (faces[:, None] + step * noise).clamp(low, high).flatten(0, 1).to(self.device)
        faces = faces.to(self.device)
        with torch.no_grad():
            clean, mirrored = self.embed(torch.cat([faces, faces.flip(-1)])).chunk(2)
        symmetry = cosine_similarity(clean, mirrored)
        reference = clean.repeat_interleave(self.num_starts, 0)
        similarities = []
        for i in range(self.num_steps):
            last = i == self.num_steps - 1  # where it would step to is not looked at
            copies.requires_grad_(not last)
            with torch.set_grad_enabled(not last):
                similarity = cosine_similarity(reference, self.embed(copies))
            similarities.append(similarity.detach())
            if not last:
                # A row's similarity depends on that row alone, so the gradient of the sum holds those of all.
                (gradient,) = torch.autograd.grad(similarity.sum(), copies)
                copies = (copies.detach() - step * gradient.sign()).clamp(low, high)
        similarities = torch.stack(similarities, 1).unflatten(0, (len(faces), self.num_starts)).flatten(1).double()
        mean, std = similarities.mean(1), similarities.std(1, correction=0)
        symmetry = symmetry.double()
        scores = ((1 + mean) / 2 * (1 - std).clamp(0, 1) * symmetry) ** self.exponent
        return scores, {"mean_similarity": mean, "std_similarity": std, "symmetry": symmetry}

    def _noise(self, face: torch.Tensor, seed: int) -> torch.Tensor:
        """Uniform in [-1, 1], `(num_starts, 3, H, W)`, made of the seed and the pixels."""
        return torch.rand((self.num_starts, *face.shape), generator=self.generator(face, seed)) * 2 - 1


__all__ = ["FaceQAN"]
