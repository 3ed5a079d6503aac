# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""DifFIQA in ONNX Runtime: the pipeline's scores, with the same noise, and torch wherever it has to be."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

from diffiqa_hf import (
    DifFIQADiTModel,
    DifFIQAPipeline,
    DifFIQAUNetModel,
    FaceImageProcessor,
    MobileFaceNetConfig,
    MobileFaceNetModel,
)
from diffiqa_hf.cli import main
from diffiqa_hf.default_weights import FR_MODEL, PIPELINE
from diffiqa_hf.face_check import FaceCheck
from diffiqa_hf.fingerprints import fingerprint
from diffiqa_hf.inference.onnx_session import PIPELINE_FORMS
from diffiqa_hf.methods import load_method, onnx_diffiqa
from diffiqa_hf.methods.onnx_diffiqa import OnnxDifFIQA
from diffiqa_hf.scoring.onnx_forms import pipeline_digests, pipeline_form


FACES = sorted((Path(__file__).parents[2] / "examples" / "faces").glob("*.jpg"))[:5]
NOTHING = Path(__file__).parents[2] / "examples" / "faces" / "none.jpg"
TOLERANCE = 1e-4  # of a score: float32 through a UNet and an FR model, and the logarithm of the noise

COMMAND = """
import sys
from diffiqa_hf.cli import main
status = main(sys.argv[1:])
print([name for name in ("torch", "transformers", "diffusers") if name in sys.modules])
sys.exit(status)
"""


@pytest.fixture(scope="module")
def pipe() -> DifFIQAPipeline:
    return DifFIQAPipeline.from_pretrained("default")


@pytest.fixture
def method() -> OnnxDifFIQA:
    method = load_method("diffiqa", engine="onnx", align=False)
    assert isinstance(method, OnnxDifFIQA) and method.engine == "onnx"
    return method


def of_folder(folder, engine: str = "auto") -> OnnxDifFIQA | None:
    """What a command takes of a pipeline's folder."""
    return onnx_diffiqa.load(folder, engine, None, None, lambda: load_method("diffiqa", folder))


def assert_same(found, expected):
    assert [record.index for record in found] == [record.index for record in expected]
    for record, other in zip(found, expected, strict=True):
        assert list(record.terms) == list(other.terms)
        values = [record.score, *record.terms.values()], [other.score, *other.terms.values()]
        np.testing.assert_allclose(*values, rtol=0, atol=TOLERANCE)
        assert record.error == other.error
        for name, tolerance in (("face_probability", 1e-4), ("percentile", 0.5)):
            pair = [getattr(record, name), getattr(other, name)]
            assert (pair[0] is None) == (pair[1] is None)
            np.testing.assert_allclose(*np.array(pair, float), rtol=0, atol=tolerance)  # NaN is NaN


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_timesteps": 4, "num_inference_steps": 4, "num_repeats": 2, "seed": 3},
        {"num_timesteps": 5, "num_inference_steps": 2},
        {"use_flip": False},
        {"use_forward": False},
        {"use_backward": False, "use_flip": False},
        {"use_forward": False, "use_backward": False},
        {"num_repeats": 5, "num_timesteps": 2, "batch_size": 3, "use_flip": None},
    ],
    ids=str,
)
def test_scores_and_terms_are_the_pipelines(method, pipe, settings):
    images = [*FACES[:2], NOTHING, FACES[3]]
    found = list(method.stream(images, **settings))
    assert method.engine == "onnx"
    settings = {name: value for name, value in settings.items() if value is not None}
    assert_same(found, list(pipe.stream(images, **settings)))
    assert found[2].error and not found[0].error


def test_what_scores_depend_on_is_told_alike(method, pipe):
    assert method.calibration_settings() == pipe.calibration_settings()
    settings = {"num_timesteps": 3, "num_repeats": 2, "terms": {"noisy", "flipped"}}
    assert method.calibration_settings(**settings) == pipe.calibration_settings(**settings)
    assert method.known_fingerprint == fingerprint(method) == fingerprint(pipe)
    config = {name: value for name, value in pipe.config.items() if not name.startswith("_")}
    assert json.loads(json.dumps(method.config)) == json.loads(json.dumps(config))
    assert method.term_names() == load_method("diffiqa", engine="torch").term_names()


