# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""ONNX Runtime in the place of torch: the same scores, terms, percentiles and records, for all one-pass methods."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffiqa_hf import FaceImageProcessor, fit_calibration
from diffiqa_hf.default_weights import QUALITY_MODEL
from diffiqa_hf.face_check import FaceCheck
from diffiqa_hf.fingerprints import fingerprint
from diffiqa_hf.images.extraction import FaceExtractor
from diffiqa_hf.inference.onnx_session import OnnxError, OnnxNetwork
from diffiqa_hf.methods import CARDS, get_card, load_method
from diffiqa_hf.scoring.onnx_forms import FORM_NAME, source_digest


onnx = pytest.importorskip("onnx", reason='export to ONNX needs pip install "diffiqa_hf[onnx]"')
pytest.importorskip("onnxscript", reason='export to ONNX needs pip install "diffiqa_hf[onnx]"')

FACES = sorted((Path(__file__).parents[2] / "examples" / "faces").glob("*.jpg"))
ONE_PASS = [card.name for card in CARDS if card.one_pass]
# Whose form is made here: DifFIQA(R) and CR-FIQA have the same network, and so have the two norms.
MADE = [name for name in ONE_PASS if name not in ("diffiqa-r", "embedding-norm")]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """The forms go into a folder of these tests."""
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HOME", str(tmp_path_factory.mktemp("cache")))
        yield Path(constants.HF_HOME) / "diffiqa_hf" / "onnx"


@pytest.fixture(scope="module")
def both(make_network, cache):
    """A method in torch and in ONNX Runtime; a form is made once for all tests."""
    known = {}

    def load(name: str):
        if name not in known:
            network = make_network(name)
            if name == "clib-fiqa":  # which resizes faces of another size than its own
                config = type(network.config).from_dict(network.config.to_dict() | {"crop_size": [112, 112]})
                torch.manual_seed(0)
                network = type(network)(config).eval()
            argument = "weights" if "weights" in get_card(name).takes else "fr_model"
            methods = [load_method(name, **{argument: network}, engine=engine) for engine in ("torch", "onnx")]
            size = methods[1].onnx.face_size
            methods[0].image_processor = FaceImageProcessor(size)
            methods[1].image_processor = FaceExtractor(size)
            known[name] = methods
        return known[name]

    return load


def test_the_registry_says_which_are_one_pass():
    assert {"diffiqa-r", "ediffiqa", "cr-fiqa", "sdd-fiqa", "lightqnet", "faceqnet", "pcnet", "pfe", "magface"} <= {
        *ONE_PASS
    }
    assert "clib-fiqa" in ONE_PASS and not {"diffiqa", "faceqgen", "ser-fiq", "faceqan", "froq"} & {*ONE_PASS}
    with pytest.raises(ValueError, match="more than one forward pass"):
        load_method("faceqgen", engine="onnx", weights="x")
    with pytest.raises(ValueError, match="engine is one of auto, torch, onnx, not 'tensorrt'"):
        load_method("diffiqa-r", engine="tensorrt")


@pytest.mark.parametrize("name", MADE)
def test_scores_terms_and_records_are_those_of_torch(both, name):
    in_torch, in_onnx = both(name)
    assert (in_torch.engine, in_onnx.engine) == ("torch", "onnx")
    images = [*FACES[:5], "no such file", np.zeros((8, 8, 3), np.uint8)]
    expected, found = in_torch(images), in_onnx(images)
    scale = max(1.0, float(expected.scores.nan_to_num().abs().max()))
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5 * scale, rtol=0, equal_nan=True)
    assert found.errors == expected.errors and found.terms.keys() == expected.terms.keys()
    for term, values in expected.terms.items():
        torch.testing.assert_close(found.terms[term], values, atol=1e-5 * scale, rtol=0, equal_nan=True)
    assert in_onnx.term_names() == in_torch.term_names()
    assert fingerprint(in_onnx) == fingerprint(in_torch)
    assert in_onnx.calibration_settings() == in_torch.calibration_settings()


