# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
PreFIQs: Kolf, Ozgur, Atzori, Babnik, Štruc, Damer and Boutros, "PreFIQs: Face Image Quality Is What Survives Pruning",
CVPRW 2026 (arXiv:2605.13396).
"""

import copy

import torch
from torch import nn
from torch.nn.utils import prune

from ..image_processing_face import FaceImageProcessor
from ..inference.folding import fold
from ..inference.network_views import is_offloaded, output_of, uncompiled
from .cards import MethodCard
from .network_method import NetworkMethod


class PreFIQs(NetworkMethod):
    r"""
    How little the embedding moves when the smallest weights of the FR model are set to zero.

    With f the unit embedding and g that of the pruned model, the score is

    $$1 - \tfrac12 \lVert f(x) - g(x) \rVert_2$$

    Args:
        sparsity (`float`, *optional*, defaults to 0.4): Part of the weights of convolutions and linear layers that is
            set to zero: those with the smallest absolute values.
        scope (`str`, *optional*, defaults to `"network"`): Whether the smallest are those of the whole `"network"`, or
            each `"layer"` loses that part of its own.
    """

    needs_layers = True  # the weights of a folded model are others

    def __init__(
        self,
        card: MethodCard,
        model: nn.Module,
        image_processor: FaceImageProcessor | None = None,
        sparsity: float = 0.4,
        scope: str = "network",
    ):
        super().__init__(card, model, image_processor)
        if not 0 < sparsity < 1:
            raise ValueError(f"sparsity has to lie between 0 and 1, got {sparsity!r}")
        if scope not in ("network", "layer"):
            raise ValueError(f"scope is 'network' or 'layer', not {scope!r}")
        if is_offloaded(model):
            raise ValueError(
                "prefiqs makes a pruned copy of the FR model, which an offloaded one has not in one place"
            )
        self.sparsity, self.scope = sparsity, scope
        self.pruned = pruned_copy(model, sparsity, scope)

    @torch.no_grad()
    def raw_scores(self, faces: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        faces = faces.to(self.device)
        whole, pruned = (
            nn.functional.normalize(output_of(network, faces, "embeddings").float())
            for network in (self.network, self.pruned)
        )
        return 1 - torch.linalg.vector_norm(whole - pruned, dim=1) / 2, {}

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> "PreFIQs":
        """Moves both networks."""
        self.pruned.to(device=device, dtype=dtype)
        super().to(device, dtype)
        return self

    def enable_folding(self, winograd: bool = False) -> None:
        """As for other methods, of both networks: they were pruned before."""
        with self._same_weights():
            self.model, self.pruned = fold(self.model, winograd), fold(self.pruned, winograd)


def pruned_copy(model: nn.Module, sparsity: float, scope: str = "network") -> nn.Module:
    """
    A copy in evaluation mode whose convolutions and linear layers have lost the part `sparsity` of their weights (not
    of the biases), those of the smallest absolute value: of all together, or with `scope="layer"` of each layer.
    """
    copied = copy.deepcopy(uncompiled(model)).eval().requires_grad_(False)
    layers = [(module, "weight") for module in copied.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    if scope == "layer":
        for layer, name in layers:
            prune.l1_unstructured(layer, name, amount=sparsity)
    else:
        prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=sparsity)
    for layer, name in layers:
        prune.remove(layer, name)
    return copied.requires_grad_(False)


__all__ = ["PreFIQs", "pruned_copy"]
