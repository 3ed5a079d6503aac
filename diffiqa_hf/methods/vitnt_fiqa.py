# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
ViTNT-FIQA: Ozgur, Caldeira, Chettaoui, Kolf, Huber, Damer and Boutros, "ViTNT-FIQA: Training-Free Face Image Quality
Assessment with Vision Transformers", WACVW 2026 (https://github.com/gurayozgur/ViTNT-FIQA).
"""

import torch
from torch import nn

from ..image_processing_face import FaceImageProcessor
from ..inference.network_views import removed, uncompiled
from ..models import FaceViTModel
from .cards import MethodCard
from .network_method import NetworkMethod


class ViTNTFIQA(NetworkMethod):
    r"""
    How little the tokens of a face's patches turn from block to block of a [`FaceViTModel`].

    After each of T blocks the tokens go through the network's last normalisation and are scaled to unit length. With
    d_p the mean distance of the patch p between one block and the next, the score is

    $$\sum_p w_p \frac{2}{1 + e^{s d_p}}$$

    Args:
        num_blocks (`int`, *optional*): T, the first blocks of the network, 2 at least; all when not given.
        attention_weights (`bool`, *optional*, defaults to `False`): Whether w_p is how much attention a patch gets
            from all tokens, averaged over the heads of the T-th block, and not the same for all patches.
        scaling (`float`, *optional*, defaults to 8.0): s.
    """

    cpu_batch_size = 32
    needs_layers = True

    def __init__(
        self,
        card: MethodCard,
        model: nn.Module,
        image_processor: FaceImageProcessor | None = None,
        num_blocks: int | None = None,
        attention_weights: bool = False,
        scaling: float = 8.0,
    ):
        super().__init__(card, model, image_processor)
        model = uncompiled(model)
        if not isinstance(model, FaceViTModel):
            raise ValueError(
                f"vitnt-fiqa looks into the blocks of a vision transformer: the FR model has to be a FaceViTModel, "
                f"this is a {type(model).__name__}"
            )
        count = len(model.blocks) if num_blocks is None else num_blocks
        if not isinstance(count, int) or not 2 <= count <= len(model.blocks):
            raise ValueError(f"num_blocks has to be an integer from 2 to {len(model.blocks)}, got {num_blocks!r}")
        if not scaling > 0:
            raise ValueError(f"scaling has to be positive, got {scaling!r}")
        self.num_blocks, self.attention_weights, self.scaling = count, attention_weights, scaling

    @torch.no_grad()
    def raw_scores(self, faces: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        network = self.layered_network()
        first = int(network.config.quality_token)  # of the patches
        directions: list[torch.Tensor] = []
        weights: list[torch.Tensor] = []

        def keep(block: nn.Module, args: tuple, tokens: torch.Tensor) -> None:
            directions.append(nn.functional.normalize(network.norm(tokens[:, first:]).float(), dim=-1))

        def weigh(attention: nn.Module, args: tuple) -> None:
            received = attention.weights(*args).float().mean(1).sum(1)[:, first:]
            weights.append(received / received.sum(1, keepdim=True))

        blocks = network.blocks[: self.num_blocks]
        handles = [block.register_forward_hook(keep) for block in blocks]
        if self.attention_weights:
            handles.append(blocks[-1].attention.register_forward_pre_hook(weigh))
        with removed(handles):
            network(faces.to(self.device))
        steps = [torch.linalg.vector_norm(b - a, dim=-1) for a, b in zip(directions[:-1], directions[1:], strict=True)]
        distances = torch.stack(steps).mean(0)  # (faces, patches)
        qualities = 2 * torch.sigmoid(-self.scaling * distances)
        scores = (qualities * weights[0]).sum(1) if weights else qualities.mean(1)
        return scores, {"distance": distances.mean(1)}


__all__ = ["ViTNTFIQA"]
