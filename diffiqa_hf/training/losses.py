# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What goes into the losses of the training scripts."""

import torch

from ..models.modeling_face import FaceEmbeddingOutput


def long_embeddings(output: FaceEmbeddingOutput) -> torch.Tensor:
    """
    The embeddings (N, D) float32 of an FR model as long as the network makes them, also where its configuration says
    `normalize_embedding`: what AdaFace and MagFace learn from is their length.
    """
    if output.embeddings is None:
        raise ValueError("the FR model has given no embeddings")
    embeddings = output.embeddings.float()
    return embeddings if output.norms is None else embeddings * output.norms.float()[:, None]
