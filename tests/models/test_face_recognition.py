# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Face recognition models: the numbers of the published implementations, and what every one of them has to do."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.fill import fill_state_dict, make_images
from PIL import Image
from transformers import AutoModel

from diffiqa_hf.conversion.iresnet import convert_insightface_iresnet
from diffiqa_hf.conversion.mobilefacenet import convert_insightface_mbf, convert_xiaoccer
from diffiqa_hf.models import FaceEmbeddingOutput, IResNetConfig, IResNetModel, MobileFaceNetConfig, MobileFaceNetModel


FIXTURES = Path(__file__).parents[1] / "fixtures"


def relative_difference(actual: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(actual.numpy() - expected).max() / np.abs(expected).max())


# -- parity with the published implementations ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "convert", "model_class"),
    [
        ("insightface_iresnet18", convert_insightface_iresnet, IResNetModel),
        pytest.param("insightface_iresnet50", convert_insightface_iresnet, IResNetModel, marks=pytest.mark.slow),
        pytest.param("insightface_iresnet100", convert_insightface_iresnet, IResNetModel, marks=pytest.mark.slow),
        ("insightface_mbf", convert_insightface_mbf, MobileFaceNetModel),
    ],
)
@torch.no_grad()
def test_same_embeddings_as_insightface(name, convert, model_class):
    layout = json.loads((FIXTURES / f"{name}.json").read_text())
    config, state_dict = convert(fill_state_dict(layout["shapes"], layout["salt"]))
    model = model_class(config).eval()
    model.load_state_dict(state_dict, strict=True)
    embeddings = model(make_images(layout["image_seed"])).embeddings
    assert relative_difference(embeddings, np.load(FIXTURES / "insightface.npz")[name]) < 1e-4


@pytest.mark.shared
@torch.no_grad()
def test_same_embeddings_as_a_real_checkpoint(shared_dir):
    parquet = pytest.importorskip("pyarrow.parquet")
    expected = np.load(shared_dir / "parity" / "mobilefacenet_casia.npz")
    names = expected["names"].tolist()
    table = parquet.read_table(
        shared_dir / "data" / "lfw" / "dev_test.parquet", columns=["image", "name"], filters=[("name", "in", names)]
    )
    pictures = {row["name"]: row["image"]["bytes"] for row in table.to_pylist()}
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(pictures[name])).convert("RGB")) for name in names])

    path = shared_dir / "weights" / "mobilefacenet_casia" / "068.ckpt"
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    config, state_dict = convert_xiaoccer(checkpoint["net_state_dict"])
    model = MobileFaceNetModel(config).eval()
    model.load_state_dict(state_dict, strict=True)
    embeddings = model(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1).embeddings
    assert relative_difference(embeddings, expected["embeddings"]) < 1e-4


# -- what every model has to do ---------------------------------------------------------------------------------------

TINY = {
    "iresnet": (IResNetModel, IResNetConfig, {"depths": [1, 2], "widths": [8, 12], "embedding_size": 16}),
    "mobilefacenet": (
        MobileFaceNetModel,
        MobileFaceNetConfig,
        {
            "stem_width": 8,
            "stem_groups": 8,
            "stages": [[16, 8, 2, 2], [16, 12, 1, 2], [16, 12, 1, 2]],
            "feature_width": 16,
            "embedding_size": 16,
        },
    ),
}


@pytest.fixture(params=list(TINY))
def make_model(request):
    model_class, config_class, sizes = TINY[request.param]

    def make(**kwargs):
        model = model_class(config_class(**sizes, **kwargs)).eval()
        # By rule, so that the normalisations do something; four times as large, so that the image counts for more
        # than the biases.
        weights = fill_state_dict({name: tensor.shape for name, tensor in model.state_dict().items()})
        model.load_state_dict({name: 4 * tensor if tensor.ndim > 1 else tensor for name, tensor in weights.items()})
        return model

    return make


def test_save_and_load(make_model, tmp_path):
    model, faces = make_model(crop_size=[112, 96], channel_order="bgr", training_data="nothing"), make_images(0)
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    changed = {"_name_or_path": str(tmp_path), "architectures": [type(model).__name__]}
    assert loaded.config.to_dict() == {**model.config.to_dict(), **changed}
    with torch.no_grad():
        assert torch.equal(loaded(faces).embeddings, model(faces).embeddings)