@pytest.mark.parametrize("name", MADE)
def test_opencv_reads_the_form(both, name):
    """In a process of its own: a graph that OpenCV can't read may end it."""
    path = both(name)[1].onnx.path
    height, width = both(name)[1].onnx.face_size
    code = f"""
import cv2, json, numpy
faces = numpy.random.default_rng(0).uniform(-1, 1, (3, 3, {height}, {width})).astype(numpy.float32)
scores = []
for batch in (faces[:1], faces):
    network = cv2.dnn.readNetFromONNX({path!r})
    network.setInput(batch)
    scores.append(network.forward("scores").ravel().tolist())
print(json.dumps(scores))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    faces = np.random.default_rng(0).uniform(-1, 1, (3, 3, height, width)).astype(np.float32)
    expected = OnnxNetwork(path).run(faces)["scores"]
    scale = max(1.0, np.abs(expected).max())
    one, three = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(three, expected, atol=1e-4 * scale, rtol=0)
    np.testing.assert_allclose(one, expected[:1], atol=1e-4 * scale, rtol=0)


def test_scores_do_not_depend_on_the_reading_threads():
    method = load_method("diffiqa-r")
    assert method.engine == "onnx"
    images = [*FACES, "no such file", *FACES]
    scores = []
    for threads in (1, 2, 7):
        method.reading_threads = threads
        records = list(method.stream(images, batch_size=8))
        assert [record.index for record in records] == list(range(len(images)))
        assert [record.index for record in records if record.error] == [len(FACES)]
        scores.append([record.score for record in records])
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


def test_the_packages_weights_have_their_form():
    remedy = "the weights are new: diffiqa export default diffiqa_hf/checkpoints/diffiqa_r/model.onnx"
    form = OnnxNetwork(QUALITY_MODEL / FORM_NAME)
    assert form.metadata["source"] == source_digest(QUALITY_MODEL), remedy
    in_torch, in_onnx = (load_method("diffiqa-r", engine=engine) for engine in ("torch", "onnx"))
    expected, found = in_torch(FACES), in_onnx(FACES)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.percentiles, expected.percentiles, atol=0.05, rtol=0)
    assert fingerprint(in_torch) == fingerprint(in_onnx)
    faces = np.stack([in_torch.image_processor.extract_faces(file)[0].pixel_values for file in FACES])
    known = [FaceCheck.load(engine=engine).probabilities(faces) for engine in ("torch", "auto")]
    np.testing.assert_allclose(*known, atol=1e-5)
    assert isinstance(FaceCheck.load().model, OnnxNetwork)


def test_a_form_of_other_weights_is_not_used(tmp_path, cache, make_network):
    from diffiqa_hf.models import AutoModelForFaceQuality

    folder = tmp_path / "model"
    model = make_network("ediffiqa")
    model.save_pretrained(folder)
    assert load_method("ediffiqa", folder).engine == "torch"  # there is no form
    first = load_method("ediffiqa", folder, engine="onnx")
    assert Path(first.onnx.path).parent == cache and load_method("ediffiqa", folder).engine == "onnx"
    # Beside the weights it is found as well, and it is that of these weights alone.
    os.replace(first.onnx.path, folder / FORM_NAME)
    assert load_method("ediffiqa", str(folder)).onnx.path == str(folder / FORM_NAME)
    other = AutoModelForFaceQuality.from_pretrained(folder)
    with torch.no_grad():
        other.head.score.bias += 1
    other.save_pretrained(folder)
    assert load_method("ediffiqa", folder).engine == "torch"
    (folder / FORM_NAME).write_bytes(b"no ONNX")
    assert load_method("ediffiqa", folder).engine == "torch"


def test_published_onnx_files_are_weights(both, tmp_path, make_network):
    """As OpenCV's zoo and uniface share eDifFIQA: one input, one output, a fixed batch, no word of what it is."""
    in_torch, in_onnx = both("ediffiqa")
    model = onnx.load(in_onnx.onnx.path)
    del model.metadata_props[:]
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    path = tmp_path / "ediffiqa_t.onnx"
    onnx.save(model, path)
    method = load_method("ediffiqa", path)
    assert method.engine == "onnx" and method.term_names() == ()
    torch.testing.assert_close(method(FACES[:5]).scores, in_torch(FACES[:5]).scores, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="is an ONNX file, and torch can't run it"):
        method.model  # noqa: B018
    with pytest.raises(ValueError, match="is an ONNX file, and torch can't run it"):
        load_method("ediffiqa", path, engine="torch")
    # A file that says that it is another network is refused.
    with pytest.raises(ValueError, match="sdd-fiqa is a SDDFIQAForFaceQuality, this is a MobileFaceNetForFaceQuality"):
        load_method("sdd-fiqa", in_onnx.onnx.path)


