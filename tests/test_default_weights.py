# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The weights that come with the package. An earlier version saved them, so loading them also tests that saved
pipelines keep loading."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diffiqa_hf
from diffiqa_hf import DifFIQAPipeline, DifFIQARModel, FaceImageProcessor, MobileFaceNetForFaceQuality, load_method
from diffiqa_hf.default_weights import FR_MODEL, PIPELINE, QUALITY_MODEL
from diffiqa_hf.evaluation.trust import run_panel
from diffiqa_hf.evaluation.trust.damages import DAMAGES
from diffiqa_hf.hub import complete_card, read_training


FOLDER = Path(diffiqa_hf.__file__).parent / "checkpoints"
ROOT = Path(__file__).parents[1]
FACES = ROOT / "examples" / "faces"


@pytest.fixture(scope="module")
def pipe() -> DifFIQAPipeline:
    pipe = DifFIQAPipeline.from_pretrained("default")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_small_and_safe():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    # Weights that are learnt; beside them lies DifFIQA(R) in the form of ONNX Runtime, which is made from them.
    assert sum(path.stat().st_size for path in files if path.suffix == ".safetensors") <= 12_000_000
    assert sum(path.stat().st_size for path in files) <= 13_000_000
    assert {path.suffix for path in files} == {".json", ".md", ".onnx", ".safetensors"}


def test_loads_in_full_precision(pipe):
    # Stored in half precision, computed in single.
    assert pipe.unet.dtype == pipe.fr_model.dtype == torch.float32
    assert pipe.config.num_timesteps <= 100  # what the UNet was trained for


def test_the_places_are_written_down_once():
    assert FR_MODEL == PIPELINE / "fr_model" and {PIPELINE.parent, QUALITY_MODEL.parent} == {FOLDER}
    assert sorted(FOLDER.iterdir()) == sorted([PIPELINE, QUALITY_MODEL])


def test_the_distilled_network_loads_in_full_precision():
    model = DifFIQARModel.from_pretrained("default")
    assert isinstance(model, MobileFaceNetForFaceQuality) and model.config.quality_hidden_size is None
    assert model.dtype == torch.float32 and not model.training
    assert model.num_parameters() < 500_000
    faces = FaceImageProcessor.from_pretrained(QUALITY_MODEL)(FACES / "astronaut.jpg", return_tensors="pt")
    with torch.no_grad():
        assert model(**faces).scores.shape == (1,)
    half = DifFIQARModel.from_pretrained(dtype=torch.float16)
    assert half.dtype == torch.float16


def test_the_class_loads_other_models_as_the_auto_class_does(tmp_path):
    model = DifFIQARModel.from_pretrained()
    with torch.no_grad():
        model.head.score.bias += 1
    model.save_pretrained(tmp_path)
    for folder in (tmp_path, str(tmp_path)):
        assert torch.equal(DifFIQARModel.from_pretrained(folder).head.score.bias, model.head.score.bias)


def test_the_distilled_network_has_percentiles():
    method = load_method("diffiqa-r")
    names = ["astronaut.jpg", "astronaut_4_extreme.jpg", "sample3_smile.jpg", "sample3_smile_4_extreme.jpg"]
    output = method([FACES / name for name in names])
    assert output.percentiles is not None and ((output.percentiles >= 0) & (output.percentiles <= 100)).all()


def test_the_distilled_network_tells_good_faces_from_bad_ones():
    names = ("astronaut", "sample3_smile", "sample6_left", "sample6_right")
    scores = load_method("diffiqa-r")([FACES / f"{name}{end}.jpg" for end in ("", "_4_extreme") for name in names])
    good, bad = scores.scores.chunk(2)
    assert (good > bad).all()


@pytest.fixture(scope="module")
def panel():
    """DifFIQA(R) on sharp faces of the examples, on what `diffiqa trust` makes of them, and on its non-faces."""
    names = ("astronaut", "sample3_smile", "sample6_left", "sample6_right")
    method = load_method("diffiqa-r")
    faces = [np.array(Image.open(FACES / f"{name}.jpg").convert("RGB")) for name in names]
    assert {face.shape for face in faces} == {(112, 112, 3)}
    return run_panel(method, faces), method


