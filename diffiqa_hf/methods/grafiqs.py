# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
GraFIQs: Kolf, Damer and Boutros, "GraFIQs: Face Image Quality Assessment Using Gradient Magnitudes", CVPRW 2024
(https://github.com/jankolf/GraFIQs).
"""

import torch
from torch import nn

from ..image_processing_face import FaceImageProcessor
from ..inference.network_views import removed, uncompiled
from .cards import MethodCard
from .network_method import NetworkMethod


class GraFIQs(NetworkMethod):
    r"""
    How hard the FR model would have to be pulled for the image to look like its training data.

    For each batch normalisation the mean and the (population) variance of its input over the image are compared with
    the running ones,

    $$L = \frac{1}{|N|} \sum_{n \in N} \frac{1}{C_n} \sum_{c} (\mu_{nc} - \hat\mu_{nc})^2
    + (\sigma^2_{nc} - \hat\sigma^2_{nc})^2$$

    and the method's own number is the sum of the absolute values of the gradient of L. Lower is better, so the score
    is the negative of it.

    Args:
        layer (`str`, *optional*, defaults to `"image"`): Where the gradient is taken: at the pixels, or at the output
            of the module of that name. `"layer1"` to `"layer4"` of an [`IResNetModel`] are the authors' four blocks.
    """

    needs_layers = True

    def __init__(
        self,
        card: MethodCard,
        model: nn.Module,
        image_processor: FaceImageProcessor | None = None,
        layer: str = "image",
    ):
        super().__init__(card, model, image_processor)
        model = uncompiled(model)
        if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
            raise ValueError(f"{type(model).__name__} has no batch normalisation to compare with")
        if layer != "image" and layer not in dict(model.named_modules()):
            raise ValueError(f"{type(model).__name__} has no module {layer!r}")
        self.layer = None if layer == "image" else layer

    def raw_scores(self, faces: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        losses: list[torch.Tensor] = []
        outputs: list[torch.Tensor] = []

        def compare(module: nn.BatchNorm2d, args: tuple[torch.Tensor, ...]) -> None:
            # For each image by itself: (B,). By torch.var_mean, not vectorised on a CPU, it takes ten times as long.
            hidden_states = args[0].float()
            mean = hidden_states.mean((2, 3), keepdim=True)
            var = (hidden_states - mean).square().mean((2, 3))
            difference = (mean.flatten(1) - module.running_mean) ** 2 + (var - module.running_var) ** 2
            losses.append(difference.mean(1))

        network = self.layered_network()
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        handles = [norm.register_forward_pre_hook(compare) for norm in norms]
        if self.layer is not None:
            layer = network.get_submodule(self.layer)
            handles.append(layer.register_forward_hook(lambda module, args, output: outputs.append(output)))
        with removed(handles), torch.enable_grad():
            faces = faces.detach().to(self.device).requires_grad_()
            network(faces)
        point = faces if self.layer is None else outputs[0]
        # In evaluation mode no image's loss depends on the others, so the gradient of the sum holds those of all.
        (gradient,) = torch.autograd.grad(torch.stack(losses).mean(0).sum(), point)
        return gradient.float().abs().flatten(1).sum(1), {}


__all__ = ["GraFIQs"]
