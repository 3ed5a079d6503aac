# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Makes docs/images/scores.jpg, the picture of the README: example faces in the order of their scores by DifFIQA(R), the
default method, below each what DifFIQA makes of it, its noisy and its restored image.

    python docs/make_scores_picture.py
"""

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from diffiqa_hf import DifFIQAPipeline, load_method


ROOT = Path(__file__).parent.parent
COLUMNS, SIDE, GAP, MARGIN = 10, 112, 6, 92


def main() -> None:
    pipe = DifFIQAPipeline.from_pretrained("default")
    files = sorted((ROOT / "examples" / "faces").glob("*.jpg"))
    scores = load_method("diffiqa-r")(files).scores.tolist()
    records = sorted(pipe.stream(files, output_images=True), key=lambda record: -scores[record.index])
    # Evenly spaced ranks, best and worst among them.
    chosen = [records[round(i * (len(records) - 1) / (COLUMNS - 1))] for i in range(COLUMNS)]
    font = ImageFont.load_default(size=15)
    width = MARGIN + COLUMNS * (SIDE + GAP)
    sheet = Image.new("RGB", (width, 3 * (SIDE + GAP) + 26), "white")
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(("face", "noisy", "restored")):
        draw.text((MARGIN - 10, row * (SIDE + GAP) + SIDE // 2), name, fill="black", font=font, anchor="rm")
    draw.text((MARGIN - 10, 3 * (SIDE + GAP) + 10), "score", fill="black", font=font, anchor="rm")
    for column, record in enumerate(chosen):
        x = MARGIN + column * (SIDE + GAP)
        noisy, restored = pipe.image_processor.postprocess(torch.stack([record.noisy, record.restored]))
        for row, picture in enumerate((Image.open(files[record.index]).convert("RGB"), noisy, restored)):
            sheet.paste(picture.resize((SIDE, SIDE)), (x, row * (SIDE + GAP)))
        middle = (x + SIDE // 2, 3 * (SIDE + GAP) + 10)
        draw.text(middle, f"{scores[record.index]:.3f}", fill="black", font=font, anchor="mm")
    sheet.save(ROOT / "docs" / "images" / "scores.jpg", quality=90)


if __name__ == "__main__":
    main()