def test_batches_threads_and_iterators_change_nothing(method):
    expected = [record.score for record in method.stream(FACES)]
    for images, settings in ((FACES, {"batch_size": 1}), (FACES, {"batch_size": 32}), (iter(FACES), {})):
        found = [record.score for record in method.stream(images, **settings)]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    for threads in (1, 3):
        method.reading_threads = threads
        assert [record.score for record in method.stream(FACES)] == expected
    np.testing.assert_allclose(next(method.stream(FACES[2])).score, expected[2], rtol=0, atol=1e-5)
    output = method(FACES)
    assert output.scores.shape == (5,) and output.percentiles is not None


def test_options_and_presets(pipe):
    options = {"num_repeats": 2, "num_timesteps": 3, "preset": "official"}
    there = load_method("diffiqa", engine="torch", align=False, **options)
    here = load_method("diffiqa", engine="onnx", align=False, **options)
    assert here.engine == "onnx" and here.calibration_settings() == there.calibration_settings()
    assert_same(list(here.stream(FACES[:2])), list(there.stream(FACES[:2])))
    with pytest.raises(ValueError, match="unknown preset 'other'"):
        load_method("diffiqa", engine="onnx", preset="other")
    with pytest.raises(ValueError, match="num_repeats has to be a positive integer, got 0"):
        list(load_method("diffiqa", engine="onnx", num_repeats=0, align=False).stream(FACES[:1]))
    with pytest.raises(ValueError, match="nothing is left to compare"):
        list(here.stream(FACES[:1], use_flip=False, use_forward=False, use_backward=False))
    with pytest.raises(TypeError, match="unexpected keyword argument 'output_images'"):
        here.stream(FACES[:1], output_images=True)


