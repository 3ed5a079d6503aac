# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
FaceQgen's losses. Hernandez-Ortega, Fierrez, Serna and Morales, FG 2021, train a generator to give the person's image
of high quality, against a discriminator. What their paper says of the losses was not at hand: these are those of
pix2pix (Isola et al., CVPR 2017), whose networks [`FaceQgenForFaceQuality`] has.
"""

import torch
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss

from ...models.faceqgen import FaceQgenForFaceQuality


def restoration_losses(
    model: FaceQgenForFaceQuality, faces: torch.Tensor, targets: torch.Tensor
) -> dict[str, torch.Tensor]:
    """
    The three losses of a step; each moves its own network, so that they can be added and have one backward pass.

    Args:
        model: In training mode.
        faces: (N, 3, H, W) canonical faces.
        targets: (N, 3, H, W), of each person the image of high quality.

    Returns:
        `"pixel"`, the mean absolute difference of the restored face and the target; `"adversarial"`, how far the
        restored face is from passing for genuine (both of the generator); `"discriminator"`, how far the two are from
        being told apart, half the sum of the cross-entropies.
    """
    faces, targets = model.prepare_faces(faces), model.prepare_faces(targets)
    restored = model.generator(faces)
    # The discriminator as it is, without a gradient of its own.
    frozen = {name: value.detach() for name, value in model.discriminator.state_dict(keep_vars=True).items()}
    fooled = functional_call(model.discriminator, frozen, (restored,))
    genuine, made = model.discriminator(targets), model.discriminator(restored.detach())
    told = [
        binary_cross_entropy_with_logits(genuine, torch.ones_like(genuine)),
        binary_cross_entropy_with_logits(made, torch.zeros_like(made)),
    ]
    return {
        "pixel": l1_loss(restored, targets),
        "adversarial": binary_cross_entropy_with_logits(fooled, torch.ones_like(fooled)),
        "discriminator": sum(told) / 2,
    }


__all__ = ["restoration_losses"]
