# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What all methods share: how they are called, and how their networks are loaded."""

import os
from collections.abc import Iterator
from typing import Any

import torch
from diffusers.utils import logging
from torch import nn

from ..calibration import CalibrationMixin
from ..conversion.networks import load_fr_model
from ..face_check import FaceCheck
from ..image_processing_face import FaceImageProcessor
from ..inference.folding import fold
from ..inference.network_views import for_inference, one_at_a_time, output_of, private_view
from ..pipeline_diffiqa import DifFIQAPipeline
from ..pipeline_output import FaceQualityOutput, FaceQualityRecord
from ..scoring.image_stream import check_call, collect, stream_faces, with_percentiles
from .cards import MethodCard


logger = logging.get_logger(__name__)


class FaceQualityMethod(CalibrationMixin):
    """
    Base of the methods. One is made by [`load_method`] and called with images.

    A method gives [`raw_scores`], the number of its paper; the score is that, or its negative where lower is better.
    It may be called from several threads at a time.

    Args:
        card ([`MethodCard`]): What there is to know of the method.
        model (`nn.Module`): Its network, or the FR model that it probes. It is put in evaluation mode.
        image_processor ([`FaceImageProcessor`], *optional*): Makes canonical faces from images.
    """

    # Faces that are scored at a time: on a CPU what fits its cache, with the copies that a method makes of each.
    cpu_batch_size = 16
    accelerator_batch_size = 128
    # Whether it works inside of the FR model, where a folded one is another; and whether it takes gradients of it.
    needs_layers = False
    needs_gradients = False
    # What says whether a picture is one of a face, if it is to be asked ([`~diffiqa_hf.face_check.FaceCheck`]).
    face_check: FaceCheck | None = None

    def __init__(self, card: MethodCard, model: nn.Module, image_processor: FaceImageProcessor | None = None):
        if self.needs_layers and getattr(model, "is_folded", False):
            raise ValueError(
                f"{card.name} looks into the FR model, whose layers fold() has joined: give it the model itself"
            )
        self.card = card
        self.model = model.eval()
        self.image_processor = image_processor or FaceImageProcessor()
        self._progress_bar_config: dict[str, Any] | None = None

    @classmethod
    def load(
        cls,
        card: MethodCard,
        *,
        fr_model: str | os.PathLike | nn.Module = "default",
        image_processor: FaceImageProcessor | None = None,
        **options: Any,
    ) -> "FaceQualityMethod":
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

    def __call__(
        self,
        images: Any,
        landmarks: Any = None,
        *,
        batch_size: int | None = None,
        seed: int = 0,
        on_error: str = "nan",
        return_dict: bool = True,
    ) -> FaceQualityOutput | tuple:
        """
        Scores face images.

        Args:
            images: One or many (list, iterator, `datasets` column) of path, PIL image, NumPy array and torch tensor,
                as [`DifFIQAPipeline`] takes them. An iterator is read as needed.
            landmarks (*optional*): For each image, five points (5, 2) in its pixels, to align it by, or `None`.
            batch_size (`int`, *optional*): Faces that are scored at a time. Running out of memory halves a batch.
            seed (`int`, *optional*, defaults to 0): Of the methods that draw random numbers; the card says which do.
            on_error (`str`, *optional*, defaults to `"nan"`): An image that cannot be scored gets NaN and a line in
                `errors`, or, with `"raise"`, is an error.
            return_dict (`bool`, *optional*, defaults to `True`): `False` gives a plain tuple.

        Returns:
            [`FaceQualityOutput`] with `scores` of shape `(N,)`, higher is better, and as `terms` the parts of the
            score, with `"raw"` the method's own number where lower is better; with `percentiles` where there is a
            [`calibration`] that holds.
        """
        records = list(self.stream(images, landmarks, batch_size=batch_size, seed=seed, on_error=on_error))
        output = collect(records, dict.fromkeys(name for record in records for name in record.terms))
        return output if return_dict else output.to_tuple()

    def stream(
        self,
        images: Any,
        landmarks: Any = None,
        *,
        batch_size: int | None = None,
        seed: int = 0,
        on_error: str = "nan",
    ) -> Iterator[FaceQualityRecord]:
        """
        The same as a call, one [`FaceQualityRecord`] at a time as soon as its batch is done: memory does not grow with
        the number of images. The arguments are those of [`~FaceQualityMethod.__call__`].
        """
        if batch_size is None:
            batch_size = self.cpu_batch_size if self.device.type == "cpu" else self.accelerator_batch_size
        check_call(batch_size, seed, on_error)
        batches = stream_faces(
            images, landmarks, self.image_processor, batch_size, on_error, self._progress_bar_config, self.face_check
        )
        records = (record for batch in batches for record in self._score_batch(batch, seed))
        return with_percentiles(records, self.usable_calibration())

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> "FaceQualityMethod":
        """Moves the network to a device and, if given, to a floating point type. Returns the method."""
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

    def set_progress_bar_config(self, **kwargs) -> None:
        """Arguments of tqdm, which counts images. There is no bar before this has been called."""
        self._progress_bar_config = kwargs

    def embed(self, faces: torch.Tensor) -> torch.Tensor:
        """Embeddings `(B, D)` in float32 of canonical faces `(B, 3, H, W)`."""
        return output_of(self.network, faces, "embeddings").float()

    @staticmethod
    def generator(face: torch.Tensor, seed: int) -> torch.Generator:
        """Where the random numbers of one face come from: the seed and its pixels alone."""
        return torch.Generator().manual_seed(DifFIQAPipeline.noise_seeds(face, seed, 1, False)[0])

    def _score_batch(
        self, batch: list[tuple[FaceQualityRecord, torch.Tensor | None]], seed: int
    ) -> list[FaceQualityRecord]:
        todo = [(record, face) for record, face in batch if face is not None]
        if todo:
            # A method that goes by gradients has them wherever it is called; the others take none by themselves.
            with torch.inference_mode(False), torch.enable_grad():
                raw, terms = self._raw_scores(torch.stack([face for _, face in todo]), seed)
            raw = raw.double().cpu()
            scores = -raw if self.card.lower_is_better else raw
            if self.card.lower_is_better:
                terms = {"raw": raw, **terms}
            terms = {name: values.tolist() for name, values in terms.items()}
            for i, (record, _) in enumerate(todo):
                if scores[i].isfinite():
                    record.score = scores[i].item()
                    record.terms = {name: values[i] for name, values in terms.items()}
                else:
                    record.error = "the score is not finite (NaN or infinite weights?)"
        return [record for record, _ in batch]

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


__all__ = ["FaceQualityMethod"]
