# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Face quality models: the scores of the published networks, and what a backbone with a head has to do."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.close import assert_close
from fixtures.fill import fill_state_dict, make_images
from transformers import AutoConfig, AutoModel, ViTConfig

from diffiqa_hf.conversion.dialects.quality import (
    convert_cr_fiqa,
    convert_diffiqa_r,
    convert_ediffiqa,
    convert_sdd_fiqa,
)
from diffiqa_hf.models import IResNetConfig, IResNetModel, MobileFaceNetConfig, MobileFaceNetModel
from diffiqa_hf.models.modeling_face_quality import (
    AutoModelForFaceQuality,
    FaceQualityModelOutput,
    IResNetForFaceQuality,
    MobileFaceNetForFaceQuality,
    SDDFIQAConfig,
    SDDFIQAForFaceQuality,
)


FIXTURES = Path(__file__).parents[1] / "fixtures"


# -- parity with the published implementations ------------------------------------------------------------------------


def read_layout(name: str) -> dict[str, list[int]]:
    layout = json.loads((FIXTURES / f"{name}.json").read_text())
    assert layout["salt"] == "" and layout["image_seed"] == 0
    return layout["shapes"]


def linear(name: str, in_features: int, out_features: int) -> dict[str, list[int]]:
    return {f"{name}.weight": [out_features, in_features], f"{name}.bias": [out_features]}


def on_iresnet(depth: int, prefix: str, head: dict[str, list[int]]) -> dict[str, list[int]]:
    """The published networks are arcface_torch's IResNets under a prefix, and a head."""
    return {f"{prefix}{name}": shape for name, shape in read_layout(f"insightface_iresnet{depth}").items()} | head


MLP = linear("mlp.l1", 512, 1024) | linear("mlp.l2", 1024, 1)
PARITY = {
    "crfiqa_iresnet50": (convert_cr_fiqa, IResNetForFaceQuality, lambda: on_iresnet(50, "", linear("qs", 512, 1))),
    "crfiqa_iresnet100": (convert_cr_fiqa, IResNetForFaceQuality, lambda: on_iresnet(100, "", linear("qs", 512, 1))),
    "diffiqa_r_iresnet100": (
        convert_diffiqa_r,
        IResNetForFaceQuality,
        lambda: on_iresnet(100, "base.", linear("linear", 512, 1)),
    ),
    "ediffiqa_s_iresnet18": (convert_ediffiqa, IResNetForFaceQuality, lambda: on_iresnet(18, "base_model.", MLP)),
    "ediffiqa_t_mobilefacenet": (
        convert_ediffiqa,
        MobileFaceNetForFaceQuality,
        lambda: read_layout("ediffiqa_t_mobilefacenet"),
    ),
    "sddfiqa_r50": (convert_sdd_fiqa, SDDFIQAForFaceQuality, lambda: read_layout("sddfiqa_r50")),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "crfiqa_iresnet100" else name for name in PARITY]
)
@torch.no_grad()
def test_same_scores_as_the_original(name):
    convert, model_class, layout = PARITY[name]
    config, state_dict = convert(fill_state_dict(layout()))
    model = AutoModelForFaceQuality.from_config(config).eval()
    assert type(model) is model_class
    model.load_state_dict(state_dict, strict=True)
    output = model(make_images(0))
    expected = np.load(FIXTURES / "face_quality.npz")
    # The random pixels hardly move the scores (of the MobileFaceNet by 1e-7), so 1e-4 would let much through.
    atol = 1e-6 if model_class is MobileFaceNetForFaceQuality else 1e-5
    np.testing.assert_allclose(output.scores.numpy(), expected[name], rtol=0, atol=atol)
    if f"{name}_embeddings" in expected:
        embeddings = expected[f"{name}_embeddings"]
        assert np.abs(output.embeddings.numpy() - embeddings).max() < 1e-4 * np.abs(embeddings).max()


