# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What training/train_diffiqa_r.py distils with: its faces, eDifFIQA's centres and labels, its state."""

import argparse
import copy
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch.utils.data import Dataset

from ..alignment import align_face, arcface_template, similarity_transform
from ..degradations import degrade_face
from ..image_processing_face import FaceImageProcessor, face_to_pixels, pixels_to_face
from ..models import FacePreTrainedModel
from .checkpoints import TrainingState
from .data import ROW, read_face
from .held_out import HeldOut, predict
from .run import save_array


RANK_TEMPERATURE = 0.1  # of normalised labels, whose range is 1
BEST_BY = {"spearman": ("spearman", 1), "pauc": ("pauc_0.3", -1)}  # figure, and whether higher or lower is better


class LabelledFaces(Dataset):
    """
    Faces (3, H, W) in [-1, 1], whether each is degraded, and its index: by the seed, the epoch and the index alone.
    """

    def __init__(self, dataset, args: argparse.Namespace):
        self.dataset, self.args = dataset, args
        self.processor = FaceImageProcessor()

    def __len__(self) -> int:
        return len(self.dataset)

    def clean(self, index: int) -> np.ndarray:
        return self._read(index, None)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, bool, int]:
        epoch, index = key
        args = self.args
        rng = np.random.default_rng([args.seed, epoch, index])
        flip, degraded = rng.random() < args.flip_probability, rng.random() < args.degrade_probability
        jitter = args.landmark_jitter * rng.uniform(-1, 1, (5, 2)) if args.landmark_jitter else None
        face = self._read(index, jitter)
        if flip:
            face = np.ascontiguousarray(face[:, :, ::-1])
        if degraded:
            face = pixels_to_face(degrade_face(face_to_pixels(face), rng))
        return torch.from_numpy(face), degraded, index

    def _read(self, index: int, jitter: np.ndarray | None) -> np.ndarray:
        # `jitter` in pixels of the aligned face, so that it means the same in a picture of any size.
        column = self.args.landmarks_column
        if column is not None and (row := self.dataset[index])[column] is not None:
            points = np.asarray(row[column], dtype=np.float64)
            if jitter is not None:
                points = points + jitter / math.sqrt(np.linalg.det(similarity_transform(points)[:, :2]))
            return read_face(self.dataset, index, self.args.image_column, self.processor, points)
        face = read_face(self.dataset, index, self.args.image_column, self.processor)
        if jitter is not None:
            size = face.shape[1:]
            face = pixels_to_face(align_face(face_to_pixels(face), arcface_template(size) + jitter, size))
        return face


def embed_dataset(
    accelerator: Accelerator,
    model: FacePreTrainedModel,
    dataset,
    source_rows: int,
    args: argparse.Namespace,
    resumed: bool,
) -> np.ndarray:
    """
    Embeddings (N, D) by the backbone that the run started from, a row for each of the `source_rows` of the source (NaN
    where it is not in the dataset), made once and kept in the folder of the run; each process makes its part.
    """
    path = Path(args.output_dir) / "fr_embeddings.npy"
    if not (resumed and path.exists()):
        process, processes = accelerator.process_index, accelerator.num_processes
        faces = LabelledFaces(dataset, args)
        bounds = np.linspace(0, len(faces), processes + 1).astype(int)
        backbone = copy.deepcopy(model.backbone).eval().to(accelerator.device)
        parts = [path.with_name(f"fr_embeddings-{p}-of-{processes}.npy") for p in range(processes)]
        rows = range(bounds[process], bounds[process + 1])
        made = predict(backbone, faces, rows, "embeddings")["embeddings"].numpy() if rows else np.empty((0, 0))
        save_array(parts[process], made)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            found = np.concatenate([part for part in map(np.load, parts) if len(part)])
            whole = np.full((source_rows, found.shape[1]), np.nan, np.float32)
            whole[np.array(dataset[ROW])] = found
            save_array(path, whole)
            for part in parts:
                part.unlink()
        accelerator.wait_for_everyone()
    return np.load(path, mmap_mode="r")