def test_in_python_the_pipeline_is_at_hand_unless_the_other_is_asked_for(method):
    assert load_method("diffiqa").engine == "torch" and load_method("diffiqa").pipeline is not None
    assert not hasattr(method, "pipeline")
    faces = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (2, 3, 112, 112)).astype(np.float32))
    expected = load_method("diffiqa").embed(faces).detach()
    assert torch.allclose(method.embed(faces), expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_other_types_sizes_and_networks_are_torchs(method):
    with pytest.raises(ValueError, match="save it with this FR model"):
        load_method("diffiqa", fr_model=FR_MODEL, engine="onnx")
    with pytest.raises(ValueError, match="computes in float32, not in torch.float16"):
        load_method("diffiqa", dtype=torch.float16, engine="onnx")
    with pytest.raises(ValueError, match="runs the pipeline of a folder"):
        load_method("diffiqa", weights=DifFIQAPipeline.from_pretrained("default"), engine="onnx")
    assert method.to("cpu", torch.float32) is method
    with pytest.raises(ValueError, match="not in torch.bfloat16: engine='torch'"):
        method.to(dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="is for faces of 112x112, not 128x128"):
        load_method("diffiqa", engine="onnx", image_processor=FaceImageProcessor(size=128))


def test_a_form_of_other_weights_or_settings_is_not_used(tmp_path):
    def copied(name: str) -> Path:
        return Path(shutil.copytree(PIPELINE, tmp_path / name))

    assert of_folder(copied("copy")) is not None
    pipe = DifFIQAPipeline.from_pretrained(tmp_path / "copy")
    with torch.no_grad():
        pipe.unet.conv_out.bias += 0.25
    pipe.unet.save_pretrained(tmp_path / "copy" / "unet")
    assert of_folder(tmp_path / "copy") is None

    def changed(name: str, file: str, **entries) -> Path:
        path = copied(name) / file
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))
        return tmp_path / name

    assert of_folder(changed("schedule", "scheduler/scheduler_config.json", beta_schedule="linear")) is None
    assert of_folder(changed("ddim", "model_index.json", scheduler=["diffusers", "DDIMScheduler"])) is None
    assert of_folder(changed("class", "model_index.json", unet=["diffusers", "UNet2DConditionModel"])) is None
    assert of_folder(changed("none", "model_index.json", fr_model=[None, None])) is None
    assert of_folder(changed("faces", "image_processor/preprocessor_config.json", resample=3)) is None
    # Shards, which diffusers prefers to a file beside them.
    (copied("shards") / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    assert of_folder(tmp_path / "shards") is None
    for number, content in enumerate(("", "[]", "{", "[" * 100_000)):
        (copied(f"bad{number}") / "model_index.json").write_text(content)
        assert of_folder(tmp_path / f"bad{number}") is None
        with pytest.raises(ValueError, match="is no pipeline whose networks and scheduler ONNX Runtime can run"):
            of_folder(tmp_path / f"bad{number}", "onnx")


def test_what_a_pipeline_does_not_say_is_as_in_torch(tmp_path):
    folder = Path(shutil.copytree(PIPELINE, tmp_path / "copy"))
    index = json.loads((folder / "model_index.json").read_text())
    kept = {name: value for name, value in index.items() if isinstance(value, list) or name.startswith("_")}
    (folder / "model_index.json").write_text(json.dumps(kept))
    settings = of_folder(folder).calibration_settings()
    assert settings == DifFIQAPipeline.from_pretrained(folder).calibration_settings()
    assert (settings["num_timesteps"], settings["num_repeats"]) == (5, 10)


def test_the_face_check_is_there_where_the_pipeline_has_it(tmp_path):
    for folder in ("default", PIPELINE, str(PIPELINE), shutil.copytree(PIPELINE, tmp_path / "copy")):
        checks = [DifFIQAPipeline.from_pretrained(folder).face_check, of_folder(folder).face_check]
        assert (checks[0] is None) == (checks[1] is None)


@pytest.mark.parametrize("name", PIPELINE_FORMS)
def test_a_damaged_form_is_not_used(tmp_path, name):
    shutil.copytree(PIPELINE, tmp_path / "copy")
    path = tmp_path / "copy" / PIPELINE_FORMS[name]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert of_folder(tmp_path / "copy") is None


def test_the_form_of_the_package_is_of_its_weights_and_has_none_itself():
    digest, weights = pipeline_digests(PIPELINE)
    assert pipeline_form(PIPELINE, digest) is not None and set(weights) == set(PIPELINE_FORMS)
    for file in PIPELINE_FORMS.values():
        content = (PIPELINE / file).read_bytes()
        assert len(content) < 300_000 and b"/work" not in content and b"site-packages" not in content


def small_pipeline(unet, scheduler=None) -> DifFIQAPipeline:
    stages = [[16, 8, 1, 2], [16, 8, 1, 2], [16, 8, 1, 2], [16, 8, 1, 1]]
    fr_model = MobileFaceNetModel(
        MobileFaceNetConfig(stages=stages, stem_width=8, stem_groups=8, feature_width=16, embedding_size=8)
    )
    faces = FaceImageProcessor()(FACES, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        for _ in range(20):  # statistics with which the embeddings have a length
            fr_model.train()(faces)
    fr_model.eval()
    return DifFIQAPipeline(
        unet.eval(), scheduler or ddpm(), fr_model, FaceImageProcessor(), num_timesteps=3, num_repeats=2
    )


def ddpm() -> DDPMScheduler:
    return DDPMScheduler(prediction_type="sample", beta_schedule="squaredcos_cap_v2")


UNETS = {
    "UNet2DModel": lambda: UNet2DModel(
        sample_size=112,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ),
    "DifFIQAUNetModel": lambda: DifFIQAUNetModel(dim=8, dim_mults=(1, 2)),
    "DifFIQADiTModel": lambda: DifFIQADiTModel(hidden_size=16, num_layers=1, num_attention_heads=2),
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "diffiqa_hf" / "onnx"


# An export of a UNet takes a minute; that of the package's own is tested above.
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "DifFIQADiTModel" else pytest.mark.slow) for kind in UNETS]
)
def test_a_form_is_made_of_every_kind_of_unet(kind, cache, tmp_path):
    pytest.importorskip("onnxscript", reason='export to ONNX needs pip install "diffiqa_hf[onnx]"')
    torch.manual_seed(0)
    pipe = small_pipeline(UNETS[kind]())
    if kind == "DifFIQADiTModel":  # which begins as the identity
        torch.nn.init.normal_(pipe.unet.proj_out.weight, std=0.02)
    pipe.save_pretrained(tmp_path / "pipe")
    assert of_folder(tmp_path / "pipe") is None
    # The form is of the folder's own image processor, whatever this method has.
    other = FaceImageProcessor(resample=3)
    assert load_method("diffiqa", weights=tmp_path / "pipe", engine="onnx", image_processor=other).engine == "onnx"
    method = load_method("diffiqa", weights=tmp_path / "pipe", engine="onnx", align=False)
    assert method.engine == "onnx" and len(list(cache.iterdir())) == 1
    assert method.known_fingerprint == fingerprint(DifFIQAPipeline.from_pretrained(tmp_path / "pipe"))
    for settings in ({}, {"batch_size": 2}, {"num_inference_steps": 1}):  # batches of 20, 2 and 4
        assert_same(list(method.stream(FACES, **settings)), list(pipe.stream(FACES, **settings)))
    # Once it is there, it is what `auto` takes.
    assert of_folder(tmp_path / "pipe") is not None


