# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Why a face has its score: the images that it comes from, and a map of where in the face it was decided.

The map is made by integrated gradients (Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017):
the gradient is taken along the straight way from one image to another and multiplied by the way, so that what the
pixels get sums up to the difference of the two ends.

- DifFIQA goes from the face to its restored image, and the quantity is the distance of the embeddings, 1 - cosine. The
  map says where the restoration moved the embedding; its sum is 1 minus the similarity `restored`.
- A quality model such as DifFIQA(R) restores nothing. It goes from the blurred face, which stands in for the restored
  one, to the face, and the quantity is the score. The map says where detail raised or lowered the score; its sum is
  the score minus that of the blurred face.

The plain gradient would not do: the similarity of a face to itself is at its maximum, where the gradient is zero.
Occlusion would put in patches that are in no image, and answer what the network looks at, not what the restoration
did; it is also as coarse as its patches.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from torch.nn.functional import cosine_similarity

from .calibration import Calibration, FNMRLevel
from .image_processing_face import FaceImageProcessor
from .inference.network_views import for_inference, one_at_a_time, output_of
from .pipeline_diffiqa import DifFIQAPipeline


# Of a Gaussian that leaves the shape of a face and no detail, as a share of its height: 4 pixels of 112.
BLUR = 1 / 28
# Points on the way, by the Gauss-Legendre rule. With these the sum of the map is within 1 % of the difference for the
# default weights; the way from a blurred face is longer, and there are no copies to be done as well.
NUM_POINTS = 8
NUM_POINTS_FROM_BLURRED = 16


@dataclass
class FaceExplanation:
    """
    One face and its score.

    Args:
        score (`float`): Quality, higher is better.
        images (`dict[str, torch.FloatTensor]`): Canonical faces (3, H, W), RGB in [-1, 1]. Of DifFIQA `"input"`,
            `"noisy"`, `"restored"`, `"flipped"`, `"noisy_flipped"` and `"restored_flipped"`, the first of the noisy
            copies; of a quality model `"input"` and `"blurred"`.
        terms (`dict[str, float]`): Of DifFIQA, the five similarities of Eq. 7; of a quality model, `"blurred"`, the
            score of that image.
        attribution (`np.ndarray` of shape (H, W)): The map. It sums up to 1 - `terms["restored"]` (mean over all noisy
            copies), above 0 where the restoration moved the embedding away; or to `score - terms["blurred"]`, above 0
            where detail raised the score.
        percentile (`float`, *optional*), level (`FNMRLevel`, *optional*): With a calibration, where the score stands
            in it, and what was measured there.
    """

    score: float
    images: dict[str, torch.Tensor]
    terms: dict[str, float]
    attribution: np.ndarray
    percentile: float | None = None
    level: FNMRLevel | None = field(default=None)


@torch.inference_mode(False)  # it goes by gradients, wherever it is called
def explain(
    model: DifFIQAPipeline | torch.nn.Module,
    image: Any,
    landmarks: Any = None,
    *,
    image_processor: FaceImageProcessor | None = None,
    calibration: Calibration | None = None,
    num_timesteps: int | None = None,
    num_inference_steps: int | None = None,
    num_repeats: int | None = None,
    seed: int = 0,
) -> FaceExplanation:
    """
    Explains the score of one face, of several in an image that of the largest.

    Args:
        model: A [`DifFIQAPipeline`], or a face quality model, whose output has `scores` (B,), as
            [`AutoModelForFaceQuality`] loads it.
        image, landmarks: As for [`DifFIQAPipeline`].
        image_processor (*optional*): Of a quality model; a pipeline has its own.
        calibration (*optional*): Of a quality model; a pipeline has its own.
        num_timesteps, num_inference_steps, num_repeats, seed: As for [`DifFIQAPipeline`]; a quality model has none.

    Raises:
        FaceImageError: The image can't be read, or has no face.
        ValueError: The score is not a number.

    Example:

    ```python
    >>> from diffiqa_hf import DifFIQAPipeline
    >>> from diffiqa_hf.explanation import explain

    >>> explanation = explain(DifFIQAPipeline.from_pretrained("default"), "examples/faces/astronaut.jpg")
    >>> bool(abs(explanation.attribution.sum() - (1 - explanation.terms["restored"])) < 0.001)
    True

    ```
    """
    if isinstance(model, DifFIQAPipeline):
        settings = _Settings(num_timesteps, num_inference_steps, num_repeats)
        with one_at_a_time(model.unet, model.fr_model):
            return _explain_pipeline(model, image, landmarks, settings, seed)
    face = (image_processor or FaceImageProcessor()).extract_faces(image, landmarks)[0].pixel_values
    with one_at_a_time(model):
        return _explain_quality_model(for_inference(model), torch.from_numpy(face), calibration)


class _Settings(NamedTuple):
    num_timesteps: int | None
    num_inference_steps: int | None
    num_repeats: int | None


