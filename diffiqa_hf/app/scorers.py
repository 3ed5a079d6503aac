# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The methods whose weights are at hand, and the faces of images by one of them."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..alignment import DEFAULT_DETECTOR, TEMPLATE_SIZE
from ..default_weights import DEFAULT_METHOD
from ..face_check import FaceCheck
from ..images.extraction import FaceCrop, FaceExtractor, face_to_pixels
from ..images.loading import FaceImageError, first_line
from ..methods import CARDS, FaceQualityMethod, MethodCard, get_card, load_method
from ..quality_record import FaceQualityRecord
from ..scoring.threads import cores, in_order


BATCH = 16  # faces that are scored at a time: so soon a batch ends that is cancelled
KINDS = ("photographs", "crops")


class MethodError(ValueError):
    """A method that is not at hand, or whose networks can't be loaded; the message is the reason in one line."""


@dataclass
class JudgedFace:
    """
    Args:
        index (`int`): Of the image.
        record ([`FaceQualityRecord`]): Its score, or why it has none.
        crop ([`FaceCrop`], *optional*): The canonical face.
    """

    index: int
    record: FaceQualityRecord
    crop: FaceCrop | None = None


class Scorers:
    """
    Methods by their names, each loaded when it is first asked for. May be shared by threads.

    Args:
        weights: Of methods that need some, by the name of the method.
        fr_model: Face recognition model of the methods that probe one; the package's when not given.
        detector: The file of the face detector, or its Hub repository.

    Raises:
        ValueError: There is no method of that name, or it takes no weights.
    """

    def __init__(
        self, weights: Mapping[str, str] | None = None, fr_model: str | None = None, detector: str | None = None
    ):
        self.weights, self.fr_model = dict(weights or {}), fr_model
        for name in self.weights:
            if "weights" not in get_card(name).takes:
                raise ValueError(f"{name} takes no weights")
        self.extractor = FaceExtractor(detector=detector or DEFAULT_DETECTOR)
        self.cards = [card for card in CARDS if self._is_at_hand(card)]
        # The default first: it is what the page begins with.
        self.cards.sort(key=lambda card: card.name != DEFAULT_METHOD)
        self._methods: dict[str, FaceQualityMethod] = {}
        self._loading = threading.Lock()

    def _is_at_hand(self, card: MethodCard) -> bool:
        given = {"weights": card.name in self.weights, "fr_model": self.fr_model is not None}
        return all(given[need] for need in card.needs) and not card.needs_one_of

    def check_detector(self) -> str | None:
        """Why there is no face detector, in one line; `None` where there is one. It may be fetched."""
        try:
            self.extractor.with_changes(do_align="auto").check_detector()
        except OSError as error:
            return str(getattr(error, "what", None) or error)
        return None

    def method(self, name: str) -> FaceQualityMethod:
        """
        Raises:
            MethodError: It is none of those at hand, or can't be loaded.
        """
        if name not in [card.name for card in self.cards]:
            raise MethodError(f"the method {name} is not at hand")
        if name not in self._methods:
            with self._loading:
                if name not in self._methods:
                    try:
                        self._methods[name] = self._load(get_card(name))
                    except Exception as error:  # whatever the libraries raise for what is no network of the method
                        raise MethodError(f"{name} can't be loaded: {first_line(error)}") from error
        return self._methods[name]

    def _load(self, card: MethodCard) -> FaceQualityMethod:
        given: dict[str, Any] = {"weights": self.weights.get(card.name)}
        given["fr_model"] = self.fr_model if "fr_model" in card.takes else None
        method = load_method(card.name, **given, align=False)
        if card.name != "diffiqa" and face_size(method.image_processor) == (TEMPLATE_SIZE, TEMPLATE_SIZE):
            method.face_check = FaceCheck.load()  # the pipeline has one of its own
        return method

    def pipeline(self) -> Any:
        """The [`DifFIQAPipeline`], which explains."""
        return self.method("diffiqa").pipeline  # type: ignore[attr-defined]

    def extractor_for(self, method: FaceQualityMethod, kind: str, faces: str) -> FaceExtractor:
        """
        What makes the faces of a method, and measures them.

        Args:
            kind: `"photographs"`, in which faces are looked for unless they are aligned crops, or `"crops"`, which
                are taken as they are.
            faces: Of a photograph, `"largest"` or `"all"`.
        """
        extractor = self.extractor.with_changes(
            size=method.image_processor.size,
            do_align="auto" if kind == "photographs" else False,
            multiple_faces=faces,
        )
        extractor.measuring = True
        return extractor

    def judge(
        self, method: FaceQualityMethod, images: Sequence[Any], extractor: FaceExtractor, threads: int | None = None
    ) -> Iterator[JudgedFace]:
        """
        The faces of images, in the order of the images; an image without one has a record with the reason.

        Args:
            images: As [`~diffiqa_hf.images.loading.load_image`] takes them.
        """

        def read(image: Any) -> list[FaceCrop] | FaceImageError:
            try:
                return extractor.extract_faces(image)
            except FaceImageError as error:
                return error

        threads = min(cores() if threads is None else threads, len(images) - 1)
        waiting: list[JudgedFace] = []
        for index, crops in enumerate(in_order(read, images, threads, lambda: 2 * BATCH)):
            if isinstance(crops, FaceImageError):
                waiting.append(JudgedFace(index, FaceQualityRecord(index, error=str(crops))))
                crops = []
            for number, crop in enumerate(crops):
                record = FaceQualityRecord(index, number, box=crop.box, landmarks=crop.landmarks)
                record.num_faces, record.measures = crop.num_faces, crop.measures
                waiting.append(JudgedFace(index, record, crop))
            if len(waiting) >= BATCH:
                yield from _scored(method, waiting)
                waiting = []
        yield from _scored(method, waiting)


def face_size(extractor: FaceExtractor) -> tuple[int, int]:
    """Height and width of the faces that it makes."""
    size: Any = extractor.size  # a dictionary, in whatever form it was given
    return size["height"], size["width"]


def _scored(method: FaceQualityMethod, judged: Iterable[JudgedFace]) -> list[JudgedFace]:
    judged = list(judged)
    faces = [face for face in judged if face.crop is not None]
    pixels = [face_to_pixels(face.crop.pixel_values) for face in faces if face.crop is not None]
    for face, record in zip(faces, method.stream(pixels) if pixels else (), strict=True):
        face.record.score, face.record.terms, face.record.error = record.score, record.terms, record.error
        face.record.percentile, face.record.face_probability = record.percentile, record.face_probability
        if face.record.error is None and not np.isfinite(face.record.score):
            face.record.error = "the score is not a number"
    return judged


__all__ = ["BATCH", "KINDS", "JudgedFace", "MethodError", "Scorers", "face_size"]
