# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Files that are nearly right: each is read, or refused by an error whose message is one line."""

import json
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.fill import fill_state_dict
from fixtures.networks import make_scheduler
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from diffiqa_hf import (
    DifFIQAPipeline,
    DifFIQAUNetModel,
    FaceImageProcessor,
    IResNetConfig,
    IResNetForFaceQuality,
    IResNetModel,
)
from diffiqa_hf.calibration import Calibration, find_calibration, fit_calibration
from diffiqa_hf.conversion.checkpoint import load_foreign
from diffiqa_hf.conversion.loading import CheckpointError
from diffiqa_hf.conversion.networks import load_fr_model, load_quality_model
from diffiqa_hf.methods import load_method
from diffiqa_hf.methods.regression import method_of
from diffiqa_hf.models.loading import named_faults


TINY = {"depths": [1, 1, 1, 1], "widths": [8, 8, 8, 8], "embedding_size": 16}
# In the default run a few examples of each, the same ones each time.
MANY = pytest.mark.parametrize("examples", [12, pytest.param(10_000, marks=pytest.mark.slow)])
SLACK = 64 << 20  # bytes that a reader may hold beside what the file has; no file here has more than one MiB


def run(examples: int, check, *strategies) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=checks)(
        given(*strategies)(check)
    )()


# -- foreign files ----------------------------------------------------------------------------------------------------


def tensors() -> dict[str, torch.Tensor]:
    shapes = {name: tensor.shape for name, tensor in IResNetModel(IResNetConfig(**TINY)).state_dict().items()}
    return fill_state_dict(shapes)


def make_safetensors(folder: Path) -> Path:
    save_file(tensors(), folder / "a.safetensors")
    return folder / "a.safetensors"


def make_zip(folder: Path) -> Path:
    torch.save({"state_dict": tensors(), "epoch": 1}, folder / "a.pth")
    return folder / "a.pth"


def make_pickle(folder: Path) -> Path:
    torch.save({"state_dict": tensors()}, folder / "b.pth", _use_new_zipfile_serialization=False)
    return folder / "b.pth"


def make_mxnet(folder: Path) -> Path:
    from conversion.dialects.test_mxnet import make_arrays, params

    (folder / "a.params").write_bytes(params(make_arrays()))
    return folder / "a.params"


def make_graph(folder: Path) -> Path:
    from methods.test_lightqnet import make_arrays, make_graph

    (folder / "a.pb").write_bytes(make_graph(make_arrays()))
    return folder / "a.pb"


def make_bundle(folder: Path) -> Path:
    from conversion.dialects.test_pfe import make_arrays, write

    return Path(write(folder, make_arrays()))


def make_keras(folder: Path) -> Path:
    pytest.importorskip("h5py", reason="needs h5py: pip install 'diffiqa-hf[keras]'")
    from conversion.dialects.test_faceqnet import make_layers, write

    return Path(write(folder / "a.h5", make_layers()))


MAKERS = [make_safetensors, make_zip, make_pickle, make_mxnet, make_graph, make_bundle, make_keras]


@st.composite
def damages(draw) -> tuple[float | None, list[tuple[bool, float, int]]]:
    """Where the file ends, and bytes that are others, half of them in its first 4096: places are fractions."""
    place = st.floats(0, 1, exclude_max=True)
    end = draw(st.none() | place)
    return end, draw(st.lists(st.tuples(st.booleans(), place, st.integers(0, 255)), max_size=8))


def damaged(content: bytes, damage: tuple[float | None, list[tuple[bool, float, int]]]) -> bytes:
    end, changes = damage
    content = bytearray(content if end is None else content[: int(end * len(content))])
    for early, place, value in changes:
        if content:
            content[int(place * (min(len(content), 4096) if early else len(content)))] = value
    return bytes(content)


@MANY
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__.removeprefix("make_"))
def test_damaged_foreign_files(tmp_path, make, examples):
    path = make(tmp_path)
    dialect = "insightface" if make in (make_safetensors, make_zip, make_pickle) else None
    load_foreign(path, dialect)
    content = path.read_bytes()

    def check(damage) -> None:
        path.write_bytes(damaged(content, damage))
        tracemalloc.start()
        try:
            load_foreign(path, dialect)
        except CheckpointError as error:
            assert len(str(error).strip().splitlines()) == 1
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < SLACK

    run(examples, check, damages())


