# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from fixtures.fill import fill_state_dict, make_images

from diffiqa_hf import (
    IResNetConfig,
    IResNetForFaceQuality,
    LightQNetConfig,
    LightQNetForFaceQuality,
    MobileFaceNetConfig,
    MobileFaceNetForFaceQuality,
    MobileFaceNetModel,
    SDDFIQAConfig,
    SDDFIQAForFaceQuality,
)
from diffiqa_hf.alignment import ARCFACE_TEMPLATE
from diffiqa_hf.cli import main
from diffiqa_hf.image_processing_face import face_to_pixels
from diffiqa_hf.inference.onnx import export_onnx, largest_difference


onnx = pytest.importorskip("onnx", reason='export to ONNX needs pip install "diffiqa_hf[onnx]"')
pytest.importorskip("onnxscript", reason='export to ONNX needs pip install "diffiqa_hf[onnx]"')
onnxruntime = pytest.importorskip("onnxruntime", reason='comparing needs pip install "diffiqa_hf[onnx]"')

MOBILE = {"stem_width": 8, "stem_groups": 8, "stages": [[16, 8, 1, 2]] * 3, "feature_width": 16, "embedding_size": 16}
IRESNET = {"depths": [1, 1, 1, 1], "widths": [8, 8, 8, 8], "embedding_size": 16}
MODELS = {
    "mobilefacenet": lambda: MobileFaceNetForFaceQuality(MobileFaceNetConfig(**MOBILE, quality_hidden_size=32)),
    # Faces that the graph itself has to cut, turn to BGR and scale.
    "iresnet": lambda: IResNetForFaceQuality(
        IResNetConfig(**IRESNET, crop_size=[112, 96], channel_order="bgr", image_mean=[0.4, 0.5, 0.6])
    ),
    "sdd-fiqa": lambda: SDDFIQAForFaceQuality(SDDFIQAConfig(depths=[1, 1, 1, 1], widths=[8, 8, 8, 8])),
    "lightqnet": lambda: LightQNetForFaceQuality(
        LightQNetConfig(stem_width=4, blocks=[[4, 4, 2], [8, 6, 2], [8, 6, 1]], feature_width=16)
    ),
}


def make_model(name: str) -> torch.nn.Module:
    """With weights and running statistics that are all different, and scores that tell faces apart."""
    model = MODELS[name]()
    model.load_state_dict(fill_state_dict({key: value.shape for key, value in model.state_dict().items()}))
    return model.eval()


def metadata(path) -> dict[str, str]:
    return onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map


@pytest.mark.parametrize("name", MODELS)
def test_scores_in_onnx_runtime_are_those_of_torch(name, tmp_path):
    model = make_model(name).train()
    path = export_onnx(model, tmp_path / "model.onnx")
    assert model.training and [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert all(largest_difference(model, path, batch) < 1e-4 for batch in (1, 2, 7)) and model.training
    height, width = map(int, metadata(path)["input_size"].split(" ")[0].split("x"))
    assert (height, width) == ((96, 96) if name == "lightqnet" else (112, 112))
    # The faces have different scores, so that a graph of constants would have been found out.
    session = onnxruntime.InferenceSession(path)
    faces = make_images(0, 5)[:, :, :height, :width].numpy()
    scores = session.run(None, {"pixel_values": faces})[0]
    assert scores.shape == (5,) and scores.dtype == np.float32 and len(np.unique(scores)) == 5


def test_metadata_suffices_to_make_the_input(tmp_path):
    model = make_model("iresnet")
    model.config.weights_license, model.config.quality_normalization = "CC0", {"kind": "minmax", "min": 0, "max": 1}
    said = metadata(export_onnx(model, tmp_path / "model.onnx"))
    assert said["color_order"] == "RGB" and said["input_range"].startswith("[-1, 1]: value of 0 to 255 / 127.5 - 1")
    np.testing.assert_allclose(json.loads(said["alignment_template"]), ARCFACE_TEMPLATE, atol=1e-4)
    assert "112x96" in said["crop"] and said["license"] == "CC0" and said["training_data"] == "not recorded"
    config = IResNetConfig(**json.loads(said["config"]))
    assert config.channel_order == "bgr" and config.quality_normalization["kind"] == "minmax"
    # By the words of the metadata alone, from pixels.
    face = make_images(1, 1)
    pixels = face_to_pixels(face[0].numpy()).astype(np.float32)
    mine = (pixels / 127.5 - 1).transpose(2, 0, 1)[None]
    score = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(["scores"], {"pixel_values": mine})[0]
    with torch.no_grad():
        np.testing.assert_allclose(score, model(face).scores, atol=1e-4)


def test_file_names_no_place_on_this_machine(tmp_path):
    exported = onnx.load(export_onnx(make_model("mobilefacenet"), tmp_path / "model.onnx"))
    assert b"diffiqa_hf/" not in exported.SerializeToString() and exported.producer_name == "diffiqa_hf"
    kinds = {node.op_type for node in exported.graph.node}
    assert "Conv" in kinds and "BatchNormalization" not in kinds
    assert exported.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_what_has_no_scores_is_refused(tmp_path):
    with pytest.raises(TypeError, match="MobileFaceNetModel is no face quality model"):
        export_onnx(MobileFaceNetModel(MobileFaceNetConfig(**MOBILE)), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_command(tmp_path, capsys):
    make_model("mobilefacenet").save_pretrained(tmp_path / "model")
    path = tmp_path / "new" / "model.onnx"
    assert main(["export", str(tmp_path / "model"), str(path)]) == 0
    out, err = capsys.readouterr()
    assert f"{path}: MobileFaceNetForFaceQuality, 0.0 MiB; its scores in ONNX Runtime differ by" in out
    assert largest_difference(make_model("mobilefacenet"), path) < 1e-4
    assert main(["export", str(tmp_path / "nothing"), str(path)]) == 2
    assert "cannot load the model" in capsys.readouterr().err


def test_command_without_onnx_says_what_to_install(tmp_path):
    make_model("mobilefacenet").save_pretrained(tmp_path / "model")
    command = ["export", str(tmp_path / "model"), str(tmp_path / "model.onnx")]
    code = "import importlib.util, sys\nfind = importlib.util.find_spec\n"
    code += "importlib.util.find_spec = lambda name, *rest: None if name.startswith('onnx') else find(name, *rest)\n"
    code += f"from diffiqa_hf.cli import main\nsys.exit(main({command!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and 'pip install "diffiqa_hf[onnx]"' in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "model.onnx").exists()