@pytest.mark.parametrize(
    ("convert", "layout"),
    [
        (convert_diffiqa_r, {"base.conv1.weight": [8, 3, 3, 3], "classifier.weight": [10, 512]}),
        (convert_ediffiqa, {"base_model.conv_6_dw.conv.weight": [8, 1, 7, 7], "base_model.classifier.weight": [2, 8]}),
        (
            convert_cr_fiqa,
            {"layer1.0.conv1.weight": [8, 8, 3, 3], "fc.weight": [8, 8], "classifier.weight": [2, 8]},
        ),
        (convert_sdd_fiqa, {"quality.3.weight": [1, 8], "classifier.weight": [2, 8]}),
    ],
)
def test_tensors_of_another_network(convert, layout):
    with pytest.raises(ValueError, match="classifier.weight"):
        convert(fill_state_dict(layout))


# -- what every model has to do ---------------------------------------------------------------------------------------

IRESNET = {"depths": [1, 2], "widths": [8, 12], "embedding_size": 16}
MOBILEFACENET = {
    "stem_width": 8,
    "stem_groups": 8,
    "stages": [[16, 8, 2, 2], [16, 12, 1, 2], [16, 12, 1, 2]],
    "feature_width": 16,
    "embedding_size": 16,
}
TINY = {
    "iresnet": (IResNetForFaceQuality, IResNetModel, IResNetConfig, IRESNET),
    "mobilefacenet": (MobileFaceNetForFaceQuality, MobileFaceNetModel, MobileFaceNetConfig, MOBILEFACENET),
}


def fill(model):
    # By rule, so that the normalisations do something; four times as large, so that the image counts for more than the
    # biases.
    weights = fill_state_dict({name: tensor.shape for name, tensor in model.state_dict().items()})
    model.load_state_dict({name: 4 * tensor if tensor.ndim > 1 else tensor for name, tensor in weights.items()})
    return model.eval()


@pytest.fixture(params=list(TINY))
def backbone(request):
    _, model_class, config_class, sizes = TINY[request.param]
    return fill(model_class(config_class(**sizes)))


@pytest.fixture(params=[None, 24], ids=["linear", "mlp"])
def hidden_size(request):
    return request.param


@pytest.fixture(params=list(TINY))
def model(request, hidden_size):
    model_class, _, config_class, sizes = TINY[request.param]
    return fill(model_class(config_class(**sizes, quality_hidden_size=hidden_size)))


def test_save_and_load(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForFaceQuality.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is type(model) and loaded.config.quality_hidden_size == model.config.quality_hidden_size
    assert not any(info.values())
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    with torch.no_grad():
        torch.testing.assert_close(loaded(make_images(0)).scores, model(make_images(0)).scores)


def test_from_a_face_recognition_model(backbone, hidden_size, tmp_path):
    backbone.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    config.quality_hidden_size = hidden_size
    model, info = AutoModelForFaceQuality.from_pretrained(tmp_path, config=config, output_loading_info=True)
    new = ["score"] if hidden_size is None else ["hidden", "score"]
    assert info["missing_keys"] == {f"head.{layer}.{kind}" for layer in new for kind in ("weight", "bias")}
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    assert model.head.score.weight.std() > 0 and not model.head.score.bias.any()
    with torch.no_grad():
        torch.testing.assert_close(model(make_images(0)).embeddings, backbone(make_images(0)).embeddings)


def test_head_is_linear_by_default(backbone, tmp_path):
    backbone.save_pretrained(tmp_path)
    model = AutoModelForFaceQuality.from_pretrained(tmp_path)
    assert model.head.hidden is None and model.head.score.weight.shape == (1, 16)


def test_as_a_face_recognition_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    backbone, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(backbone) is type(model.backbone)
    assert not info["missing_keys"]
    with torch.no_grad():
        torch.testing.assert_close(backbone(make_images(0)).embeddings, model(make_images(0)).embeddings)


@torch.no_grad()
def test_scores(model, hidden_size):
    faces = make_images(0, 3) * torch.tensor([1, 0.5, 0.1]).view(3, 1, 1, 1)
    output = model(faces)
    assert isinstance(output, FaceQualityModelOutput)
    assert output.scores.shape == (3,) and output.embeddings.shape == (3, 16)
    weights = {name: tensor.double() for name, tensor in model.head.state_dict().items()}
    expected = output.embeddings.double()
    if hidden_size is not None:
        expected = expected @ weights["hidden.weight"].T + weights["hidden.bias"]
        expected = expected * (1 + torch.erf(expected / 2**0.5)) / 2  # GELU
    expected = expected @ weights["score.weight"][0] + weights["score.bias"]
    torch.testing.assert_close(output.scores.double(), expected, atol=1e-5, rtol=1e-5)
    assert (output.scores[0] - output.scores[2]).abs() > 1e-2

    scores, embeddings = model(faces, return_dict=False)
    assert_close(scores, output.scores)
    assert_close(embeddings, output.embeddings)
    alone = torch.cat([model(face[None]).scores for face in faces])
    torch.testing.assert_close(alone, output.scores, atol=1e-5, rtol=1e-5)


def test_gradients_reach_pixels_and_head(model):
    faces = make_images(0).requires_grad_()
    model(faces).scores.sum().backward()
    assert faces.grad.isfinite().all() and (faces.grad != 0).float().mean() > 0.99
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.head.parameters())


