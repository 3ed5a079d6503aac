# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
`diffiqa score` against the loop around ONNX Runtime that a person writes (`plain_onnx_loop.py`), and against another
checkout of this package: whole processes, from the command to the table, that take turns.

    python benchmarks/engine_speed.py CROPS [--photographs DIR --detector YUNET.onnx] [--large DIR] [--ediffiqa FOLDER]
        [--old CHECKOUT] [--many 30000] [--rounds 5] [--busy] [--output benchmarks/results/engine_speed.md]

CROPS is a folder of aligned 112x112 JPEG files; those of `--many` are links to them. `--ediffiqa` is a folder with
the network of eDifFIQA(T); without it one with weights by rule is made, for the speed does not depend on them. `--old`
is a checkout of another version. `--busy` keeps one processor busy meanwhile. Photographs are of about 640x480,
`--large` ones of 12 megapixels. Before anything is timed, the scores of the command and of the loop are compared.
"""

import argparse
import csv
import datetime
import functools
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
LOOP = Path(__file__).with_name("plain_onnx_loop.py")
BUSY = "while True: pass"
MAKE = """
import sys
from measurement import fill
from diffiqa_hf import MobileFaceNetConfig, MobileFaceNetForFaceQuality
model = MobileFaceNetForFaceQuality(MobileFaceNetConfig(quality_hidden_size=1024, normalize_embedding=True))
fill(model)
model.save_pretrained(sys.argv[1])
"""


def whole_path(name: str) -> Path:
    return Path(name).resolve()


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} processors"


@functools.cache
def compiled(checkout: Path) -> dict[str, str]:
    """The environment of a process of a checkout, whose files are compiled, as `pip install` leaves a package."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(checkout / "diffiqa_hf")], check=True)
    return os.environ | {"PYTHONPATH": str(checkout)}


def timed(command: list[str], checkout: Path = ROOT) -> tuple[float, resource.struct_rusage]:
    """Seconds of a process by the clock, and what it used."""
    environment = compiled(checkout)
    start = time.perf_counter()
    # Python looks for a module of `-m` in the working folder first.
    process = subprocess.Popen(
        command, cwd=checkout, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    error = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)}: {error.decode()[-500:]}")
    return seconds, used


def run(command: list[str], checkout: Path = ROOT) -> tuple[float, float]:
    """Seconds of a process, and the MiB that it had in memory at most."""
    seconds, used = timed(command, checkout)
    return seconds, used.ru_maxrss / 2**10


def score(folder: Path, output: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "diffiqa_hf", "score", str(folder), "--output", str(output), "--quiet"]
    return [*command, "--device", "cpu", *options]


def take_turns(routes: dict[str, Callable[[], tuple[float, float]]], rounds: int) -> dict[str, tuple[float, float]]:
    """By route the median seconds and MiB."""
    found = {name: [] for name in routes}
    for _ in range(rounds):
        for name, route in routes.items():
            found[name].append(route())
            print(f"  {name}: {found[name][-1][0]:.2f} s, {found[name][-1][1]:.0f} MiB", file=sys.stderr)
    return {name: tuple(map(statistics.median, zip(*values, strict=True))) for name, values in found.items()}


def compare(scored: Path, looped: Path) -> float:
    tables = []
    for path in (scored, looped):
        with open(path, newline="") as file:
            tables.append({row["file"]: float(row["score"]) for row in csv.DictReader(file)})
    if tables[0].keys() != tables[1].keys():
        raise SystemExit("the command and the loop scored other files")
    return max(abs(tables[0][name] - tables[1][name]) for name in tables[0])


class Bench:
    def __init__(self, args: argparse.Namespace, folder: Path):
        self.args, self.folder = args, folder
        self.rows: list[str] = []
        self.number = 0

    def new(self, ending: str = ".csv") -> Path:
        self.number += 1
        return self.folder / f"{self.number}{ending}"

    def case(self, name: str, crops: Path, loop: str | None, *options: str, old: bool = True) -> None:
        """One line of the report: the command, and its alternatives."""
        routes = {"diffiqa score": lambda: run(score(crops, self.new(), *options))}
        if loop is not None:
            plain = [sys.executable, str(LOOP), loop, str(crops)]
            routes["plain loop"] = lambda: run([*plain, str(self.new())])
        if self.args.old is not None and old:
            given = [option for option in options if option not in ("--engine", "onnx")]
            routes["old"] = lambda: run(score(crops, self.new(), *given), self.args.old)
        print(name, file=sys.stderr)
        times = take_turns(routes, self.args.rounds)
        seconds, memory = times["diffiqa score"]
        cells = [name, f"{seconds:.2f} s, {memory:.0f} MiB"]
        for other in ("plain loop", "old"):
            if other in times:
                ratio = seconds / times[other][0]
                cells.append(f"{times[other][0]:.2f} s, {times[other][1]:.0f} MiB: {ratio:.2f}")
            else:
                cells.append("")
        self.rows.append(f"| {' | '.join(cells)} |")


