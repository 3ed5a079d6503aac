# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
FROQ: Babnik, Jain, Peer and Štruc, "FROQ: Observing Face Recognition Models for Efficient Quality Assessment", IJCB
2025 (https://github.com/LSIbabnikz/FROQ).
"""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn.functional import cosine_similarity

from ..image_processing_face import FaceImageError, FaceImageProcessor
from ..inference.network_views import removed, uncompiled
from ..scoring.image_files import find_images
from ..scoring.image_stream import stream_faces
from .cards import MethodCard
from .network_method import NetworkMethod


class FROQ(NetworkMethod):
    r"""
    The mean over chosen layers of the FR model of the L2 norm of what they give.

    The layers are chosen once, on a few hundred faces or more of all qualities, by how well they rank them in the
    order of [`pseudo_quality`]: the best single ones are the candidates, and to the best of these others are added,
    each time the one with which the mean norm has the highest rank correlation; of the sets on the way the best is
    taken.

    Args:
        layers (`Sequence[str]`, *optional*): Names of the FR model's modules. After a calibration `method.layers` has
            them, to be given here the next time.
        calibration (*optional*): Images to choose the layers by, as a call of the method takes them, or a folder, in
            which they are found however deep. It takes 76 embeddings of each, where the FR model is.
        num_candidates (`int`, *optional*, defaults to 10): How many layers can be chosen.
    """

    cpu_batch_size = 32
    accelerator_batch_size = 256
    needs_layers = True

    def __init__(
        self,
        card: MethodCard,
        model: nn.Module,
        image_processor: FaceImageProcessor | None = None,
        layers: Sequence[str] | None = None,
        calibration: Any = None,
        num_candidates: int = 10,
    ):
        super().__init__(card, model, image_processor)
        if (layers is None) == (calibration is None):
            raise ValueError(
                "froq needs either layers, names of modules of the FR model, or calibration, images or their folder"
            )
        if not isinstance(num_candidates, int) or num_candidates < 1:
            raise ValueError(f"num_candidates has to be a positive integer, got {num_candidates!r}")
        self.num_candidates = num_candidates
        if layers is None:
            self.layers = self.choose_layers(calibration)
        else:
            self.layers = [layers] if isinstance(layers, str) else list(layers)
            if not self.layers or len({*self.layers}) < len(self.layers):
                raise ValueError(f"layers have to be names, each once, got {layers!r}")
            for name in self.layers:
                if name not in dict(uncompiled(model).named_modules()):
                    raise ValueError(f"{type(uncompiled(model)).__name__} has no module {name!r}")

    @torch.no_grad()
    def raw_scores(self, faces: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        norms = self._norms(faces, self.layers)
        if missing := [name for name in self.layers if name not in norms]:
            raise ValueError(
                f"{type(uncompiled(self.model)).__name__} gives no one tensor for a face at {missing[0]!r}"
            )
        return torch.stack([norms[name] for name in self.layers]).mean(0), {}

    @torch.no_grad()
    def choose_layers(self, images: Any, seed: int = 0) -> list[str]:
        """
        The layers whose mean norm follows [`pseudo_quality`] best.

        Args:
            images: As a call of the method takes them, or a folder.
            seed (`int`, *optional*, defaults to 0): Of the noise in the pseudo quality.

        Returns:
            `list[str]`: Names of modules, in the order in which they were added.

        Raises:
            FaceImageError: An image can't be read; the message names it.
            ValueError: No images in the folder, fewer than 3, or all alike.
        """
        files: list[str] = []
        if isinstance(images, (str, os.PathLike)):
            files, problems = find_images([os.fspath(images)], recursive=True)
            if problems:
                raise ValueError(problems[0])
        names = [name for name, _ in uncompiled(self.model).named_modules() if name]
        qualities, norms = [], []
        for batch in stream_faces(files or images, None, self.image_processor, self.cpu_batch_size):
            for record, face in batch:
                if face is None:
                    name = files[record.index] if files else f"image {record.index}"
                    raise FaceImageError(f"{name}: {record.error}")
            faces = torch.from_numpy(np.stack([face for _, face in batch]))
            norms.append(self._norms(faces, names))
            qualities.append(pseudo_quality(self.embed, faces.to(self.device), seed))
        if sum(map(len, qualities)) < 3:
            raise ValueError(f"a calibration takes 3 images at least, got {sum(map(len, qualities))}")
        quality = torch.cat(qualities).cpu().numpy()
        # A layer that the model does not run, or runs several times, says nothing.
        names = [name for name in names if all(name in part for part in norms)]
        values = {name: torch.cat([part[name] for part in norms]).double().cpu().numpy() for name in names}
        return greedy_layers(values, quality, self.num_candidates)

    def _norms(self, faces: torch.Tensor, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The L2 norms `(B,)` of what the named modules give, of those that give one tensor with a row a face."""
        norms: dict[str, list[torch.Tensor | None]] = {name: [] for name in names}
        network = self.layered_network()
        modules = dict(network.named_modules())

        def hook(name: str) -> Callable:
            def keep(module: nn.Module, args: tuple, output: Any) -> None:
                usable = isinstance(output, torch.Tensor) and output.ndim > 1 and len(output) == len(faces)
                norms[name].append(torch.linalg.vector_norm(output.float().flatten(1), dim=1) if usable else None)

            return keep

        with removed([modules[name].register_forward_hook(hook(name)) for name in norms]):
            network(faces.to(self.device))
        return {name: found[0] for name, found in norms.items() if len(found) == 1 and found[0] is not None}


def pseudo_quality(
    embed: Callable[[torch.Tensor], torch.Tensor], faces: torch.Tensor, seed: int = 0, alpha: float = 1e-3
) -> torch.Tensor:
    """
    FROQ's auxiliary quality: the mean of three similarities to the embedding of the face, those of the mirrored face,
    of the face mixed with noise, `(1 - alpha) face + alpha noise`, averaged over 10 draws that are the same for all
    faces, and of the face with one of 8x8 squares black, averaged over the squares.

    Args:
        embed: Faces to embeddings.
        faces: Canonical faces `(B, 3, H, W)`, H and W multiples of 8.

    Returns:
        `(B,)` in [-1, 1], float64.
    """
    height, width = faces.shape[2:]
    if height % 8 or width % 8:
        raise ValueError(f"faces are divided in 8x8 squares, which {height}x{width} pixels can't be")
    clean = embed(faces)

    def similarity(changed: torch.Tensor) -> torch.Tensor:
        return cosine_similarity(clean, embed(changed)).double()

    noise = torch.randn((10, *faces.shape[1:]), generator=torch.Generator().manual_seed(seed)).to(faces)
    noisy = sum(similarity((1 - alpha) * faces + alpha * draw) for draw in noise) / len(noise)
    occluded = 0
    for square in range(64):
        changed = faces.clone()
        top, left = square // 8 * (height // 8), square % 8 * (width // 8)
        changed[:, :, top : top + height // 8, left : left + width // 8] = -1
        occluded = occluded + similarity(changed) / 64
    return (similarity(faces.flip(-1)) + noisy + occluded) / 3


def greedy_layers(norms: dict[str, np.ndarray], quality: np.ndarray, num_candidates: int = 10) -> list[str]:
    """
    FROQ's choice of layers.

    Args:
        norms: For each layer the norms `(N,)` of N faces.
        quality: `(N,)`.
        num_candidates: How many of the best single layers can be chosen.

    Returns:
        `list[str]`: in the order in which they were added.

    Raises:
        ValueError: No layer's norms vary, or the quality does not.
    """

    def correlation(layers: list[str]) -> float:
        mean = sum(norms[name] for name in layers) / len(layers)
        if np.ptp(mean) == 0 or np.ptp(quality) == 0:
            return math.nan
        return spearmanr(mean, quality).statistic

    single = {name: correlation([name]) for name in norms}
    candidates = sorted(
        (name for name in single if not math.isnan(single[name])), key=lambda name: single[name], reverse=True
    )
    candidates = candidates[:num_candidates]
    if not candidates:
        raise ValueError("the faces are all alike to the FR model: no layers can be chosen by them")
    chosen = [candidates.pop(0)]
    utilities = [correlation(chosen)]
    while candidates:
        best = max(candidates, key=lambda name: correlation([*chosen, name]))
        candidates.remove(best)
        chosen.append(best)
        utilities.append(correlation(chosen))
    return chosen[: utilities.index(max(utilities)) + 1]


__all__ = ["FROQ", "greedy_layers", "pseudo_quality"]