def _explain_pipeline(
    pipe: DifFIQAPipeline, image: Any, landmarks: Any, settings: "_Settings", seed: int
) -> FaceExplanation:
    crop = pipe.image_processor.extract_faces(image, landmarks)[0]
    # The score of exactly this crop: its landmarks are those that were found in the image.
    points = crop.landmarks
    records = pipe.stream(
        [image],
        None if points is None else [points],
        num_timesteps=settings.num_timesteps,
        num_inference_steps=settings.num_inference_steps,
        num_repeats=settings.num_repeats,
        seed=seed,
        on_error="raise",
    )
    record = next(records)
    records.close()
    if record.error:
        raise ValueError(record.error)

    used = pipe.calibration_settings(*settings)
    t, steps, repeats = (used[name] for name in settings._fields)
    device = pipe._execution_device
    face = torch.from_numpy(crop.pixel_values)
    images = {"input": face, "flipped": face.flip(-1)}
    with torch.no_grad():
        for suffix, count in (("", repeats), ("_flipped", 1)):
            # The same noise that the score had, mirrored face and all (see `DifFIQAPipeline.noise_seeds`).
            seeds = pipe.noise_seeds(face, seed, count, bool(suffix))
            generators = [torch.Generator().manual_seed(value) for value in seeds]
            clean = images["flipped" if suffix else "input"].expand(count, -1, -1, -1)
            noise = randn_tensor(clean.shape, generator=generators, dtype=torch.float32)
            noisy = pipe.forward_process(clean.to(device), t, noise.to(device))
            restored = pipe.backward_process(noisy, t, steps, generators)
            images["noisy" + suffix], images["restored" + suffix] = noisy[0].cpu(), restored[0].cpu()
            if not suffix:
                copies = restored
        reference = pipe.embed(face[None].to(device))
    pipe.maybe_free_model_hooks()
    maps = integrated_gradients(
        lambda faces: 1 - cosine_similarity(reference, pipe.embed(faces)), face.to(device).expand_as(copies), copies
    )
    pipe.maybe_free_model_hooks()
    calibration, percentile = pipe.calibration, record.percentile
    level = None if calibration is None or percentile is None else calibration.level(percentile)
    return FaceExplanation(record.score, images, record.terms, maps.mean(0).numpy(), percentile, level)


def _explain_quality_model(
    model: torch.nn.Module, face: torch.Tensor, calibration: Calibration | None
) -> FaceExplanation:
    sigma = BLUR * face.shape[1]
    blurred = torch.from_numpy(gaussian_filter(face.numpy(), (0, sigma, sigma), mode="nearest"))
    device = next(model.parameters()).device

    def score(faces: torch.Tensor) -> torch.Tensor:
        return output_of(model, faces, "scores").float()

    with torch.no_grad():
        scores = score(torch.stack([face, blurred]).to(device)).cpu()
    if not scores.isfinite().all():
        raise ValueError("the score is not finite (NaN or infinite weights?)")
    maps = integrated_gradients(score, blurred[None].to(device), face[None].to(device), NUM_POINTS_FROM_BLURRED)
    percentile = level = None
    if calibration is not None:
        percentile = float(calibration.percentiles(scores[0]))
        level = calibration.level(percentile)
    return FaceExplanation(
        scores[0].item(),
        {"input": face, "blurred": blurred},
        {"blurred": scores[1].item()},
        maps[0].numpy(),
        percentile,
        level,
    )


def integrated_gradients(
    function: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    end: torch.Tensor,
    num_points: int = NUM_POINTS,
) -> torch.Tensor:
    """
    What each pixel has in `function(end) - function(start)`.

    Args:
        function: Faces `(B, 3, H, W)` to numbers `(B,)`, differentiable.
        start, end (`torch.FloatTensor` of shape `(B, 3, H, W)`): The ends of the way.
        num_points: How many points of the way are looked at. With more, the sums come closer to the difference.

    Returns:
        `torch.FloatTensor` of shape `(B, H, W)` on the CPU, the sum over the channels.
    """
    points, weights = np.polynomial.legendre.leggauss(num_points)
    way = end - start
    gradient = torch.zeros_like(way)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        faces = (start + point * way).detach().requires_grad_()
        with torch.enable_grad():
            gradient += weight * torch.autograd.grad(function(faces).sum(), faces)[0]
    return (way * gradient).sum(1).float().cpu()


# -- the picture ------------------------------------------------------------------------------------------------------

FACE, GAP, MARGIN, BAR, CAPTION, TITLE = 144, 16, 24, 5, 46, 78  # pixels
INK, GREY, RAIL, PAPER = (30, 30, 34), (118, 118, 126), (233, 233, 236), (255, 255, 255)
RED, BLUE, GREEN = (202, 48, 44), (38, 98, 190), (58, 150, 98)
CELLS = {
    "input": "the face",
    "noisy": "noisy",
    "restored": "restored",
    "flipped": "mirrored",
    "noisy_flipped": "noisy",
    "restored_flipped": "restored",
    "blurred": "blurred",
}


