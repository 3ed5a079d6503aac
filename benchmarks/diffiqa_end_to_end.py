# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""DifFIQA from image files to scores, ours and, in the same run, its authors': the scores, and the time by stage.

    python benchmarks/diffiqa_end_to_end.py --original CHECKOUT [--images 3] [--batch-size 5] [--device cpu] \
        [--threads N] [--rounds 1] [--bundled 8] [--output benchmarks/results/diffiqa_end_to_end.md]

`--original` is a checkout of https://github.com/LSIbabnikz/DifFIQA. Its `inference()` runs as it is, with its UNet
(142.9 million parameters) and its 100-layer FR model, t = 5, n = 10, on examples of this repository. The published
weights can't be had without an account, so both networks are filled by the rule of `tests/fixtures/fill.py` (salt "")
and go into ours by our converters. The last normalisation of the FR model then gets the mean and variance that it
meets over the example faces, as a training leaves them: without, a constant outweighs what an embedding says of its
image, and every score is .9998. All that says nothing of faces, and does not have to: time does not depend on the
weights, and equal scores of random networks show equal computations.

What is different for their code from what a user of it has:

- `load_diff` gives their UNet and diffusion with these weights. Theirs builds the whole trainer: optimiser, average,
  a folder of training images and 25 degradations, none of which takes part in a score. It would cost more time.
- The draws of `torch.randn_like` are handed to it ready-made: they are those that ours makes of the pixels of each
  image. This spares it the drawing.
- `Tensor.cuda` does nothing where `--device cpu` asks for the CPU, and torchvision (four transforms, which change
  nothing but the type on these 112x112 images) and ema_pytorch (of which nothing runs) may be missing.

It takes einops, accelerate, SciPy and OpenCV. `--dim 16 --fr iresnet18 --repeats 2 --images 1` is a quick check.
"""

import argparse
import importlib
import pickle
import shutil
import statistics
import sys
import tempfile
import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import yaml
from diffusers import DDPMScheduler
from diffusers.utils.torch_utils import randn_tensor
from measurement import digest, fill, machine, peak_memory, synchronize, write_result
from PIL import Image
from torch import nn

from diffiqa_hf import DifFIQAPipeline, DifFIQAUNetModel, FaceImageProcessor, IResNetModel, pipeline_diffiqa
from diffiqa_hf.conversion.dialects.iresnet import convert_insightface_iresnet
from diffiqa_hf.conversion.dialects.unet import convert_diffiqa_unet
from diffiqa_hf.inference.folding import fold


FACES = Path(__file__).resolve().parents[1] / "examples" / "faces"
STAGES = ("init", "forward", "backward", "FR", "score")
# Milliseconds an image, as the paper's Table 8 has them (one RTX 3090).
PAPER = dict(zip(STAGES, (0.166, 0.192, 842.0, 66.2, 166.3), strict=True))


class Clock:
    """Seconds by stage. What is in no stage but between the first and the last counts as `score`."""

    def __init__(self, device: torch.device):
        self.device = device
        self.reset()

    def reset(self) -> None:
        self.seconds, self.first = defaultdict(float), None

    def timed(self, stage: str, function: Callable) -> Callable:
        def run(*args, **kwargs):
            synchronize(self.device)
            start = time.perf_counter()
            self.first = self.first or start
            result = function(*args, **kwargs)
            synchronize(self.device)
            self.seconds[stage] += time.perf_counter() - start
            return result

        return run

    def stop(self) -> dict[str, float]:
        synchronize(self.device)
        total = time.perf_counter() - self.first
        stages = {stage: self.seconds[stage] for stage in STAGES[:-1]}
        return {**stages, "score": total - sum(stages.values()), "total": total}


# -- the authors' code ------------------------------------------------------------------------------------------------


def import_original(checkout: Path, device: torch.device) -> types.ModuleType:
    """Their `inference.py`."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        _file_fault_torchvision()
    try:
        import ema_pytorch  # noqa: F401
    except ImportError:
        sys.modules["ema_pytorch"] = types.ModuleType("ema_pytorch")
        sys.modules["ema_pytorch"].EMA = None
    if device.type != "cuda":
        torch.Tensor.cuda = lambda tensor, *args, **kwargs: tensor
    sys.path.insert(0, str(checkout / "diffiqa"))
    return importlib.import_module("inference")