@torch.no_grad()
def test_batch_invariance(make_model):
    # Of unlike contrast, for random pixels all look the same to a small network.
    model, faces = make_model(), make_images(0, 3) * torch.tensor([1, 0.5, 0.1]).view(3, 1, 1, 1)
    together = model(faces).embeddings
    assert together.shape == (3, 16)
    alone = torch.cat([model(face[None]).embeddings for face in faces])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-2


def test_gradients_reach_every_pixel(make_model):
    # In channels-last order, as a NumPy image permuted; oneDNN's backward pass has crashed on it.
    faces = make_images(0).contiguous(memory_format=torch.channels_last).requires_grad_()
    make_model()(faces).embeddings.square().sum().backward()
    assert faces.grad.isfinite().all()
    assert (faces.grad != 0).float().mean() > 0.99


@torch.no_grad()
def test_bgr_is_the_channels_flipped(make_model):
    faces = make_images(0)
    # An own mean for each channel shows that it belongs to the network's order, not to RGB.
    scale = {"image_mean": [0.3, 0.5, 0.7], "image_std": [0.2, 0.3, 0.4]}
    rgb, bgr = make_model(**scale), make_model(**scale, channel_order="bgr")
    assert torch.equal(bgr(faces).embeddings, rgb(faces.flip(1)).embeddings)
    assert not torch.equal(bgr(faces).embeddings, rgb(faces).embeddings)


@torch.no_grad()
def test_mean_and_standard_deviation(make_model):
    model = make_model(image_mean=[0.25, 0.5, 0.75], image_std=[0.5, 0.25, 0.125])
    # White is 1 on the [0, 1] scale: (1 - mean) / std.
    prepared = model.prepare_faces(torch.ones(1, 3, 112, 112))
    assert prepared[0, :, 5, 7].tolist() == [1.5, 2.0, 2.0]


@torch.no_grad()
def test_crop_is_the_middle(make_model):
    model, faces = make_model(crop_size=[112, 96]), make_images(0)
    assert torch.equal(model.prepare_faces(faces), faces[:, :, :, 8:104])
    other = faces.clone()
    other[:, :, :, :8] = 0
    other[:, :, :, 104:] = 0
    assert torch.equal(model(faces).embeddings, model(other).embeddings)
    assert torch.equal(model(faces).embeddings, model(faces[:, :, :, 8:104]).embeddings)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 112, 112), r"got \(3, 112, 112\)"),
        ((2, 1, 112, 112), r"got \(2, 1, 112, 112\)"),
        ((2, 3, 112, 96), "at least 112x112, got 112x96"),
    ],
)
def test_wrong_shapes(make_model, shape, message):
    with pytest.raises(ValueError, match=message):
        make_model()(torch.zeros(shape))


@torch.no_grad()
def test_normalised_output(make_model):
    faces = make_images(0)
    plain, unit = make_model()(faces).embeddings, make_model(normalize_embedding=True)(faces).embeddings
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(unit, plain / plain.norm(dim=1, keepdim=True))
    assert (plain.norm(dim=1) - 1).abs().min() > 1e-3


@torch.no_grad()
def test_bfloat16(make_model):
    model, faces = make_model(), make_images(0)
    expected = model(faces).embeddings
    embeddings = model.to(torch.bfloat16)(faces).embeddings
    assert embeddings.dtype == torch.bfloat16 and embeddings.isfinite().all()
    assert torch.nn.functional.cosine_similarity(embeddings.float(), expected).min() > 0.99


@torch.no_grad()
def test_plain_tuple(make_model):
    model, faces = make_model(), make_images(0)
    output, plain = model(faces), model(faces, return_dict=False)
    assert isinstance(output, FaceEmbeddingOutput)
    assert type(plain) is tuple and len(plain) == 1
    assert torch.equal(plain[0], output.embeddings)


def test_unknown_channel_order(make_model):
    with pytest.raises(ValueError, match="'rgb' or 'bgr', not 'gbr'"):
        make_model(channel_order="gbr")
