# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Draws what the trust panel makes of a face: a row for each kind of damage, from the clean face to the strongest.

    python docs/make_trust_picture.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

from diffiqa_hf.evaluation.trust import DAMAGES, STRENGTHS, damage


ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    face = np.array(Image.open(ROOT / "examples" / "faces" / "astronaut.jpg").convert("RGB"))
    rows = [np.concatenate([face, *(damage(face, kind, at) for at in STRENGTHS)], 1) for kind in DAMAGES]
    half = len(rows) // 2
    picture = np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], 1)
    Image.fromarray(picture).save(ROOT / "docs" / "results" / "trust" / "panel.jpg", quality=88)


if __name__ == "__main__":
    main()