def _file_fault_torchvision() -> None:
    class Compose:
        def __init__(self, transforms):
            self.transforms = transforms

        def __call__(self, image):
            for transform in self.transforms:
                image = transform(image)
            return image

    def resize(size):
        return lambda image: image.resize((size[1], size[0]), Image.Resampling.BILINEAR)

    def to_tensor():
        return lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float() / 255

    def normalize(mean, std):
        mean, std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
        return lambda image: (image - mean) / std

    package, transforms, utils = (
        types.ModuleType(name) for name in ("torchvision", "torchvision.transforms", "torchvision.utils")
    )
    transforms.Compose, transforms.Resize, transforms.ToTensor = Compose, resize, to_tensor
    transforms.Normalize = normalize
    utils.make_grid = utils.save_image = None  # imported, and not called in an inference
    package.transforms, package.utils = transforms, utils
    for module in (package, transforms, utils):
        sys.modules[module.__name__] = module


class Original:
    """The authors' `inference()` on a folder of images."""

    def __init__(self, args: argparse.Namespace, folder: Path, clock: Clock):
        self.module = import_original(args.original, clock.device)
        self.clock, self.folder = clock, folder
        configs = args.original / "diffiqa" / "configs"
        train = yaml.safe_load((configs / "train_config.yaml").read_text())
        fr = yaml.safe_load((configs / "fr_config.yaml").read_text())
        self.config = yaml.safe_load((configs / "inference_config.yaml").read_text())["inference"]

        self.unet = self.module.Unet(**{**train["unet_params"], "dim": args.dim})
        fill(self.unet)
        diffusion = self.module.GaussianDiffusion(self.unet, **train["diff_params"]).to(clock.device)
        trainer = types.SimpleNamespace(
            model=diffusion, load=lambda path: None, accelerator=types.SimpleNamespace(device=clock.device)
        )
        if args.fr != "iresnet100":
            fr["fr_model"]["module"] = f"model_weights.iresnet.{args.fr}"
        fr["fr_model"]["weights"] = str(folder.parent / "weights.pth")
        module, _, function = fr["fr_model"]["module"].rpartition(".")
        self.fr_model = getattr(importlib.import_module(module), function)().eval()
        fill(self.fr_model)
        set_last_statistics(self.fr_model)
        torch.save(self.fr_model.state_dict(), fr["fr_model"]["weights"])
        (folder.parent / "fr_config.yaml").write_text(yaml.safe_dump(fr))
        self.config |= {
            "used_timesteps": args.timesteps,
            "repeats": args.repeats,
            "images_loc": str(folder),
            "fr_config": str(folder.parent / "fr_config.yaml"),
            "save_loc": str(folder.parent),
            "verbose": 0,
        }
        self.images_at_once = self.config["batch_size"] // (2 * args.repeats)
        # In the order in which their `os.walk` finds them.
        self.files = self.module.ImageDataset(str(folder), None).items

        diffusion.q_sample = clock.timed("forward", diffusion.q_sample)
        diffusion.ddim_sample_at_t = clock.timed("backward", diffusion.ddim_sample_at_t)
        self.module.load_diff = lambda config: trainer
        construct, read = self.module.construct_full_model, self.module.ImageDataset.__getitem__

        def construct_timed(config):
            fr_model, transform = construct(config)
            fr_model.forward = clock.timed("FR", fr_model.forward)
            return fr_model, transform

        self.module.construct_full_model = construct_timed
        self.module.ImageDataset.__getitem__ = clock.timed("init", read)

    def run(self, draws: list[torch.Tensor]) -> tuple[torch.Tensor, dict[str, float]]:
        """Scores by the order of the file names, and seconds by stage."""
        self.clock.reset()
        with _replayed_draws(draws):
            self.module.inference(self.config)
        seconds = self.clock.stop()
        with open(Path(self.config["save_loc"]) / "quality_scores.pkl", "rb") as file:
            scores = pickle.load(file)  # written a moment ago, by this process
        return torch.tensor([float(scores[name]) for name in sorted(scores)]), seconds