# -- what is in JSON --------------------------------------------------------------------------------------------------


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 300) | st.floats() | st.text(max_size=8),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=6,
)


def places(value, path=()) -> list[tuple]:
    """The paths to all that is in a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in inside for place in places(part, (*path, key)))]


def replaced(value, path: tuple, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def changed(content: bytes) -> st.SearchStrategy[bytes]:
    """The JSON with one value that is another, or damaged as a file."""
    value = json.loads(content)
    others = st.builds(lambda place, new: replaced(value, place, new), st.sampled_from(places(value)), VALUES)
    return others.map(lambda other: json.dumps(other).encode()) | damages().map(lambda x: damaged(content, x))


def check_json(examples: int, path: Path, load, use) -> None:
    """Whatever stands in the file, it is loaded or not, and what is loaded does its work or says why not."""
    content = path.read_bytes()

    def check(other: bytes) -> None:
        path.write_bytes(other)
        try:
            loaded = load()
        except Exception as error:  # the commands say its first line
            assert str(error).strip() or isinstance(error, MemoryError)
            return
        with suppress(OSError, ValueError, RuntimeError):  # of which the commands make a line
            use(loaded)

    try:
        run(examples, check, changed(content))
    finally:
        path.write_bytes(content)


@MANY
def test_calibrations(tmp_path, examples):
    scores = torch.linspace(0, 1, 40)
    embeddings = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    people, measured = [i // 4 for i in range(40)], {"weights": {"a": "b"}}
    fitted = fit_calibration(scores, embeddings, people, fmr=0.1, settings=measured)
    fitted.save_pretrained(tmp_path)
    path = tmp_path / "calibration.json"
    content = path.read_bytes()

    def check(other: bytes) -> None:
        path.write_bytes(other)
        try:
            found = find_calibration(tmp_path)
        except ValueError as error:
            assert len(str(error).splitlines()) == 1 and str(path) in str(error)
        else:  # whatever it holds then, it serves
            assert isinstance(found, Calibration)
            assert found.percentiles(0.5) >= 0
            found.misfit({"weights": {"a": "c"}}), found.expected_fnmr([50]), found.to_dict()

    run(examples, check, changed(content))


FACE = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)


@MANY
def test_processors(tmp_path, examples):
    FaceImageProcessor().save_pretrained(tmp_path)

    def load() -> FaceImageProcessor:
        with named_faults(tmp_path):
            return FaceImageProcessor.from_pretrained(tmp_path)

    check_json(examples, tmp_path / "preprocessor_config.json", load, lambda loaded: loaded.extract_faces(FACE))


@MANY
@pytest.mark.parametrize("kind", [IResNetModel, IResNetForFaceQuality])
def test_configurations(tmp_path, kind, examples):
    model = kind(IResNetConfig(**TINY))
    model.load_state_dict(fill_state_dict({name: tensor.shape for name, tensor in model.state_dict().items()}))
    model.save_pretrained(tmp_path)

    def load():
        if kind is IResNetModel:
            return load_method("embedding-norm", fr_model=load_fr_model(tmp_path))
        return method_of(load_quality_model(tmp_path))

    check_json(examples, tmp_path / "config.json", load, lambda loaded: loaded([FACE]))


# Of the parts' configurations fewer when slow: most of what is drawn still scores a face, in a third of a second.
PIPELINE_FILES = {"model_index.json": 10_000, "unet/config.json": 1000, "scheduler/scheduler_config.json": 1000}
PIPELINES = [
    ("model_index.json", 3),
    *(pytest.param(name, count, marks=pytest.mark.slow) for name, count in PIPELINE_FILES.items()),
]


@pytest.mark.parametrize(("name", "examples"), PIPELINES)
def test_pipelines(tmp_path, name, examples):
    unet = DifFIQAUNetModel(dim=8, dim_mults=(1, 1, 1, 1))  # its attention is over 14x14 places, not 112x112
    scheduler = make_scheduler()
    fr_model = IResNetModel(IResNetConfig(**TINY))
    fr_model.load_state_dict(tensors())
    steps = {"num_timesteps": 1, "num_repeats": 1}
    DifFIQAPipeline(unet, scheduler, fr_model, FaceImageProcessor(), **steps).save_pretrained(tmp_path)
    check_json(
        examples,
        tmp_path / name,
        lambda: DifFIQAPipeline.from_pretrained(tmp_path),
        lambda loaded: loaded([FACE], **steps),
    )
