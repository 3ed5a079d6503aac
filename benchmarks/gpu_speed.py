# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What an accelerator makes of the package, in one run: DifFIQA(R) and FR models at growing batches, DifFIQA with the
UNet of its authors in float32, in bfloat16 (the loop stays in float32) and compiled, and whether reading keeps up.

    python benchmarks/gpu_speed.py [--device cuda] [--images 64] [--original CHECKOUT] [--rounds 3] [--output FILE.md]

Without an accelerator it runs on the CPU with small networks and batches, as a check of itself. The large networks
have weights by rule (`tests/fixtures/fill.py`): the speed does not depend on them. `--original` is a checkout of
https://github.com/LSIbabnikz/DifFIQA, which `diffiqa_end_to_end.py` then runs beside ours, on the same device.
"""

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler
from measurement import fill, interleaved_times, machine, synchronize, write_result

from diffiqa_hf import DifFIQAPipeline, DifFIQAUNetModel, FaceImageProcessor, IResNetConfig, IResNetModel
from diffiqa_hf.conversion.networks import load_fr_model, load_quality_model
from diffiqa_hf.inference.folding import fold
from diffiqa_hf.scoring.image_stream import stream_faces
from diffiqa_hf.scoring.threads import cores


FILES = sorted((Path(__file__).resolve().parents[1] / "examples" / "faces").glob("*.jpg"))
# A batch twice as large has to bring so much, or the smaller one is the best.
WORTH = 1.03
SMALL = {"dim": 16, "dim_mults": (1, 2)}


def best_batch(network: torch.nn.Module, device: torch.device, dtype: torch.dtype, most: int) -> tuple[int, float]:
    """The batch from which on a larger one brings nothing, and its faces per second."""
    network = fold(network).to(device, dtype)
    best, rate = 0, 0.0
    batch = 1
    while batch <= most:
        try:
            faces = torch.zeros(batch, 3, 112, 112, device=device, dtype=dtype)
            seconds = interleaved_times({"": lambda faces=faces: network(faces)}, device, 3, 0.2)[""]
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if batch / seconds > WORTH * rate:
            best, rate = batch, batch / seconds
        batch *= 2
    return best, rate


def networks(device: torch.device) -> dict[str, torch.nn.Module]:
    depths = [3, 13, 30, 3] if device.type != "cpu" else [1, 1, 1, 1]
    large = IResNetModel(IResNetConfig(depths=depths))
    fill(large)
    return {
        "DifFIQA(R) of the package": load_quality_model("default").eval(),
        "FR model of the package": load_fr_model("default").eval(),
        f"FR model IResNet {depths}": large.eval(),
    }


def pipelines(device: torch.device) -> dict[str, DifFIQAPipeline]:
    """DifFIQA with the UNet of its authors, in the forms that an accelerator may be faster with."""
    small = device.type == "cpu"
    fr_model = IResNetModel(IResNetConfig(depths=[1, 1, 1, 1] if small else [3, 13, 30, 3]))
    fill(fr_model)
    forms = {}
    for name in ("float32", "bfloat16", "bfloat16, compiled"):
        torch.manual_seed(0)
        unet = DifFIQAUNetModel(**(SMALL if small else {})).eval().requires_grad_(False)
        scheduler = DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=True, variance_type="fixed_small"
        )
        pipe = DifFIQAPipeline(unet, scheduler, fr_model.eval(), FaceImageProcessor())
        pipe.to(device)
        if name != "float32":
            pipe.unet.to(torch.bfloat16)
        if "compiled" in name:
            if small:
                continue  # there are no CUDA graphs to gain from
            # Shapes that stay the same, so that the graph of a call is recorded once (CUDA graphs).
            pipe.unet = torch.compile(pipe.unet, mode="reduce-overhead", dynamic=False)
        forms[name] = pipe
    return forms


def timed(function: Callable[[], object], device: torch.device, rounds: int) -> float:
    function()
    seconds = []
    for _ in range(rounds):
        synchronize(device)
        start = time.perf_counter()
        function()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def reading(files: list[Path], threads: int | None) -> float:
    """Faces per second that are read, decoded and made canonical, with nothing done with them."""
    start = time.perf_counter()
    count = sum(len(batch) for batch in stream_faces(files, None, FaceImageProcessor(), 256, threads=threads))
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="an accelerator where there is one")
    parser.add_argument("--images", type=int, help="that DifFIQA scores (64; 2 on a CPU)")
    parser.add_argument("--repeats", type=int, help="draws of noise (10; 1 on a CPU)")
    parser.add_argument("--original", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    device = torch.device(args.device or torch.accelerator.current_accelerator(check_available=True) or "cpu")
    small = device.type == "cpu"
    images, repeats = args.images or (2 if small else 64), args.repeats or (1 if small else 10)
    lines = [
        "# On an accelerator" if not small else "# A check of gpu_speed.py on a CPU",
        "",
        f"{machine(device)}.",
        "",
    ]
    lines += ["| network | type | best batch | faces a second |", "|---|---|---|---|"]
    fastest = 0.0
    with torch.no_grad():
        for name, network in networks(device).items():
            for dtype in (torch.float32,) if small else (torch.float32, torch.bfloat16):
                batch, rate = best_batch(network, device, dtype, 4 if small else 4096)
                lines.append(f"| {name} | {str(dtype).removeprefix('torch.')} | {batch} | {rate:,.0f} |")
                fastest = rate if name.startswith("DifFIQA(R)") and dtype == torch.float32 else fastest
    files = list(itertools.islice(itertools.cycle(FILES), 200 if small else 20_000))
    rates = {threads: reading(files, threads) for threads in sorted({1, 2, cores()})}
    said = ", ".join(f"{rate:,.0f} with {threads} threads" for threads, rate in rates.items())
    verdict = "keeps up with" if max(rates.values()) >= fastest else "is slower than"
    lines += ["", f"Crops read a second: {said}; reading {verdict} DifFIQA(R) in float32.", ""]
    lines += [f"DifFIQA, t = 5, n = {repeats}, {images} crops:", "", "| UNet | ms an image | scores differ by |"]
    lines += ["|---|---|---|"]
    crops = list(itertools.islice(itertools.cycle(FILES), images))
    expected = None
    for name, pipe in pipelines(device).items():
        pipe.register_to_config(num_timesteps=5, num_repeats=repeats)
        call = lambda pipe=pipe: pipe(crops).scores  # noqa: E731
        scores = call()
        expected = scores if expected is None else expected
        seconds = timed(call, device, args.rounds)
        difference = float((scores - expected).abs().max())
        lines.append(f"| {name} | {1e3 * seconds / images:.1f} | {difference:.1e} |")
    if args.original is not None:
        command = [sys.executable, str(Path(__file__).with_name("diffiqa_end_to_end.py")), "--original"]
        command += [str(args.original), "--device", str(device), "--images", str(images), "--repeats", str(repeats)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        lines += ["", "## Beside the authors' code", "", done.stdout]
    write_result(args.output, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