def set_last_statistics(fr_model: nn.Module) -> None:
    """Mean and variance of the last normalisation, over the example faces."""
    processor = FaceImageProcessor()
    inputs = []
    hook = fr_model.features.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    for path in sorted(FACES.glob("*.jpg")):
        fr_model(torch.from_numpy(processor.extract_faces(path)[0].pixel_values)[None])
    hook.remove()
    embeddings = torch.cat(inputs)
    fr_model.features.running_mean.copy_(embeddings.mean(0))
    fr_model.features.running_var.copy_(embeddings.var(0))


@contextmanager
def _replayed_draws(draws: list[torch.Tensor]) -> Iterator[None]:
    original, remaining = torch.randn_like, iter(draws)

    def replay(like: torch.Tensor) -> torch.Tensor:
        draw = next(remaining)
        assert draw.shape == like.shape
        return draw

    torch.randn_like = replay
    try:
        yield
    finally:
        torch.randn_like = original
    assert next(remaining, None) is None, "the authors' code drew less noise than ours"


def noise_draws(pipe: DifFIQAPipeline, original: Original, args: argparse.Namespace) -> list[torch.Tensor]:
    """The draws of our pipeline in the order of theirs: for each batch one for the noisy images, then one a step."""
    draws = []
    for start in range(0, len(original.files), original.images_at_once):
        seeds = []
        files = original.files[start : start + original.images_at_once]
        faces = [torch.from_numpy(pipe.image_processor.extract_faces(file)[0].pixel_values) for file in files]
        for flipped in (False, True):
            for face in faces:
                seeds += pipe.noise_seeds(face, 0, args.repeats, flipped)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        shape = (len(seeds), *faces[0].shape)
        draws += [randn_tensor(shape, generator=generators) for _ in range(args.timesteps)]
        draws.append(torch.zeros(shape))  # the duplicate step draws as well, and gives it no weight
    return [draw.to(original.clock.device) for draw in draws]


# -- ours -------------------------------------------------------------------------------------------------------------


def convert(unet: nn.Module, fr_model: nn.Module) -> tuple[DifFIQAUNetModel, IResNetModel]:
    """Our models with the weights of theirs."""
    arguments, unet_state = convert_diffiqa_unet(unet.state_dict())
    config, fr_state = convert_insightface_iresnet(fr_model.state_dict())
    with torch.device("meta"):
        ours = DifFIQAUNetModel(**arguments).eval(), IResNetModel(config).eval()
    for model, state in zip(ours, (unet_state, fr_state), strict=True):
        model.load_state_dict({name: tensor.clone() for name, tensor in state.items()}, strict=True, assign=True)
    return ours


def build_pipeline(unet: nn.Module, fr_model: nn.Module, args: argparse.Namespace, duplicate: bool) -> DifFIQAPipeline:
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=True, variance_type="fixed_small"
    )
    pipe = DifFIQAPipeline(unet, scheduler, fr_model, FaceImageProcessor())
    pipe.set_preset("official")
    pipe.register_to_config(num_timesteps=args.timesteps, num_repeats=args.repeats, duplicate_last_step=duplicate)
    return pipe.to(args.device)


def run_ours(
    pipe: DifFIQAPipeline, files: list[str], batch_size: int, clock: Clock
) -> tuple[torch.Tensor, dict[str, float]]:
    """Scores in the order of the files, and seconds by stage."""
    clock.reset()
    scores = pipe(files, batch_size=batch_size, on_error="raise").scores
    return scores, clock.stop()


def watch(pipe: DifFIQAPipeline, clock: Clock) -> None:
    """Has the clock run at the pipeline's stages."""
    processor, pipe.reading_threads = pipe.image_processor, 0  # so that reading is a stage of its own
    processor.extract_faces = clock.timed("init", processor.extract_faces)
    pipe.noise_seeds = clock.timed("init", pipe.noise_seeds)
    pipe.forward_process = clock.timed("forward", pipe.forward_process)
    pipe.backward_process = clock.timed("backward", pipe.backward_process)
    pipe.embed = clock.timed("FR", pipe.embed)


