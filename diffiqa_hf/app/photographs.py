# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""One photograph, two, and why a face has its score: what the page shows, as plain values for its templates."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from PIL import Image

from ..images.extraction import FaceCrop, face_to_pixels
from ..images.framing import data_uri, framed
from ..images.loading import FaceImageError, load_image
from ..methods import FaceQualityMethod
from ..quality_record import TERMS, FaceQualityRecord, shown_score
from .scorers import JudgedFace, Scorers, face_size
from .sentences import meaning, which_to_enrol, why_low


SIDE = 1_200  # longest side of a photograph on the page, in pixels
FACE = 224  # of a face in an explanation
MOST_FACES = 60  # that are shown of one photograph
CROP_BYTES = 1_000_000  # of a face that comes back to be explained


def one_photograph(scorers: Scorers, content: bytes, name: str, kind: str) -> dict[str, Any]:
    """
    The faces of a photograph.

    Args:
        content: Of the file.
        name: Of the method.
        kind: `"photographs"` or `"crops"`, as [`Scorers.extractor_for`] has it.

    Raises:
        FaceImageError: It can't be read, or has no face.
    """
    method = scorers.method(name)
    judged = _judge(scorers, method, [content], kind, "all")
    if (error := judged[0].record.error) is not None and judged[0].crop is None:
        raise FaceImageError(error)
    faces = [_face(scorers, method, content, face, one_of_all=True) for face in judged[:MOST_FACES]]
    boxes = [face.record.box for face in judged if face.record.box is not None]
    picture = framed(load_image(content), boxes, SIDE, numbered=len(boxes) > 1)
    calibration = method.usable_calibration()
    return {
        "picture": data_uri(picture),
        "faces": faces,
        "more": len(judged) - len(faces),
        "method": method.card.title,
        "measured_with": None if calibration is None else calibration.data,
        "range": method.card.raw_range,
    }


def two_photographs(scorers: Scorers, contents: Sequence[bytes], name: str, kind: str) -> dict[str, Any]:
    """
    Which of two photographs to enrol, by the largest face of each. One that can't be read is shown with the reason.

    Args:
        contents, name, kind: As of [`one_photograph`].
    """
    method = scorers.method(name)
    judged = _judge(scorers, method, contents, kind, "largest")
    records = [face.record for face in judged]
    choice, sentences = which_to_enrol(records)
    sides = []
    for content, face in zip(contents, judged, strict=True):
        side: dict[str, Any] = {"error": face.record.error, "picture": None}
        if face.crop is not None:
            boxes = [] if face.record.box is None else [face.record.box]
            side["picture"] = data_uri(framed(load_image(content), boxes, SIDE // 2))
            side["face"] = _face(scorers, method, content, face)
        sides.append(side)
    return {"sides": sides, "choice": choice, "sentences": sentences, "method": method.card.title}


def explained(scorers: Scorers, crop: str) -> dict[str, Any]:
    """
    Why a face has its score, by the pipeline of the package: the face, noisy, restored, and the map.

    Args:
        crop: The canonical face, as [`one_photograph`] gave it: a PNG file in base64.

    Raises:
        FaceImageError: It is no picture of this kind.
    """
    head, _, text = crop.partition(",")
    if head != "data:image/png;base64" or len(text) > CROP_BYTES:
        raise FaceImageError("this is no face of this page")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise FaceImageError("this is no face of this page") from None
    from ..explanation import draw_map, explain  # torch, which takes seconds

    pipe = scorers.pipeline()
    explanation = explain(pipe, content)
    names = ("input", "noisy", "restored")
    pictures = pipe.image_processor.postprocess([explanation.images[name].numpy() for name in names])
    captions = ("the face", "noisy", "restored")
    tiles = [
        {
            "picture": data_uri(picture.resize((FACE, FACE), Image.Resampling.BICUBIC)),
            "caption": caption,
            "similarity": explanation.terms.get(name),
        }
        for picture, caption, name in zip(pictures, captions, names, strict=True)
    ]
    tiles.append({"picture": data_uri(draw_map(explanation, FACE)), "caption": "where it moved", "similarity": None})
    terms = [(name.replace("_", " "), explanation.terms[name]) for name in TERMS if name in explanation.terms]
    return {
        "tiles": tiles,
        "terms": terms,
        "score": shown_score(explanation.score),
        "percentile": explanation.percentile,
    }


def _judge(
    scorers: Scorers, method: FaceQualityMethod, contents: Sequence[bytes], kind: str, faces: str
) -> list[JudgedFace]:
    return list(scorers.judge(method, contents, scorers.extractor_for(method, kind, faces), threads=0))


def _face(
    scorers: Scorers, method: FaceQualityMethod, content: bytes, face: JudgedFace, one_of_all: bool = False
) -> dict[str, Any]:
    """What is shown of one face."""
    record: FaceQualityRecord = face.record
    assert face.crop is not None
    crop = Image.fromarray(face_to_pixels(_canonical(scorers, content, face.crop).pixel_values))
    return {
        "number": record.face + 1,
        "numbered": one_of_all and (record.num_faces or 1) > 1,
        "crop": data_uri(crop, exact=True),
        "error": record.error,
        "score": None if record.error is not None else shown_score(record.score),
        "percentile": record.percentile if record.error is None else None,
        "sentences": [] if record.error is not None else meaning(record, method.usable_calibration()),
        "reasons": why_low(record, one_of_all),
    }


def _canonical(scorers: Scorers, content: bytes, crop: FaceCrop) -> FaceCrop:
    """The face at the size of the pipeline, which explains: a method may have another."""
    if crop.pixel_values.shape[1:] == face_size(scorers.extractor):
        return crop
    return scorers.extractor.extract_faces(content, crop.landmarks)[0]


__all__ = ["explained", "one_photograph", "two_photographs"]
