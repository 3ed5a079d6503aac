# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""DifFIQA: the card."""

from .card import MethodCard
from .words import CANONICAL, SEEDED


CARD = MethodCard(
    name="diffiqa",
    title="DifFIQA",
    paper="Babnik, Peer and Štruc, DifFIQA: Face Image Quality Assessment Using Denoising Diffusion Probabilistic "
    "Models, IJCB 2023",
    kind="analytical",
    formula="mean over n draws of five cosine similarities to the embedding of the face: noisy, restored, "
    "mirrored, mirrored and noisy, mirrored and restored (Eq. 7)",
    takes=("weights", "fr_model"),
    input=CANONICAL,
    raw_range="[-1, 1]",
    determinism=SEEDED,
    code_license="MIT",
    weights_license="of the authors' UNet none is stated; the weights in this package are for research (its "
    "model card)",
    weights_source="the small pipeline in this package, one of your own training (`training/train_ddpm.py`), or "
    "the authors' model.pt of https://github.com/LSIbabnikz/DifFIQA, converted",
    checked_against="the authors' UNet and sampler on synthetic weights (tests/test_pipeline_parity.py)",
    notes=(
        "where the paper and the authors' code differ, the pipeline's configuration says which is followed "
        "(`preset='paper'` or `'official'`)",
        "`batch_size` counts noisy copies here, not faces",
        "the authors' code adds the noise of index t and restores as from t - 1 (the preset `'official'`): with "
        "the pipeline in this package, on 12 example faces, the scores move by .0008 on average, at most .0018, "
        "where another seed moves them by .004, and the order is the same; with t = 5 and n = 1, on 6 faces, by "
        ".0003 on average, in the same order (benchmarks/bug_effects.py)",
        "it runs the UNet at time 0 twice, which changes nothing but rounding (8e-6 of the score, "
        "benchmarks/results/diffiqa_end_to_end.md) and costs a sixth of the UNet's time",
        "it scores with the raw weights of the UNet, the paper with the averaged ones (EMA); both are in the "
        "authors' file, which was not at hand, so the effect is not measured",
    ),
    training=(
        "`training/train_ddpm.py`",
        "the options are those of the authors' code; the UNet2DModel and its width are ours (theirs has 143 M "
        "parameters: `--unet_config`)",
        "the paper names neither the schedule of the noise (in their code: cosine) nor the faces (CelebA)",
    ),
    options=(
        "preset",
        "num_timesteps",
        "num_inference_steps",
        "num_repeats",
        "use_flip",
        "use_forward",
        "use_backward",
    ),
    method="diffiqa:DifFIQAMethod",
)

__all__ = ["CARD"]
