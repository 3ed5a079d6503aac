# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Where the faces of a photograph are, so that the same face is found at the same place whatever the size of the picture,
and whichever way up it is.

YuNet's points depend on how large the face is in its input: by themselves they moved DifFIQA(R)'s score of one
photograph of LFW, at 200 to 2,000 pixels, by a standard deviation of .021, a quarter of that between people. So each
face that counts is looked at again, upright, at the scale of the canonical face and as its mirror image, twice: that
leaves .004. And on its side or its head a face is found badly rather than not at all, so that a doubtful detection is
compared with those of the picture turned by quarters.
"""

import numpy as np

from ..alignment import (
    ARCFACE_TEMPLATE,
    TEMPLATE_SIZE,
    FaceDetection,
    YuNetFaceDetector,
    align_face,
    similarity_transform,
)


# A face is looked at again as a canonical one with so many pixels around it, so often.
MARGIN = 40
SIDE = TEMPLATE_SIZE + 2 * MARGIN
LOOKS = 2
MIRRORED = [1, 0, 2, 4, 3]  # which of the five points each is in a mirror image
# Below this a detection is doubtful: 64 photographs of LFW have .918 to .949 upright, .915 at most on their heads, and
# .863 on their sides.
DOUBTFUL = 0.92
# By so much the best detection of a turned picture has to be better than that of the picture as it is.
CLEARLY = 0.01


def find_faces(detector: YuNetFaceDetector, picture: np.ndarray) -> list[FaceDetection]:
    """
    Finds the faces of a picture, whichever way up it is.

    Args:
        detector: Finds faces that are upright.
        picture (`np.ndarray` of shape (H, W, 3)): RGB, uint8.

    Returns:
        `list[FaceDetection]`: largest box first, in pixels of the picture; empty where there is no face. The points
        are in the order of the template, so that they say which way up the face is.
    """
    found = detector.detect(picture)
    best = max((face.score for face in found), default=0.0)
    if best < DOUBTFUL:
        best += CLEARLY if found else 0.0
        for quarters in (2, 1, 3):
            turned = detector.detect(np.ascontiguousarray(np.rot90(picture, quarters)))
            if (score := max((face.score for face in turned), default=0.0)) > best:
                best = score
                found = [_turned_back(face, picture.shape[:2], quarters) for face in turned]
    return found


def _turned_back(face: FaceDetection, size: tuple[int, int], quarters: int) -> FaceDetection:
    """A face of `np.rot90(picture, quarters)`, in pixels of the picture of this height and width."""
    points, (x, y, width, height) = face.landmarks, face.box
    corners = np.array([[x, y], [x + width, y + height]])
    for turn in range(quarters, 0, -1):
        # Columns of the picture before the last quarter are rows of the one after it, counted from below.
        wide = size[1] if turn % 2 else size[0]
        points = np.stack([wide - 1 - points[:, 1], points[:, 0]], 1)
        corners = np.stack([wide - corners[:, 1], corners[:, 0]], 1)
    box = np.concatenate([corners.min(0), np.ptp(corners, axis=0)])
    return FaceDetection(points.astype(np.float32), box.astype(np.float32), face.score)


def look_again(detector: YuNetFaceDetector, picture: np.ndarray, face: FaceDetection) -> FaceDetection:
    """
    The same face with points that hold still: those of detections of the face, upright and at one scale, and of its
    mirror image. Where it is not found there, it stays as it is.

    Args:
        detector, picture: As for [`find_faces`].
        face: Of the picture, in its pixels.
    """
    points, score = face.landmarks.astype(np.float64), face.score
    for _ in range(LOOKS):
        try:
            matrix = similarity_transform(points, ARCFACE_TEMPLATE + MARGIN)
            square = align_face(picture, points, margin=MARGIN)
        except ValueError:  # points that are no face's
            return face
        found = []
        for mirrored in (False, True):
            seen = detector.detect(np.ascontiguousarray(square[:, ::-1]) if mirrored else square)
            near = [other for other in seen if _is_in_the_middle(other)]
            if near:
                again = max(near, key=lambda other: other.score)
                places = again.landmarks.astype(np.float64)
                if mirrored:
                    places = np.stack([SIDE - 1 - places[:, 0], places[:, 1]], 1)[MIRRORED]
                found.append(places)
                score = max(score, again.score)
        if not found:
            break
        points = (np.mean(found, axis=0) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    return FaceDetection(points.astype(np.float32), face.box, score)


def _is_in_the_middle(face: FaceDetection) -> bool:
    middle = face.box[:2] + face.box[2:] / 2
    return bool(np.abs(middle - SIDE / 2).max() < SIDE / 6)


__all__ = ["find_faces", "look_again"]