def bundled_change(count: int, args: argparse.Namespace) -> str:
    """What bf16 does to the scores of the small pipeline that comes with the package, whose weights are trained."""
    files = [str(path) for path in sorted(FACES.glob("*.jpg"))][:count]
    pipe = DifFIQAPipeline.from_pretrained("default").to(args.device)
    pipe.set_progress_bar_config(disable=True)
    exact = pipe(files, on_error="raise").scores
    changed = pipe.to(torch.bfloat16)(files, on_error="raise").scores
    ranks = [scores.argsort().argsort().double() for scores in (exact, changed)]
    correlation = torch.corrcoef(torch.stack(ranks))[0, 1]
    changes = (changed - exact).abs()
    return (
        f"The pipeline that comes with the package, whose weights are trained, scores {len(files)} of the example "
        f"faces from {exact.min():.4f} to {exact.max():.4f} in float32; bf16 changes a score by {changes.max():.1e} "
        f"at most and by {changes.mean():.1e} on average, and the rank correlation of the two is {correlation:.4f}."
    )


# -- the run ----------------------------------------------------------------------------------------------------------


def measure(args: argparse.Namespace, folder: Path) -> dict[str, dict]:
    device = torch.device(args.device)
    original = Original(args, folder, Clock(device))
    files = sorted(original.files)
    unet, fr_model = convert(original.unet, original.fr_model)

    draws = noise_draws(build_pipeline(unet, fr_model, args, duplicate=True), original, args)
    routes = {"the authors', fp32": lambda: original.run(draws)}
    folded = tuple(fold(model, winograd=device.type == "cpu") for model in (unet, fr_model))
    models = {
        "ours, fp32": folded,
        "ours, bf16": tuple(fold(model).to(torch.bfloat16) for model in (unet, fr_model)),
    }
    pipes = {name: build_pipeline(*pair, args, duplicate=False) for name, pair in models.items()}
    if args.with_duplicate:
        pipes["ours, fp32, with the duplicate step"] = build_pipeline(*folded, args, duplicate=True)
    clock = Clock(device)
    pipeline_diffiqa.randn_tensor = clock.timed("forward", pipeline_diffiqa.randn_tensor)
    for name, pipe in pipes.items():
        watch(pipe, clock)
        routes[name] = lambda pipe=pipe: run_ours(pipe, files, args.batch_size, clock)

    results = {name: {"seconds": [], "memory": []} for name in routes}
    for _ in range(args.rounds):
        for name, route in routes.items():
            outcome = []
            memory = peak_memory(lambda route=route, outcome=outcome: outcome.append(route()), device)
            scores, seconds = outcome[0]
            print(f"{name}: {len(files) / seconds['total']:.4f} images/s, scores {scores.tolist()}", file=sys.stderr)
            results[name]["scores"] = scores
            results[name]["seconds"].append(seconds)
            results[name]["memory"].append(memory)
    return results


