# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What all methods share: how they are called. Imported without torch."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..calibration import CalibrationMixin
from ..images.extraction import FaceExtractor
from ..quality_record import FaceQualityRecord
from ..scoring.image_stream import as_iterable, check_call, collect, stream_faces, with_percentiles
from .cards import MethodCard


if TYPE_CHECKING:
    import torch

    from ..face_check import FaceCheck
    from ..pipeline_output import FaceQualityOutput

Batch = list[tuple[FaceQualityRecord, np.ndarray | None]]


class FaceQualityMethod(CalibrationMixin):
    """
    Base of the methods. One is made by [`load_method`] and called with images.

    A method gives the number of its paper; the score is that, or its negative where lower is better. It may be called
    from several threads at a time.

    Args:
        card ([`MethodCard`]): What there is to know of the method.
        image_processor ([`FaceImageProcessor`], *optional*): Makes canonical faces from images.
    """

    # Faces that are scored at a time: on a CPU what fits its cache, with the copies that a method makes of each.
    cpu_batch_size = 16
    # Threads that read images; as many as there are processors where `None`.
    reading_threads: int | None = None
    # What says whether a picture is one of a face, if it is to be asked ([`~diffiqa_hf.face_check.FaceCheck`]).
    face_check: "FaceCheck | None" = None

    def __init__(self, card: MethodCard, image_processor: FaceExtractor | None = None):
        self.card = card
        self.image_processor = image_processor or FaceExtractor()
        self._progress_bar_config: dict[str, Any] | None = None

    def __call__(
        self,
        images: Any,
        landmarks: Any = None,
        *,
        batch_size: int | None = None,
        seed: int = 0,
        on_error: str = "nan",
        return_dict: bool = True,
    ) -> "FaceQualityOutput | tuple":
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
        batch_size = self._batch_size() if batch_size is None else batch_size
        check_call(batch_size, seed, on_error)
        batches = self._read(images, landmarks, batch_size, on_error)
        scored = self._score_batches(batches, seed, as_iterable(images)[1])
        return with_percentiles(scored, self.usable_calibration())

    def _read(self, images: Any, landmarks: Any, batch_size: int, on_error: str) -> Generator[Batch]:
        """Batches of so many faces, as [`stream_faces`] has them, read as the method is set to."""
        return stream_faces(
            images,
            landmarks,
            self.image_processor,
            batch_size,
            on_error,
            self._progress_bar_config,
            self.face_check,
            self.reading_threads,
        )

    @property
    def engine(self) -> str:
        """What runs its networks: `"torch"`, or `"onnx"`."""
        return "torch"

    def to(self, device: Any = None, dtype: "torch.dtype | None" = None) -> "FaceQualityMethod":
        """Moves the networks to a device and, if given, to a floating point type. Returns the method."""
        raise NotImplementedError

    def set_alignment(self, align: bool | str, detector: "str | os.PathLike | None" = None) -> None:
        """
        Whether faces are looked for and aligned, as [`load_method`] has it.

        A processor that aligns already goes on with it where `align` is `"auto"`. The processor that the method had
        stays as it is.
        """
        aligns = self.image_processor.do_align
        processor = self.image_processor.with_changes(
            do_align=True if align == "auto" and aligns is True else align, detector=detector
        )
        self._set_image_processor(processor)

    def _set_image_processor(self, processor: FaceExtractor) -> None:
        self.image_processor = processor

    def enable_folding(self, winograd: bool = False) -> None:
        """Makes the networks faster, where torch runs them and the method allows it; the scores are the same."""

    def set_progress_bar_config(self, **kwargs) -> None:
        """Arguments of tqdm, which counts images. There is no bar before this has been called."""
        self._progress_bar_config = kwargs

    def term_names(self) -> tuple[str, ...]:
        """The names of the parts of a score: those of a grey face, whose score nobody sees."""
        size = self.image_processor.size
        _, terms = self._compute(np.zeros((1, 3, size["height"], size["width"]), np.float32), 0)
        return (*(("raw",) if self.card.lower_is_better else ()), *terms)

    def _batch_size(self) -> int:
        return self.cpu_batch_size

    def _compute(self, faces: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Of canonical faces (B, 3, H, W) the number of the paper and its parts, each (B,)."""
        raise NotImplementedError

    def _score_batches(
        self, batches: Iterable[Batch], seed: int, total: int | None
    ) -> Iterator[list[FaceQualityRecord]]:
        """The records of batches, which may be taken ahead of the one that is asked for where `total` is known."""
        return (self._score_batch(batch, seed) for batch in batches)

    def _score_batch(self, batch: Batch, seed: int) -> list[FaceQualityRecord]:
        return self._record(batch, lambda faces: self._compute(faces, seed))

    def _record(
        self, batch: Batch, compute: Callable[[np.ndarray], tuple[np.ndarray, dict[str, np.ndarray]]]
    ) -> list[FaceQualityRecord]:
        todo = [(record, face) for record, face in batch if face is not None]
        if todo:
            raw, terms = compute(np.stack([face for _, face in todo]))
            raw = raw.astype(np.float64)
            scores = -raw if self.card.lower_is_better else raw
            if self.card.lower_is_better:
                terms = {"raw": raw, **terms}
            terms = {name: values.tolist() for name, values in terms.items()}
            finite = np.isfinite(scores).tolist()
            for i, ((record, _), score) in enumerate(zip(todo, scores.tolist(), strict=True)):
                if finite[i]:
                    record.score = score
                    record.terms = {name: values[i] for name, values in terms.items()}
                else:
                    record.error = "the score is not finite (NaN or infinite weights?)"
        return [record for record, _ in batch]


__all__ = ["Batch", "FaceQualityMethod"]
