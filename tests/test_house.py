# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The plan of the package: which room may import which. Imports are read from the source, those inside functions too. A
module that a string names, as transformers and diffusers name those that they load when asked, is not imported here.
"""

import ast
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
PACKAGE = "diffiqa_hf"

# The definition of an evaluation, which is NumPy alone; what reads files, runs networks and draws is above.
CORE = (
    "areas bootstrap comparison curves edc groups held_out identities orders pair_sampling protocol qualities "
    "reachable thresholds verification"
)
# From the bottom up. A module is of the room with the longest name that its own begins with. It imports modules of its
# own room and of the floors below.
FLOORS = (
    "version default_weights file_utils fingerprints quality_record schedulers losses",
    "pipeline_output",
    "methods.cards",  # data about methods, without code: conversion writes it into the cards of what it converts
    "degradations alignment evaluation.core",
    "images",
    "image_processing_face",
    "models",
    "inference.network_views",
    "calibration",
    "inference conversion",
    "scoring.onnx_forms",
    "face_check",
    "scoring",
    "pipeline_loading",
    "pipeline_diffiqa",
    "methods explanation",
    "transformers_pipeline evaluation",
    "hub",
    "training",
    "training_utils labelling",
    "app",
    "cli",
    "metrics",
    "__init__",
    "__main__ pipelines",
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}


def find_modules() -> dict[str, Path]:
    """By their names below the package; a package itself as `NAME.__init__`."""
    paths = sorted((ROOT / PACKAGE).rglob("*.py"))
    return {".".join(path.relative_to(ROOT / PACKAGE).with_suffix("").parts): path for path in paths}


MODULES = find_modules()


def room_of(module: str) -> str | None:
    if module.removeprefix("evaluation.") in CORE.split():
        return "evaluation.core"
    parts = module.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((name for name in names if name in FLOOR_OF), None)


def imports_of(module: str) -> set[str]:
    """Modules of the package that a module imports, and the names of other packages."""
    found = set()
    package = [PACKAGE, *module.split(".")][:-1]
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first != PACKAGE:
                found.add(first)
                continue
            above = rest.rpartition(".")[0]  # of a name in a module
            places = (rest, f"{rest}.__init__", above, f"{above}.__init__")
            found.add(f"{PACKAGE}:" + next((place for place in places if place in MODULES), "__init__"))
    return found


OURS = {
    module: {name.partition(":")[2] for name in imports_of(module) if name.startswith(f"{PACKAGE}:")} - {module}
    for module in MODULES
}


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_a_room_above_it(module):
    room = room_of(module)
    assert room is not None, f"{module} is in no room: give it a place in FLOORS"
    for other in OURS[module]:
        above = room_of(other)
        assert above == room or FLOOR_OF[above] < FLOOR_OF[room], f"{module} imports {other}"


def test_no_modules_import_each_other_in_a_circle():
    left = {module: set(others) for module, others in OURS.items()}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"a circle, and what leads into it: {', '.join(left)}"


@pytest.mark.parametrize("name", CORE.split())
def test_the_definition_of_an_evaluation_needs_numpy_alone(name):
    others = {other for other in imports_of(f"evaluation.{name}") if not other.startswith(f"{PACKAGE}:")}
    standard = {"__future__", "collections", "contextlib", "dataclasses", "functools", "itertools", "json", "math"}
    assert others <= standard | {"numpy", "typing", "warnings", "zlib"}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("conversion.readers.")])
def test_readers_of_files_know_no_model(module):
    below = {"conversion.errors", "conversion.readers.files", "conversion.readers.protobuf", "file_utils"}
    assert OURS[module] <= below


def test_what_stands_below_the_methods_asks_none():
    for module, others in OURS.items():
        if room_of(module) in ("conversion", "models", "inference", "scoring"):
            assert not [other for other in others if room_of(other) == "methods"]


# Of code, and why a file may have more.
LINES = 510  # about five hundred
LONGER = {
    "diffiqa_hf/pipeline_diffiqa.py": "a pipeline is read in one file, as those of diffusers",
    "benchmarks/methods.py": "a route for each method and its original",
}


def test_files_are_read_whole():
    folders = (PACKAGE, "training", "benchmarks", "docs", "examples")
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        count = len(path.read_text(encoding="utf-8").splitlines())
        assert count <= (600 if name in LONGER else LINES), f"{name} has {count} lines"
