#!/usr/bin/env bash
# torch 2.13.0: a generator for CPUs takes a seed of 64 bits, says it back by initial_seed(), and draws by its lower 32 bits alone:
# manual_seed(s) and manual_seed(s + 2**32) give the same numbers, and so do all seeds that differ in the upper half only. Who makes seeds
# of 64 bits out of a hash, one for each image, so that each has noise of its own, has 2**32 different ones: of 77,000 images two share
# their noise with a probability of one half. The Mersenne Twister in it is the one of 32 bits, whose first initialisation has a word.
# The numbers are those of numpy.random.RandomState(seed & 0xFFFFFFFF): 24 bits of a draw, and Box and Muller over eight pairs of sixteen.
# Seen with Python 3.11 and numpy 2.4.6 on x86-64.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 2>/dev/null
"$folder/venv/bin/python" - <<'P'
import numpy as np
import torch

first, second = (torch.Generator().manual_seed(seed) for seed in (4711, 4711 + 2**32 * 12345))
print("torch", torch.__version__, "seeds", first.initial_seed(), second.initial_seed())
assert first.initial_seed() != second.initial_seed(), "the behaviour has changed"
numbers = torch.randn(1000, generator=first)
same = torch.equal(numbers, torch.randn(1000, generator=second))
print("the same 1000 numbers:", same, "; of seed 4712:", torch.equal(numbers, torch.randn(1000, generator=torch.Generator().manual_seed(4712))))
assert same, "the behaviour has changed"

draws = np.random.RandomState(4711).randint(0, 2**32, 992, dtype=np.uint32) & 0xFFFFFF
pairs = (draws * np.float32(2.0**-24)).reshape(-1, 2, 8)
radius, angle = np.sqrt(-2 * np.log(1 - pairs[:, 0])), 2 * np.pi * pairs[:, 1]
ours = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
print("difference from NumPy's Mersenne Twister:", f"{np.abs(ours[:976] - numbers.numpy()[:976]).max():.0e}")
assert np.abs(ours[:976] - numbers.numpy()[:976]).max() < 1e-5, "the behaviour has changed"
P