def test_files_that_are_no_such_network(tmp_path):
    from onnx import TensorProto, helper

    def save(name: str, inputs: list, outputs: list, node) -> Path:
        path = tmp_path / name
        graph = helper.make_graph([node], "g", inputs, outputs)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
        return path

    def value(name: str, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    two = save("two.onnx", [value("a", 1), value("b", 1)], [value("c", 1)], helper.make_node("Add", ["a", "b"], ["c"]))
    many = save(
        "many.onnx",
        [value("x", "n", 3, 112, 112)],
        [value("y", "n", 3 * 112 * 112)],
        helper.make_node("Flatten", ["x"], ["y"]),
    )
    (tmp_path / "page.onnx").write_text("<html>")
    (tmp_path / "none.onnx").write_bytes(b"none at all")
    for name, reason in (
        ("two", "one input of float32 faces .* is needed, it has a"),
        ("page", "an HTML or XML page"),
        ("none", "is no network that ONNX Runtime can read"),
    ):
        with pytest.raises(OnnxError, match=reason):
            load_method("ediffiqa", tmp_path / f"{name}.onnx")
    assert two.exists()
    with pytest.raises(OnnxError, match="gives 37632 numbers for a face, not one score"):
        load_method("ediffiqa", many)(FACES[:1])


def test_weights_of_nan_are_errors_and_calibrations_hold(both):
    in_torch, in_onnx = both("cr-fiqa")
    scores = in_torch(FACES).scores
    calibration = fit_calibration(scores, settings=in_torch.calibration_settings())
    in_torch.calibration = in_onnx.calibration = calibration
    torch.testing.assert_close(in_onnx(FACES).percentiles, in_torch(FACES).percentiles, atol=0.1, rtol=0)
    model = onnx.load(in_onnx.onnx.path)
    weight = next(entry for entry in model.graph.initializer if entry.name.endswith("head.score.weight"))
    weight.CopyFrom(onnx.numpy_helper.from_array(np.full([*weight.dims], np.nan, np.float32), weight.name))
    path = Path(in_onnx.onnx.path).with_name("nan.onnx")
    onnx.save(model, path)
    assert load_method("cr-fiqa", path)(FACES[:1]).errors == ["the score is not finite (NaN or infinite weights?)"]


def test_what_onnx_runtime_does_not_do_torch_does(both):
    method = load_method("diffiqa-r")
    expected = method(FACES[:2]).scores
    assert type(method.model).__name__ == "MobileFaceNetForFaceQuality" and method.engine == "onnx"
    faces = torch.zeros(2, 3, 112, 112)
    torch.testing.assert_close(method.raw_scores(faces, 0)[0], method.to_torch().raw_scores(faces, 0)[0])
    assert method.to("cpu").engine == "onnx" and method.device.type == "cpu"
    assert method.to(dtype=torch.bfloat16).engine == "torch"
    torch.testing.assert_close(method(FACES[:2]).scores, expected, atol=0.05, rtol=0)
    assert load_method("diffiqa-r", dtype=torch.float16).engine == "torch"
    with pytest.raises(ValueError, match="computes in float32"):
        load_method("diffiqa-r", dtype=torch.float16, engine="onnx")
    with pytest.raises(ValueError, match="does not run on cuda"):
        load_method("diffiqa-r", device="cuda", engine="onnx")


COMMAND = """
import sys
from diffiqa_hf.cli import main
status = main(sys.argv[1:])
print([name for name in ("torch", "transformers", "diffusers") if name in sys.modules])
sys.exit(status)
"""


@pytest.mark.parametrize("more", [[], ["--face-check", "refuse", "--iso", "--threads", "3"]])
def test_the_fast_command_imports_no_torch(tmp_path, more):
    for number, file in enumerate(FACES[:3]):
        Image.open(file).save(tmp_path / f"{number}.png")
    output = tmp_path / "scores.csv"
    command = [sys.executable, "-c", COMMAND, "score", "--fast", str(tmp_path), "--output", str(output), *more]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert json.loads(Path(f"{output}.settings.json").read_text())["engine"] == "onnx"
    assert len(output.read_text().splitlines()) == 4


def test_best_shots_need_no_torch(tmp_path):
    command = [sys.executable, "-c", COMMAND, "best", "--fast", "--group-by", "folder", str(FACES[0].parent)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", (done.stdout, done.stderr)