def draw_explanation(explanation: FaceExplanation, title: str = "", note: str = "") -> Image.Image:
    """
    One picture of it: the images with their numbers, the score, and the map over the face.

    Red is where the map is above 0, blue where it is below, over the grey face, smoothed by a Gaussian of 2.5 % of
    the face; the strongest colour is the strongest place of this picture.

    Args:
        title: Its first line, ASCII (Pillow's own font has no more).
        note: What the line of the score begins with, such as the score of another method.
    """
    diffiqa = "restored" in explanation.images
    names = [name for name in CELLS if name in explanation.images]
    columns = 3 if diffiqa else 1
    rows = -(-len(names) // columns)
    large = rows * (FACE + BAR + CAPTION) - BAR - CAPTION
    left = columns * (FACE + GAP)
    width = 2 * MARGIN + left + large
    height = TITLE + large + BAR + CAPTION + MARGIN
    picture = Image.new("RGB", (width, height), PAPER)
    canvas = ImageDraw.Draw(picture)
    fonts = {size: ImageFont.load_default(size) for size in (12, 14, 17, 19)}
    canvas.text((MARGIN, 14), _fitted(title, fonts[19], width - 2 * MARGIN), INK, fonts[19])
    headline = f"{note}   |   {_headline(explanation)}" if note else _headline(explanation)
    canvas.text((MARGIN, 44), _fitted(headline, fonts[14], width - 2 * MARGIN), GREY, fonts[14])

    for i, name in enumerate(names):
        x = MARGIN + (i % columns) * (FACE + GAP)
        y = TITLE + (i // columns) * (FACE + BAR + CAPTION)
        picture.paste(_as_picture(explanation.images[name]).resize((FACE, FACE), Image.Resampling.BICUBIC), (x, y))
        y += FACE
        if diffiqa and name in explanation.terms:
            # The bar is the similarity itself, from 0 to 1.
            canvas.rectangle((x, y, x + FACE - 1, y + BAR - 1), RAIL)
            filled = round(max(0.0, min(1.0, explanation.terms[name])) * FACE)
            if filled:
                canvas.rectangle((x, y, x + filled - 1, y + BAR - 1), GREEN)
        value = explanation.terms.get(name, explanation.score if not diffiqa else None)
        if value is not None:
            text = f"{value:.4f}"
            canvas.text((x + FACE - fonts[14].getlength(text), y + BAR + 4), text, INK, fonts[14])
        canvas.text((x, y + BAR + 4), CELLS[name], GREY, fonts[14])

    x = MARGIN + left
    picture.paste(draw_map(explanation, large), (x, TITLE))
    if diffiqa:
        heading, total = "where the restoration moved the embedding", "1 - restored"
        keys = ((RED, "away from the face's own"), (BLUE, "back towards it"))
    else:
        heading, total = "where detail changed the score", "face - blurred"
        keys = ((RED, "raised it"), (BLUE, "lowered it"))
    y = TITLE + large + BAR + 4
    canvas.text((x, y), heading, INK, fonts[14])
    y += 20
    total = f"sum: {total} = {explanation.attribution.sum():.4f}"
    canvas.text((x, y + 16), total, GREY, fonts[12])
    for colour, text in keys:
        canvas.rectangle((x, y + 3, x + 9, y + 12), colour)
        canvas.text((x + 14, y), text, GREY, fonts[12])
        x += 14 + round(fonts[12].getlength(text)) + 12
    return picture


def draw_map(explanation: FaceExplanation, size: int) -> Image.Image:
    """The map over the grey face, `size` pixels square; the colours are those of [`draw_explanation`]."""
    values = gaussian_filter(explanation.attribution.astype(np.float64), 0.025 * len(explanation.attribution))
    largest = np.abs(values).max()
    values = values / largest if largest > 0 else values
    height, width = values.shape
    smooth = np.asarray(Image.fromarray(values.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC))
    grey = _as_picture(explanation.images["input"]).convert("L").resize((size, size), Image.Resampling.BICUBIC)
    # Paler than the face is, so that the colours stand out.
    ground = 90 + np.asarray(grey, dtype=np.float64)[..., None] * (165 / 255)
    colour = np.where(smooth[..., None] > 0, np.array(RED), np.array(BLUE))
    opacity = 0.85 * np.clip(np.abs(smooth), 0, 1)[..., None] ** 0.8
    return Image.fromarray(np.round(ground * (1 - opacity) + colour * opacity).astype(np.uint8))


def _headline(explanation: FaceExplanation) -> str:
    parts = [f"score {explanation.score:.4f}"]
    if "restored" in explanation.images:
        parts[0] += f", the mean of the {len(explanation.terms)} similarities to the face"
    if explanation.percentile is not None:
        parts.append(f"percentile {explanation.percentile:.0f}")
    if (level := explanation.level) is not None and level.fnmr == level.fnmr:
        parts.append(f"expected FNMR {100 * level.fnmr:.2g} % ({level.errors} of {level.pairs} pairs)")
    return "   |   ".join(parts)


def _as_picture(face: torch.Tensor) -> Image.Image:
    return FaceImageProcessor().postprocess(face[None])[0]


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


__all__ = ["FaceExplanation", "draw_explanation", "draw_map", "explain", "integrated_gradients"]
