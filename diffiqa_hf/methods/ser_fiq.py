# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
SER-FIQ: Terhörst et al., "SER-FIQ: Unsupervised Estimation of Face Image Quality Based on Stochastic Embedding
Robustness", CVPR 2020 (https://github.com/pterhoer/FaceImageQuality), its same-model variant.
"""

import torch
from torch import nn
from torch.nn.functional import normalize

from ..image_processing_face import FaceImageProcessor
from ..inference.network_views import output_of, removed, uncompiled
from .cards import MethodCard
from .network_method import NetworkMethod


class SERFIQ(NetworkMethod):
    r"""
    How little dropout moves the embedding.

    With x_1, ..., x_T the unit embeddings of a face, each with other values dropped before the last layer, the score
    is

    $$2 \sigma\Big(-\frac{2}{T (T - 1)} \sum_{i < j} \lVert x_i - x_j \rVert_2\Big)$$

    Values are dropped where the FR model has its last dropout module, or before its last linear layer if it has none.
    Whole channels are dropped where that module does so. The FR model stays in evaluation mode.

    Args:
        num_passes (`int`, *optional*, defaults to 100): T.
        dropout (`float`, *optional*, defaults to 0.5): Probability that a value is dropped.
        rescale (`bool`, *optional*, defaults to `False`): Whether the score s becomes sigmoid(130 (s - 0.88)), the
            authors' stretching for their network.
        layer (`str`, *optional*): Name of the module of the FR model whose input is dropped from.
    """

    # Times num_passes copies, from the dropout on.
    cpu_batch_size = 8
    accelerator_batch_size = 32
    needs_layers = True

    def __init__(
        self,
        card: MethodCard,
        model: nn.Module,
        image_processor: FaceImageProcessor | None = None,
        num_passes: int = 100,
        dropout: float = 0.5,
        rescale: bool = False,
        layer: str | None = None,
    ):
        super().__init__(card, model, image_processor)
        if not isinstance(num_passes, int) or num_passes < 2:
            raise ValueError(f"num_passes has to be an integer of at least 2, got {num_passes!r}")
        if not 0 < dropout < 1:
            raise ValueError(f"dropout has to lie between 0 and 1, got {dropout!r}")
        self.num_passes = num_passes
        self.dropout = dropout
        self.rescale = rescale
        model = uncompiled(model)
        if layer is not None and layer not in dict(model.named_modules()):
            raise ValueError(f"{type(model).__name__} has no module {layer!r}")
        self.layer = _find_layer(model) if layer is None else layer

    @torch.no_grad()
    def raw_scores(self, faces: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        def drop(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            # Here one row a face becomes one a pass: what comes before runs once for each face.
            hidden_states = args[0]
            shape = hidden_states.shape[1:]
            if isinstance(module, nn.Dropout2d):
                shape = (shape[0], 1, 1)
            kept = torch.stack([self._kept(face, seed, shape) for face in faces]).to(hidden_states)
            return (((hidden_states / (1 - self.dropout))[:, None] * kept).flatten(0, 1),)

        network = self.layered_network()
        with removed([network.get_submodule(self.layer).register_forward_pre_hook(drop)]):
            embeddings = output_of(network, faces.to(self.device), "embeddings").float()
        embeddings = normalize(embeddings).unflatten(0, (len(faces), self.num_passes))
        # Each pair once, and not by matrix products, where distances so small would drown in rounding.
        distances = torch.stack([torch.pdist(passes).double().mean() for passes in embeddings])
        scores = 2 * torch.sigmoid(-distances)
        if self.rescale:
            scores = torch.sigmoid(130 * (scores - 0.88))
        return scores, {}

    def _kept(self, face: torch.Tensor, seed: int, shape: tuple[int, ...]) -> torch.Tensor:
        """1 for the values that stay in each pass, else 0, `(num_passes, *shape)`, made of the seed and the pixels."""
        return torch.rand((self.num_passes, *shape), generator=self.generator(face, seed)).ge_(self.dropout)


def _find_layer(model: nn.Module) -> str:
    for kinds in ((nn.Dropout, nn.Dropout2d), (nn.Linear,)):
        if found := [name for name, module in model.named_modules() if isinstance(module, kinds)]:
            return found[-1]
    raise ValueError(f"{type(model).__name__} has neither dropout nor a linear layer: `layer` says where")


__all__ = ["SERFIQ"]