def test_ddim_is_torchs(cache, tmp_path):
    scheduler = DDIMScheduler(prediction_type="sample", beta_schedule="squaredcos_cap_v2")
    small_pipeline(UNETS["DifFIQADiTModel"](), scheduler).save_pretrained(tmp_path / "pipe")
    assert of_folder(tmp_path / "pipe") is None
    with pytest.raises(ValueError, match="no pipeline whose networks and scheduler ONNX Runtime can run"):
        load_method("diffiqa", weights=tmp_path / "pipe", engine="onnx")


def test_a_face_check_that_is_set_is_asked():
    """A method of torch did not give it to its pipeline, and went on with its own."""
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    for engine in ("torch", "onnx"):
        method = load_method("diffiqa", engine=engine, align=False)
        assert method.face_check is not None and method.face_check.action == "lower"
        assert next(method.stream(noise)).score < -0.5
        method.face_check = FaceCheck.load(action="refuse")
        assert "does not look like a face" in next(method.stream(noise)).error
        method.face_check = None
        assert next(method.stream(noise)).score > -0.5


def test_the_command_needs_no_torch_and_goes_on_with_a_table_of_torch(tmp_path):
    output = tmp_path / "scores.csv"
    command = ["score", "--method", "diffiqa", "--output", str(output), "--quiet"]
    assert main([*command, "--engine", "torch", *map(str, FACES[:2])]) == 0
    begun = output.read_text().splitlines()
    more = [sys.executable, "-c", COMMAND, *command, "--resume", *map(str, FACES[:3])]
    done = subprocess.run(more, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    lines = output.read_text().splitlines()
    assert lines[: len(begun)] == begun and len(lines) == len(begun) + 1


def test_the_command_exports_a_pipeline(tmp_path, capsys):
    pytest.importorskip("onnxscript", reason='export to ONNX needs pip install "diffiqa_hf[onnx]"')
    torch.manual_seed(0)
    pipe = small_pipeline(UNETS["DifFIQADiTModel"]())
    torch.nn.init.normal_(pipe.unet.proj_out.weight, std=0.02)
    pipe.save_pretrained(tmp_path / "pipe")
    folder = str(tmp_path / "pipe")
    assert main(["export", folder, folder]) == 0
    assert "unet.onnx: DifFIQADiTModel" in capsys.readouterr().out
    method = of_folder(folder)
    assert_same(list(method.stream(FACES)), list(pipe.stream(FACES)))
    # The graphs read the weights of the folder; in another one they have them.
    assert main(["export", folder, str(tmp_path / "alone")]) == 0
    sizes = [[(tmp_path / place / file).stat().st_size for place in ("pipe", "alone")] for file in ("unet.onnx",)]
    assert all(beside < alone for beside, alone in sizes)
