# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""A network and its loss, by the recipe of each method."""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ...losses import CRFIQALoss, MagFaceLoss
from ...models import FacePreTrainedModel
from ...models.pcnet import pair_loss
from ...models.pfe import mutual_likelihood_loss
from ..losses import long_embeddings
from .faceqgen import restoration_losses
from .lightqnet import QualityBranch, identification_quality_loss, quality_distillation_loss


class Recipe(nn.Module):
    """
    A network and its loss, with whatever else is trained.

    Args:
        args: Of the run.
        model: The network.
        fr_model: In evaluation mode; it is neither trained nor saved.
        people: (N,) int64, the person of each face.
        labels: (N,) float32, of the recipes that have labels.
        embeddings: (N, D) of the faces, where they were given.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        model: FacePreTrainedModel,
        fr_model: FacePreTrainedModel,
        people: torch.Tensor,
        labels: torch.Tensor | None,
        embeddings: np.ndarray | None = None,
    ):
        super().__init__()
        self.args, self.model, self.people = args, model, people
        self.labels, self.embeddings = labels, embeddings
        self.fr_model = (fr_model,)  # no submodule: a checkpoint is without it

    @torch.no_grad()
    def embed(self, faces: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        if self.embeddings is not None:
            return torch.from_numpy(self.embeddings[index.numpy()]).to(faces.device, torch.float32)
        return self.fr_model[0](faces).embeddings.float()

    def forward(self, faces: torch.Tensor, targets: torch.Tensor, index: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Args:
            faces: (B, 3, H, W), of the network's size.
            targets: (B, 3, H, W), their references or, where a recipe has none, the same faces for an FR model.
            index: (B,) positions of the faces, on the CPU.

        Returns:
            `"loss"` and, by name, what it is made of.
        """
        raise NotImplementedError


class SDDFIQARecipe(Recipe):
    def forward(self, faces, targets, index):
        scores = self.model(faces).scores.float()
        return {"loss": F.smooth_l1_loss(scores, self.labels[index].to(scores.device))}


class FaceQnetRecipe(Recipe):
    def __init__(self, args, model, *others):
        super().__init__(args, model, *others)
        if args.freeze_backbone:
            model.requires_grad_(False)
            model.dense.requires_grad_(True)

    def train(self, mode: bool = True):
        super().train(mode)
        if self.args.freeze_backbone:
            self.model.stem.eval()
            self.model.blocks.eval()
        return self

    def forward(self, faces, targets, index):
        scores = self.model(faces).scores.float()
        return {"loss": F.mse_loss(scores, self.labels[index].to(scores.device))}


class PCNetRecipe(Recipe):
    def forward(self, faces, targets, index):
        people = self.people[index].to(faces.device)
        return {"loss": pair_loss(self.model(faces).scores.float(), self.embed(targets, index), people)}


class LightQNetRecipe(Recipe):
    def __init__(self, args, model, fr_model, *others):
        super().__init__(args, model, fr_model, *others)
        self.branch = None
        if args.distillation_weight:
            self.branch = QualityBranch(last_layer(fr_model).in_features, args.branch_width)

    def forward(self, faces, targets, index):
        args, read = self.args, []
        handle = last_layer(self.fr_model[0]).register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
        try:
            embeddings = self.embed(targets, index)
        finally:
            handle.remove()
        labels = (embeddings, self.people[index].to(faces.device), args.idq_scale, args.idq_margin, args.idq_hard)
        scores = self.model(faces).scores
        parts = {"idq": identification_quality_loss(scores, *labels)}
        if self.branch is None:
            return {"loss": parts["idq"], **parts}
        taught = self.branch(read[0].float())
        parts["branch_idq"] = identification_quality_loss(taught, *labels)
        parts["distillation"] = quality_distillation_loss(scores, taught)
        loss = parts["idq"] + parts["branch_idq"] + args.distillation_weight * parts["distillation"]
        return {"loss": loss, **parts}


class PFERecipe(Recipe):
    def __init__(self, args, model, *others):
        super().__init__(args, model, *others)
        model.backbone.requires_grad_(False)

    def train(self, mode: bool = True):
        super().train(mode)
        self.model.backbone.eval()
        return self

    def forward(self, faces, targets, index):
        output = self.model(faces)
        people = self.people[index].to(faces.device)
        return {"loss": mutual_likelihood_loss(output.embeddings.float(), output.log_variances.float(), people)}


class MagFaceRecipe(Recipe):
    def __init__(self, args, model, fr_model, people, *others):
        super().__init__(args, model, fr_model, people, *others)
        self.criterion = MagFaceLoss(int(people.max()) + 1, model.config.embedding_size, **args.loss_arguments)

    def forward(self, faces, targets, index):
        output = self.model(faces)
        embeddings = long_embeddings(output)
        loss = self.criterion(embeddings, self.people[index].to(faces.device))
        return {"loss": loss, "norm": embeddings.detach().norm(dim=1).mean()}


class CRFIQARecipe(Recipe):
    margins: dict[str, float] = {}

    def __init__(self, args, model, fr_model, people, *others):
        super().__init__(args, model, fr_model, people, *others)
        arguments = {**self.margins, **args.loss_arguments}
        self.criterion = CRFIQALoss(int(people.max()) + 1, model.config.embedding_size, **arguments)

    def forward(self, faces, targets, index):
        output = self.model(faces)
        found = self.criterion(output.embeddings, self.people[index].to(faces.device), output.scores)
        return {"loss": found.loss, "recognition": found.recognition_loss, "quality": found.quality_loss}


class ViTFIQARecipe(CRFIQARecipe):
    margins = {"margin": 0.0, "cosine_margin": 0.4}


class FaceQgenRecipe(Recipe):
    def forward(self, faces, targets, index):
        parts = restoration_losses(self.model, faces, targets)
        generator = self.args.pixel_weight * parts["pixel"] + self.args.adversarial_weight * parts["adversarial"]
        return {"loss": generator + parts["discriminator"], **parts}


RECIPES = {
    "sdd-fiqa": SDDFIQARecipe,
    "pcnet": PCNetRecipe,
    "lightqnet": LightQNetRecipe,
    "pfe": PFERecipe,
    "magface": MagFaceRecipe,
    "cr-fiqa": CRFIQARecipe,
    "vit-fiqa": ViTFIQARecipe,
    "faceqnet": FaceQnetRecipe,
    "faceqgen": FaceQgenRecipe,
}
PAIR_RECIPES = ("pcnet", "lightqnet", "pfe")


def last_layer(fr_model: FacePreTrainedModel) -> nn.Linear:
    """The linear layer that makes the embedding."""
    return [module for module in fr_model.modules() if isinstance(module, nn.Linear)][-1]


__all__ = ["PAIR_RECIPES", "RECIPES", "Recipe"]