@pytest.mark.parametrize("kind", list(DAMAGES))
def test_the_distilled_networks_score_falls_as_the_damage_grows(panel, kind):
    result, _ = panel
    # Of the four faces one may have a step that goes up; on 200 the medians are at most -.9 (its card).
    assert np.median(result.spearman(kind)) <= -0.8, result.spearman(kind)
    assert result.above(kind) == 0, (result.clean, result.damaged[kind][:, -1])


def test_what_is_no_face_is_below_the_fifth_percentile_of_faces(panel):
    result, method = panel
    percentiles = method.calibration.percentiles(list(result.non_faces.values()))
    assert (percentiles < 5).all(), dict(zip(result.non_faces, percentiles, strict=True))


def test_a_copy_that_is_as_good_scores_the_same(panel):
    result, method = panel
    for name, scores in result.copies.items():
        moved = method.calibration.percentiles(scores) - method.calibration.percentiles(result.clean)
        # Of faces: what is read off a score is its percentile.
        assert np.median(np.abs(moved)) <= 5, (name, moved)


def test_restores(pipe):
    """What the UNet makes of a noisy face is closer to the face than the noisy one is."""
    face = pipe.image_processor([FACES / "astronaut.jpg"], return_tensors="pt").pixel_values
    noise = torch.randn(face.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        noisy = pipe.forward_process(face, 100, noise)
        restored = pipe.backward_process(noisy, 100, 1)
    assert (restored - face).pow(2).mean() < 0.5 * (noisy - face).pow(2).mean()


def test_the_same_person_is_closer(pipe):
    faces = ["astronaut.jpg", "astronaut_2_medium.jpg", "sample3_smile.jpg", "sample3_smile_2_medium.jpg"]
    pixels = pipe.image_processor([FACES / name for name in faces], return_tensors="pt").pixel_values
    with torch.no_grad():
        embeddings = torch.nn.functional.normalize(pipe.embed(pixels))
    similarity = embeddings @ embeddings.T
    assert min(similarity[0, 1], similarity[2, 3]) > max(similarity[0, 2], similarity[0, 3], similarity[1, 2])


def test_the_card_is_what_the_records_say(tmp_path):
    default = FOLDER / "default"
    card = (default / "README.md").read_text(encoding="utf-8")
    assert complete_card(default) == card, "python docs/make_default_card.py"
    for name in ("unet", "fr_model"):
        facts = read_training(default / name)
        assert facts.command in card and facts.heldout in card and facts.steps
        assert all(data.name in card for data in facts.data)
    whole = read_training(default)
    assert whole.results and all(note in card for note in whole.notes)
    assert all(result.basis and f"| {result.name} | {result.value:.4g} | " in card for result in whole.results)
    assert "for research only" in card and "was not tested" in card and "left no record" not in card
    # What makes it makes the same again.
    folder = shutil.copytree(default, tmp_path / "default")
    (folder / "README.md").write_text("# By hand\n")
    command = [sys.executable, ROOT / "docs" / "make_default_card.py", "--folder", folder]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "README.md\n"
    assert (folder / "README.md").read_text(encoding="utf-8") == card
    assert (folder / "training.json").read_bytes() == (default / "training.json").read_bytes()


def test_the_card_of_the_distilled_network_is_what_its_records_say():
    card = (QUALITY_MODEL / "README.md").read_text(encoding="utf-8")
    assert complete_card(QUALITY_MODEL) == card, f"python docs/make_default_card.py --folder {QUALITY_MODEL}"
    facts = read_training(QUALITY_MODEL)
    assert facts.command in card and facts.heldout in card and facts.steps
    assert facts.notes and all(note in card for note in facts.notes)
    assert facts.results and all(f"| {result.name} | {result.value:.4g} | " in card for result in facts.results)
    assert "LightQNet dm100 (MIT)" in card and "for research only" in card


@pytest.mark.parametrize("folder", ["default/unet", "default/fr_model", "diffiqa_r"])
def test_options_in_the_records_are_those_of_the_scripts(folder):
    from fixtures.scripts import load_script

    for line in read_training(FOLDER / folder).command.splitlines():
        _, _, script, *arguments = line.split()
        load_script(Path(script).stem).parse_args(arguments)