def make_centres(
    embeddings: np.ndarray, rows: np.ndarray, people: np.ndarray, targets: np.ndarray, fraction: float, minimum: int
) -> tuple[np.ndarray, np.ndarray]:
    """
    eDifFIQA's class centres: the mean embedding, as it is, of a person's faces among the best `fraction` of all.

    Args:
        embeddings (`np.ndarray` of shape `(R, D)`), rows (`(N,)`): The embedding of face i is `embeddings[rows[i]]`.
        people (`(N,)`): Whole numbers from 0 on.
        targets (`(N,)`): Labels.
        minimum: A person with fewer such faces has no centre.

    Returns:
        The centres `(P, D)` float32, and for each face the number of its person's, or -1.
    """
    best = np.flatnonzero(targets >= np.quantile(targets, 1 - fraction))
    counts = np.bincount(people[best], minlength=people.max() + 1)
    kept = np.flatnonzero(counts >= minimum)
    if not len(kept):
        raise ValueError(
            f"nobody has {minimum} faces among the best {fraction:.0%}: see --centre_min_faces and --centre_fraction"
        )
    number = np.full(len(counts), -1)
    number[kept] = np.arange(len(kept))
    sums = np.zeros((len(kept), embeddings.shape[1]))
    for i in best:
        if number[people[i]] >= 0:
            sums[number[people[i]]] += embeddings[rows[i]]
    return (sums / counts[kept][:, None]).astype(np.float32), number[people]


def optimize_labels(
    targets: torch.Tensor, embeddings: torch.Tensor, centres: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """eDifFIQA's labels `(B,)`: clamp(q - epsilon (1 - cos(e, centre)), 0, 1); no gradient flows through them."""
    similarity = F.cosine_similarity(embeddings.detach(), centres)
    return (targets - epsilon * (1 - similarity)).clamp(0, 1)


def pairwise_rank_loss(
    scores: torch.Tensor, targets: torch.Tensor, temperature: float = RANK_TEMPERATURE
) -> torch.Tensor:
    """
    RankNet (Burges et al., ICML 2005) over all pairs i != j of a batch: the cross-entropy of the probabilities that i
    is above j, a logistic function of the difference of their scores `(B,)` to that of their targets `(B,)`.
    """
    if len(scores) < 2:
        return scores.sum() * 0
    pairs = torch.triu_indices(len(scores), len(scores), 1, device=scores.device)
    differences = [(values[pairs[0]] - values[pairs[1]]) / temperature for values in (scores, targets)]
    return F.binary_cross_entropy_with_logits(differences[0], differences[1].sigmoid())


class DistillationState(TrainingState):
    """Also the best figure so far, which one that is (`--best_by`), and the figures of the last validation."""

    def __init__(self, ema: EMAModel | None, heldout: HeldOut, best_by: str, *others):
        super().__init__(ema, heldout, *others)
        self.best: float | None = None
        self.best_by = best_by
        self.figures: dict[str, float] = {}

    def state_dict(self) -> dict:
        return {**super().state_dict(), "best": self.best, "best_by": self.best_by, "figures": self.figures}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        # A checkpoint of earlier versions does not say it.
        if state.get("best_by", "spearman") != self.best_by:
            raise ValueError(f"the checkpoint is that of a run with --best_by {state.get('best_by', 'spearman')}")
        self.best, self.figures = state["best"], state["figures"]

    def is_best(self) -> bool:
        """Whether the last validation is better than the best one so far, whose place it takes then."""
        name, sign = BEST_BY[self.best_by]
        better = self.best is None or sign * self.figures[name] > sign * self.best
        if better:
            self.best = self.figures[name]
        return better


__all__ = [
    "BEST_BY",
    "DistillationState",
    "LabelledFaces",
    "RANK_TEMPERATURE",
    "embed_dataset",
    "make_centres",
    "optimize_labels",
    "pairwise_rank_loss",
]
