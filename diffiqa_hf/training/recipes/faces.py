# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The faces that a recipe trains on, and their labels and references by an FR model."""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from ...degradations import degrade_face
from ...file_utils import replace_file
from ...image_processing_face import FaceImageProcessor, face_to_pixels
from ...models import FacePreTrainedModel
from ..data import ROW, read_face
from ..held_out import predict
from .labels import choose_references, reference_labels, sdd_fiqa_labels


class Faces(Dataset):
    """
    Faces (3, H, W) in [-1, 1] of the network's own size, and degraded copies of them as further faces, mirrored by
    chance; beside each the face as FR models take it or, with `targets`, positions of faces, the face that is there.
    What an item is depends on the seed, the epoch and the index alone.
    """

    def __init__(self, dataset, args: argparse.Namespace, copies: int = 0):
        self.dataset, self.args = dataset, args
        self.fr_processor = self.processor = FaceImageProcessor()
        # Position r is face r % N of the dataset, and where r >= N its copy r // N.
        self.rows = np.arange(len(dataset) * (1 + copies))
        self.targets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def clean(self, index: int) -> np.ndarray:
        """As FR models take it."""
        return self._read(self.rows[index], self.fr_processor)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, int]:
        epoch, index = key
        rng = np.random.default_rng([self.args.seed, epoch, index])
        flip = rng.random() < self.args.flip_probability
        face = self._read(self.rows[index], self.processor)
        if self.targets is not None:
            beside = self._read(self.targets[index], self.processor)
        else:
            beside = face if self.processor.size == self.fr_processor.size else self.clean(index)
        face, beside = (torch.from_numpy(np.ascontiguousarray(x[:, :, ::-1] if flip else x)) for x in (face, beside))
        return face, beside, index

    def _read(self, position: int, processor: FaceImageProcessor) -> np.ndarray:
        copy, row = divmod(int(position), len(self.dataset))
        if not copy:
            return read_face(self.dataset, row, self.args.image_column, processor)
        # The degradation is made for canonical faces.
        face = read_face(self.dataset, row, self.args.image_column, self.fr_processor)
        pixels = degrade_face(face_to_pixels(face), np.random.default_rng([self.args.seed, copy, row]))
        return processor.extract_faces(pixels)[0].pixel_values


def embed(args: argparse.Namespace, faces: Faces, fr_model: FacePreTrainedModel) -> np.ndarray:
    """Embeddings (N, D) of all faces."""
    if not args.fr_embeddings:
        return predict(fr_model, faces, range(len(faces)), "embeddings")["embeddings"].numpy()
    return np.load(args.fr_embeddings, mmap_mode="r")[np.array(faces.dataset[ROW])]


def make_supervision(
    args: argparse.Namespace, faces: Faces, fr_model: FacePreTrainedModel, people: np.ndarray
) -> dict:
    """For each face its label and the position of its reference, of which a recipe needs one, the other or neither."""
    if args.recipe == "sdd-fiqa":
        embeddings = embed(args, faces, fr_model)
        return {"labels": sdd_fiqa_labels(embeddings, people, args.num_pairs, args.num_rounds, args.seed)}
    if args.recipe in ("faceqnet", "faceqgen"):
        marked = np.arange(len(faces)) < len(faces.dataset)  # no degraded copy is a reference
        if args.reference_column:
            column = np.array(faces.dataset[args.reference_column], dtype=bool)
            marked &= column[faces.rows % len(column)]
        embeddings = embed(args, faces, fr_model)
        references = choose_references(embeddings, people, marked)
        if args.recipe == "faceqnet":
            return {"labels": reference_labels(embeddings, people, references)}
        return {"references": references}
    return {}


def load_supervision(accelerator, args, faces, fr_model, people, resumed: bool) -> dict[str, np.ndarray]:
    """[`make_supervision`], made once by the main process and kept in the folder of the run."""
    path = Path(args.output_dir) / "supervision.npz"
    if accelerator.is_main_process and not (resumed and path.exists()):
        made = make_supervision(args, faces, fr_model, people)

        def write(beside: Path) -> None:
            with open(beside, "wb") as file:
                np.savez(file, **made)

        replace_file(path, write)
    accelerator.wait_for_everyone()
    with np.load(path) as kept:
        return dict(kept)


__all__ = ["Faces", "embed", "load_supervision", "make_supervision"]