def report(results: dict[str, dict], args: argparse.Namespace, files: list[Path], bundled: str | None) -> str:
    theirs = next(iter(results))
    reference = results[theirs]["scores"]
    count = len(files)
    totals = {
        name: statistics.median(seconds["total"] for seconds in result["seconds"]) for name, result in results.items()
    }
    sources = [args.original / "diffiqa" / name for name in ("inference.py", "diffusion_base/diff_unet.py")]
    lines = ["# DifFIQA end to end, beside its authors' code", "", f"{machine(torch.device(args.device))}.", ""]
    lines += [
        f"{count} images, t = {args.timesteps}, n = {args.repeats}, UNet of width {args.dim}, FR model {args.fr}; "
        'both networks filled by the rule of `tests/fixtures/fill.py` (salt ""), the statistics of the FR model\'s '
        "last normalisation from the example faces. Theirs is LSIbabnikz/DifFIQA ("
        + ", ".join(f"`{path.name}` with SHA-256 {digest(path)}..." for path in sources)
        + f"), its `inference()` as it is, {args.images_at_once} images at once; the script says what had to be "
        "worked round. Ours has the `official` switches (noise of index t, restored as t - 1) without the duplicate "
        "step, folded networks (in fp32 on a CPU with Winograd's convolutions), "
        f"batch {args.batch_size}: {2 * args.repeats * args.timesteps} UNet calls and "
        f"{2 + 4 * args.repeats} embeddings an image instead of {2 * args.repeats * (args.timesteps + 1)} and "
        f"{6 * args.repeats}. All routes took turns in one process"
        + (f", {args.rounds} times; medians." if args.rounds > 1 else "."),
        "",
        "## Time",
        "",
        "Milliseconds an image, by the stages of the paper's Table 8 (`forward` with the drawing of our noise; theirs "
        "is ready-made); `score` is all that is in no other stage. Memory is MiB at the peak over what stood before "
        "the run.",
        "",
        f"| route | {' | '.join(STAGES)} | total | images/s | times theirs | memory |",
        "|---" * (len(STAGES) + 5) + "|",
    ]
    for name, result in results.items():
        stages = [1000 / count * statistics.median(s[stage] for s in result["seconds"]) for stage in STAGES]
        memory = "" if None in result["memory"] else f"{max(result['memory']):.0f}"
        lines.append(
            f"| {name} | {' | '.join(f'{value:.3g}' if value < 100 else f'{value:.0f}' for value in stages)} | "
            f"{1000 * totals[name] / count:.0f} | {count / totals[name]:.4f} | {totals[theirs] / totals[name]:.2f} | "
            f"{memory} |"
        )
    paper = " | ".join(f"{PAPER[stage]:g}" for stage in STAGES)
    lines += [f"| the paper's Table 8, RTX 3090 | {paper} | {sum(PAPER.values()):.0f} | | | |", ""]
    lines += ["## Scores", "", f"| image | {' | '.join(results)} |", "|---" * (len(results) + 1) + "|"]
    for i, file in enumerate(files):
        shown = [f"{result['scores'][i]:.6f}" for result in results.values()]
        lines.append(f"| {file.name} | {' | '.join(shown)} |")
    changes = [f"{(result['scores'] - reference).abs().max():.1e}" for result in results.values()]
    lines += [f"| largest difference from theirs | {' | '.join(changes)} |", ""]
    if bundled:
        lines += [bundled, ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--original", type=Path, required=True, help="checkout of LSIbabnikz/DifFIQA")
    parser.add_argument("--images", type=int, default=3, help="example faces; theirs takes 3 at once with n = 10")
    parser.add_argument("--timesteps", type=int, default=5, help="t")
    parser.add_argument("--repeats", type=int, default=10, help="n")
    parser.add_argument("--batch-size", type=int, default=5, help="of ours")
    parser.add_argument("--dim", type=int, default=128, help="width of the UNet")
    parser.add_argument("--fr", default="iresnet100", choices=("iresnet18", "iresnet34", "iresnet50", "iresnet100"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of torch (default: its own)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--with-duplicate", action="store_true", help="also ours with the duplicate step")
    parser.add_argument("--bundled", type=int, default=8, help="example faces for what bf16 costs trained weights")
    parser.add_argument("--output", type=Path, help="a Markdown file for the result")
    args = parser.parse_args()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    args.images_at_once = 64 // (2 * args.repeats)
    faces = sorted(FACES.glob("*.jpg"))[: args.images]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "images"
        folder.mkdir()
        for face in faces:
            shutil.copy(face, folder)
        with torch.no_grad():
            results = measure(args, folder)
    bundled = bundled_change(args.bundled, args) if args.bundled else None
    write_result(args.output, report(results, args, faces, bundled))
    first, *others = results.values()
    for result, name in zip(others, list(results)[1:], strict=True):
        difference = (result["scores"] - first["scores"]).abs().max()
        if "bf16" not in name and not difference < 1e-4:
            raise SystemExit(f"{name}: not the scores of the authors' code, they differ by {difference:.1e}")


if __name__ == "__main__":
    main()
