# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the methods share whose networks torch runs."""

import logging
import os
from typing import Any

import numpy as np
import torch
from torch import nn

from ..conversion.networks import load_fr_model
from ..image_processing_face import FaceImageProcessor
from ..inference.folding import fold
from ..inference.network_views import for_inference, one_at_a_time, output_of, private_view
from ..pipeline_diffiqa import DifFIQAPipeline
from .cards import MethodCard
from .method import FaceQualityMethod


logger = logging.getLogger(__name__)


class NetworkMethod(FaceQualityMethod):
    """
    Base of the methods that compute with a network in torch: they give [`raw_scores`].

    Args:
        card ([`MethodCard`]): What there is to know of the method.
        model (`nn.Module`): Its network, or the FR model that it probes. It is put in evaluation mode.
        image_processor ([`FaceImageProcessor`], *optional*): Makes canonical faces from images.
    """

    accelerator_batch_size = 128
    # Whether it works inside of the FR model, where a folded one is another; and whether it takes gradients of it.
    needs_layers = False
    needs_gradients = False

    def __init__(self, card: MethodCard, model: nn.Module, image_processor: FaceImageProcessor | None = None):
        if self.needs_layers and getattr(model, "is_folded", False):
            raise ValueError(
                f"{card.name} looks into the FR model, whose layers fold() has joined: give it the model itself"
            )
        super().__init__(card, image_processor or FaceImageProcessor())
        self.model = model.eval()

    @classmethod
    def load(
        cls,
        card: MethodCard,
        *,
        fr_model: str | os.PathLike | nn.Module = "default",
        image_processor: FaceImageProcessor | None = None,
        **options: Any,
    ) -> "NetworkMethod":
        """The method with its network loaded; see [`load_method`]."""
        return cls(card, load_fr_model(fr_model), image_processor, **options)

    def raw_scores(self, faces: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """
        The method itself. It computes with [`network`] or, where it puts hooks, with [`layered_network`].

        Args:
            faces (`torch.FloatTensor` of shape `(B, 3, H, W)`): Canonical faces on the CPU: RGB, float32 in [-1, 1].
            seed (`int`): What randomness is made of, together with the pixels of each face.

        Returns:
            The number of its paper, `(B,)`, and the parts that it is made of by name, each `(B,)`. No face's depends
            on the others.
        """
        raise NotImplementedError

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> "NetworkMethod":
        self.model.to(device=device, dtype=dtype)
        return self

    def enable_folding(self, winograd: bool = False) -> None:
        """
        Puts a [`~diffiqa_hf.fold`]ed copy, which gives the same scores faster, in the place of the network,
        where the method is one that allows it. Call it before `.to(dtype=...)`.

        Args:
            winograd (`bool`, *optional*, defaults to `False`): See [`~diffiqa_hf.fold`]: faster still, in
                float32 on a CPU; not where the method takes gradients.
        """
        if not self.needs_layers:
            with self._same_weights():
                self.model = fold(self.model, winograd and not self.needs_gradients)

    def calibration_settings(self) -> dict[str, Any]:
        """
        What the scores depend on besides the faces and the seed, for [`~diffiqa_hf.calibration.fit_calibration`]:
        the name, the method's own options and a digest of the weights; JSON.
        """
        # FROQ's `calibration` is what its layers were chosen by; they are what counts.
        options = {name: getattr(self, name) for name in self.card.options if name != "calibration"}
        settings = {"method": self.card.name, "weights": self._weight_digests()}
        return settings | ({"options": options} if options else {})

    def _scoring_models(self) -> dict[str, nn.Module]:
        return {"model": self.model}

    @property
    def network(self) -> nn.Module:
        """The network in evaluation mode, to compute with: `model` itself unless it is in training mode."""
        return for_inference(self.model)

    def layered_network(self) -> nn.Module:
        """The network in evaluation mode with modules of this call's own, for hooks that no other thread runs into."""
        return private_view(self.network)

    @property
    def device(self) -> torch.device:
        """Where the weights are. Those on the meta device are offloaded; the hooks that bring them move the faces."""
        device = next(self.model.parameters()).device
        return torch.device("cpu") if device.type == "meta" else device

    def embed(self, faces: torch.Tensor) -> torch.Tensor:
        """Embeddings `(B, D)` in float32 of canonical faces `(B, 3, H, W)`."""
        return output_of(self.network, faces, "embeddings").float()

    @staticmethod
    def generator(face: torch.Tensor, seed: int) -> torch.Generator:
        """Where the random numbers of one face come from: the seed and its pixels alone."""
        return torch.Generator().manual_seed(DifFIQAPipeline.noise_seeds(face, seed, 1, False)[0])

    def _batch_size(self) -> int:
        return self.cpu_batch_size if self.device.type == "cpu" else self.accelerator_batch_size

    def _compute(self, faces: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        # A method that goes by gradients has them wherever it is called; the others take none by themselves.
        with torch.inference_mode(False), torch.enable_grad():
            raw, terms = self._raw_scores(torch.from_numpy(faces), seed)
        terms = {name: values.detach().cpu().numpy() for name, values in terms.items()}
        return raw.detach().double().cpu().numpy(), terms

    def _raw_scores(self, faces: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        try:
            with one_at_a_time(self.model):
                return self.raw_scores(faces, seed)
        except torch.OutOfMemoryError:
            if len(faces) == 1:
                raise
        # Outside of the handler, where the traceback would keep the tensors of the failed try.
        torch.cuda.empty_cache()
        logger.warning(f"out of memory, going on with a batch of {(len(faces) + 1) // 2}")
        parts = [self._raw_scores(part, seed) for part in faces.chunk(2)]
        return torch.cat([raw for raw, _ in parts]), {
            name: torch.cat([terms[name] for _, terms in parts]) for name in parts[0][1]
        }


__all__ = ["NetworkMethod"]