def test_gradient_checkpointing(model):
    def gradients():
        model.zero_grad()
        model(make_images(0)).scores.sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    model.train()
    expected = gradients()
    model.gradient_checkpointing_enable()
    for actual, gradient in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(actual, gradient)


@torch.no_grad()
def test_bfloat16(model):
    expected = model(make_images(0)).scores
    scores = model.to(torch.bfloat16)(make_images(0)).scores
    assert scores.dtype == torch.float32  # of half precision weights too
    assert (scores.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_a_configuration_of_no_quality_model():
    with pytest.raises(ValueError, match="AutoModelForFaceQuality.*\n.*IResNetConfig, MobileFaceNetConfig"):
        AutoModelForFaceQuality.from_config(ViTConfig())


# -- SDD-FIQA ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_sdd_fiqa_reads_its_last_feature_map(tmp_path):
    config = SDDFIQAConfig(depths=[1, 2], widths=[8, 12], crop_size=[112, 96])
    assert config.embedding_size == 12 * 28 * 24
    model, faces = fill(SDDFIQAForFaceQuality(config)), make_images(0)
    output = model(faces)
    assert output.embeddings.shape == (2, config.embedding_size)
    embeddings = output.embeddings.double()
    slopes, weight = model.head_prelu.weight.double(), model.score.weight[0].double()
    expected = torch.where(embeddings > 0, embeddings, embeddings * slopes) @ weight + model.score.bias.double()
    torch.testing.assert_close(output.scores.double(), expected, atol=1e-4, rtol=1e-4)
    assert (output.scores[0] - output.scores[1]).abs() > 1e-2
    scores, embeddings = model(faces, return_dict=False)
    assert_close(scores, output.scores)
    assert_close(embeddings, output.embeddings)

    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForFaceQuality.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is SDDFIQAForFaceQuality and not any(info.values())
    assert loaded.config.embedding_size == config.embedding_size
    torch.testing.assert_close(loaded(faces).scores, output.scores)


def test_the_second_output_says_whether_it_is_a_face(tmp_path):
    config = MobileFaceNetConfig(
        stem_width=8, stem_groups=8, stages=[[8, 8, 1, 2], [8, 8, 1, 2], [8, 8, 1, 2]], feature_width=8,
        embedding_size=4, face_check=True,
    )  # fmt: skip
    model = MobileFaceNetForFaceQuality(config).eval()
    model.save_pretrained(tmp_path)
    faces = torch.randn(3, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = AutoModelForFaceQuality.from_pretrained(tmp_path).eval()(faces)
        scores, embeddings, face_logits = model(faces, return_dict=False)
    torch.testing.assert_close(output.face_logits, face_logits, rtol=0, atol=1e-5 * float(face_logits.abs().max()))
    expected = torch.nn.functional.linear(embeddings, model.head.face.weight, model.head.face.bias)[:, 0]
    torch.testing.assert_close(face_logits, expected, rtol=0, atol=1e-5 * float(face_logits.abs().max()))
    config.face_check = False
    assert MobileFaceNetForFaceQuality(config).eval()(faces).face_logits is None