def link_many(crops: list[Path], count: int, folder: Path) -> Path:
    folder.mkdir()
    for number in range(count):
        file = crops[number % len(crops)]
        try:
            os.link(file, folder / f"{number:06}_{file.name}")
        except OSError:  # another file system
            shutil.copyfile(file, folder / f"{number:06}_{file.name}")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=whole_path)
    parser.add_argument("--photographs", type=whole_path)
    parser.add_argument("--large", type=whole_path)
    parser.add_argument("--detector", type=whole_path)
    parser.add_argument("--ediffiqa", type=whole_path)
    parser.add_argument("--old", type=whole_path)
    parser.add_argument("--many", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    load = os.getloadavg()[0]
    busy = subprocess.Popen([sys.executable, "-c", BUSY]) if args.busy else None
    try:
        with tempfile.TemporaryDirectory() as name:
            text = measure(args, Path(name), load)
    finally:
        if busy is not None:
            busy.kill()
            busy.wait()
    print(text)
    if args.output is not None:
        args.output.write_text(text, encoding="utf-8")


def measure(args: argparse.Namespace, folder: Path, load: float) -> str:
    bench = Bench(args, folder)
    crops = sorted(args.crops.glob("*.jpg"))
    if not crops:
        raise SystemExit(f"{args.crops}: no .jpg files")
    form = str(ROOT / "diffiqa_hf" / "checkpoints" / "diffiqa_r" / "model.onnx")
    scored, looped = bench.new(), bench.new()
    run(score(args.crops, scored, "--fast"))
    run([sys.executable, str(LOOP), form, str(args.crops), str(looped)])
    difference = compare(scored, looped)
    if not difference < 1e-5:
        raise SystemExit(f"the scores of the command and of the loop differ by {difference:.1e}")
    one = crops[0]
    bench.case("DifFIQA(R), one file", one, form, "--fast")
    bench.case(f"DifFIQA(R), {len(crops):,} crops", args.crops, form, "--fast")
    if args.many:
        many = link_many(crops, args.many, folder / "many")
        bench.case(f"DifFIQA(R), {args.many:,} crops", many, form, "--fast", old=False)
    ediffiqa = args.ediffiqa
    if ediffiqa is None:
        ediffiqa = folder / "ediffiqa_t"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "benchmarks")))}
        subprocess.run([sys.executable, "-c", MAKE, str(ediffiqa)], env=environment, check=True, capture_output=True)
    exported = ediffiqa / "model.onnx"
    run([sys.executable, "-m", "diffiqa_hf", "export", str(ediffiqa), str(exported)])
    options = ("--method", "ediffiqa", "--weights", str(ediffiqa))
    bench.case(f"eDifFIQA(T), {len(crops):,} crops", args.crops, str(exported), *options)
    small = link_many(crops, 24, folder / "small")
    bench.case("DifFIQA, the default pipeline, 24 crops", small, None, "--method", "diffiqa")
    for name, photographs in (("640x480", args.photographs), ("12 megapixels", args.large)):
        if photographs is not None:
            count = len(list(photographs.glob("*.jpg")))
            align = ("--fast", "--align", "--detector", str(args.detector))
            bench.case(f"DifFIQA(R), {count} photographs, {name}, `--align`", photographs, None, *align)
    return report(args, bench, difference, load)


def report(args: argparse.Namespace, bench: Bench, difference: float, load: float) -> str:
    old = ""
    if args.old is not None:
        command = ["git", "-C", str(args.old), "log", "-1", "--format=%h of %as"]
        old = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    versions = json.loads(
        subprocess.run(
            [sys.executable, "-c", VERSIONS], capture_output=True, text=True, check=True, env=os.environ
        ).stdout
    )
    lines = [
        "# From a folder to scores",
        "",
        f"{processor()}; Python {platform.python_version()}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f"; {datetime.date.today():%d %B %Y}; load average before {load:.1f}"
        + ("; one processor kept busy by another process" if args.busy else "")
        + ".",
        "",
        f"Whole processes, from the command to the table: the median of {args.rounds} rounds in which all take turns, "
        "and the memory that a process had at most. All packages are compiled to bytecode, as `pip install` leaves "
        "them. The number after the colon is the time of `diffiqa score` by that "
        "of the alternative. The plain loop is `plain_onnx_loop.py`: OpenCV's imread, one image at a time, ONNX "
        "Runtime as it comes. "
        + (f"The old build is {old}. " if old else "")
        + f"The scores of the command and of the loop differ by {difference:.0e} at most.",
        "",
        "| | `diffiqa score` | plain loop | old build |",
        "|---|---|---|---|",
        *bench.rows,
        "",
        "int8 is left out: on a network of .16 M parameters it was 4.2 to 4.5 times slower with dynamic quantisation, "
        "and 1.09 to 1.25 times faster with static (QDQ), for other scores.",
        "",
    ]
    return "\n".join(lines)


VERSIONS = """
import json
from importlib.metadata import version
print(json.dumps({name: version(name) for name in ("onnxruntime", "torch", "transformers", "diffusers", "pillow")}))
"""


if __name__ == "__main__":
    main()
