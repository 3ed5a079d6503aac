# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The score of each method against its formula, written again in NumPy and float64. Where a method needs gradients, the
FR model is one whose gradients can be written down.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from diffiqa_hf import DifFIQAPipeline
from diffiqa_hf.models import FaceEmbeddingOutput, FaceModelConfig, FacePreTrainedModel


class LinearFRModel(FacePreTrainedModel):
    """1x1 convolution, batch normalisation, and a linear layer on all pixels."""

    config_class = FaceModelConfig

    def __init__(self, config: FaceModelConfig):
        super().__init__(config)
        height, width = config.crop_size
        self.conv = nn.Conv2d(3, 4, 1, bias=False)
        self.bn = nn.BatchNorm2d(4, eps=config.bn_eps)
        self.fc = nn.Linear(4 * height * width, config.embedding_size)
        self.post_init()

    def forward(self, pixel_values, return_dict=None):
        hidden_states = self.bn(self.conv(self.prepare_faces(pixel_values)))
        return FaceEmbeddingOutput(embeddings=self.fc(hidden_states.flatten(1)))


@pytest.fixture(scope="module")
def linear_model() -> LinearFRModel:
    torch.manual_seed(0)
    model = LinearFRModel(FaceModelConfig(crop_size=[32, 32], embedding_size=8))
    nn.init.normal_(model.conv.weight)
    nn.init.normal_(model.fc.weight, std=0.02)
    nn.init.normal_(model.fc.bias, std=0.5)
    for values in (model.bn.running_mean, model.bn.bias.data):
        nn.init.normal_(values, std=0.3)
    for values in (model.bn.running_var, model.bn.weight.data):
        nn.init.uniform_(values, 0.5, 1.5)
    return model.eval()


def as_arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().astype(np.float64) for name, tensor in model.state_dict().items()}


def canonical(faces: list[np.ndarray]) -> list[np.ndarray]:
    return [(face.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1) for face in faces]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def random_of(face: np.ndarray, seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """The uniform numbers that belong to a face."""
    generator = torch.Generator().manual_seed(DifFIQAPipeline.noise_seeds(torch.from_numpy(face), seed, 1, False)[0])
    return torch.rand(shape, generator=generator).numpy()


# -- FaceQAN ---------------------------------------------------------------------------------------------------------


def faceqan(model: nn.Module, face: np.ndarray, seed: int, eps: float, steps: int, starts: int, p: int, clip) -> float:
    weights = as_arrays(model)
    conv = weights["conv.weight"][:, :, 0, 0]
    scale = weights["bn.weight"] / np.sqrt(weights["bn.running_var"] + model.config.bn_eps)
    shift = weights["bn.bias"] - scale * weights["bn.running_mean"]

    # All on the [0, 1] scale, as the paper has it.
    def embed(image):
        hidden = np.einsum("oc,chw->ohw", conv, 2 * image - 1) * scale[:, None, None] + shift[:, None, None]
        return weights["fc.weight"] @ hidden.ravel() + weights["fc.bias"]

    def similarity_gradient(image, reference):
        e = embed(image)
        de = reference / np.linalg.norm(reference) / np.linalg.norm(e) - cosine(reference, e) * e / (e @ e)
        dh = (weights["fc.weight"].T @ de).reshape(4, *image.shape[1:]) * scale[:, None, None]
        return 2 * np.einsum("oc,ohw->chw", conv, dh)

    image = (face.astype(np.float64) + 1) / 2
    reference = embed(image)
    similarities = []
    for start in random_of(face, seed, (starts, *face.shape)):
        noisy = np.clip(image + eps * (2.0 * start - 1), *clip)
        for _ in range(steps):
            similarities.append(cosine(reference, embed(noisy)))
            # Up the loss 1 - cos, so down the similarity.
            noisy = np.clip(noisy - eps * np.sign(similarity_gradient(noisy, reference)), *clip)
    symmetry = cosine(reference, embed(image[:, :, ::-1]))
    return ((1 + np.mean(similarities)) / 2 * np.clip(1 - np.std(similarities), 0, 1) * symmetry) ** p


@pytest.mark.parametrize("clip", [(0.0, 1.0), (-1.0, 1.0)])
def test_faceqan(make_method, linear_model, faces, clip):
    # A large eps, so that each step counts and the clipping too.
    options = {"eps": 0.05, "num_steps": 4, "num_starts": 3, "exponent": 5, "clip": clip}
    scores = make_method("faceqan", linear_model, **options)(faces[:3], seed=7).scores
    expected = [faceqan(linear_model, face, 7, 0.05, 4, 3, 5, clip) for face in canonical(faces[:3])]
    np.testing.assert_allclose(scores.numpy(), expected, atol=2e-6, rtol=2e-5)


def test_faceqan_has_the_constants_of_the_authors(linear_model):
    from diffiqa_hf.methods import load_method

    method = load_method("faceqan", fr_model=linear_model)
    assert (method.eps, method.num_steps, method.num_starts, method.exponent) == (0.001, 5, 10, 5)


def test_faceqan_embeds_each_step_of_the_batch_at_once(make_method, linear_model, faces):
    rows = []
    handle = linear_model.register_forward_hook(lambda module, args, output: rows.append(len(args[0])))
    make_method("faceqan", linear_model, num_steps=4, num_starts=3)(faces, batch_size=5)
    handle.remove()
    assert rows == [2 * 5, *[3 * 5] * 4]


# -- SER-FIQ ---------------------------------------------------------------------------------------------------------


def ser_fiq(head, hidden: np.ndarray, kept: np.ndarray, dropout: float) -> float:
    embeddings = [head((hidden * mask / (1 - dropout)).ravel()) for mask in kept]
    embeddings = [e / np.linalg.norm(e) for e in embeddings]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(embeddings) for b in embeddings[:i]]
    return 2 / (1 + math.exp(np.mean(distances)))


@pytest.mark.parametrize("channels", [False, True])
def test_ser_fiq_at_a_dropout_module(make_method, make_network, faces, channels):
    model = make_network("magface" if channels else "ser-fiq")
    method = make_method("ser-fiq", model, num_passes=6, dropout=0.3)
    scores = method(faces[:3], seed=2).scores
    weights = as_arrays(model)

    def head(hidden):
        e = weights["fc.weight"] @ hidden + weights["fc.bias"]
        var = weights["features.running_var"] + model.config.bn_eps
        return (e - weights["features.running_mean"]) / np.sqrt(var) * weights["features.weight"] + weights[
            "features.bias"
        ]

    inputs = []
    handle = model.dropout.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    for face, score in zip(canonical(faces[:3]), scores, strict=True):
        with torch.no_grad():
            model(torch.from_numpy(face)[None])
        hidden = inputs[-1][0].numpy().astype(np.float64)
        shape = (len(hidden), 1, 1) if channels else hidden.shape
        kept = random_of(face, 2, (6, *shape)) >= 0.3
        assert score.item() == pytest.approx(ser_fiq(head, hidden, kept, 0.3), abs=1e-6)
    handle.remove()


def test_ser_fiq_before_the_last_layer_of_a_model_without_dropout(make_method, linear_model, faces):
    score = make_method("ser-fiq", linear_model, num_passes=5)(faces[:1], seed=4).scores.item()
    weights = as_arrays(linear_model)
    face = canonical(faces[:1])[0]
    with torch.no_grad():
        hidden = linear_model.bn(linear_model.conv(torch.from_numpy(face)[None])).flatten().numpy().astype(np.float64)
    kept = random_of(face, 4, (5, *hidden.shape)) >= 0.5

    def head(values):
        return weights["fc.weight"] @ values + weights["fc.bias"]

    expected = ser_fiq(head, hidden, kept, 0.5)
    assert score == pytest.approx(expected, abs=1e-6)
    named = make_method("ser-fiq", linear_model, num_passes=5, layer="fc", rescale=True)(faces[:1], seed=4)
    assert named.scores.item() == pytest.approx(1 / (1 + math.exp(-130 * (expected - 0.88))), abs=1e-4)


def test_ser_fiq_runs_the_trunk_once_for_each_face(make_method, make_network, faces):
    model = make_network("ser-fiq")
    rows = []
    handles = [
        getattr(model, name).register_forward_hook(lambda module, args, output: rows.append(len(args[0])))
        for name in ("layer4", "fc")
    ]
    make_method("ser-fiq", model, num_passes=7)(faces, batch_size=5)
    for handle in handles:
        handle.remove()
    assert rows == [5, 35]


# -- GraFIQs ---------------------------------------------------------------------------------------------------------


def grafiqs(model: nn.Module, face: np.ndarray, at_image: bool) -> float:
    weights = as_arrays(model)
    conv = weights["conv.weight"][:, :, 0, 0]
    hidden = np.einsum("oc,chw->ohw", conv, face.astype(np.float64))
    channels, places = len(hidden), hidden[0].size
    mean, var = hidden.mean((1, 2)), hidden.var((1, 2))
    # d mean / d h = 1 / places, d var / d h = 2 (h - mean) / places
    by_mean = 2 * (mean - weights["bn.running_mean"]) / channels
    by_var = 2 * (var - weights["bn.running_var"]) / channels
    gradient = (by_mean[:, None, None] + by_var[:, None, None] * 2 * (hidden - mean[:, None, None])) / places
    if at_image:
        gradient = np.einsum("oc,ohw->chw", conv, gradient)
    return -np.abs(gradient).sum()


@pytest.mark.parametrize("layer", ["image", "conv"])
def test_grafiqs(make_method, linear_model, faces, layer):
    scores = make_method("grafiqs", linear_model, layer=layer)(faces).scores
    expected = [grafiqs(linear_model, face, layer == "image") for face in canonical(faces)]
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("layer", ["image", "layer1", "layer3"])
def test_grafiqs_of_a_deep_model_one_image_at_a_time(make_method, make_network, faces, layer):
    # As the authors go about it: statistics of a batch of one, in float64, one backward an image.
    scores = make_method("grafiqs", layer=layer)(faces, batch_size=5).scores
    model = make_network("grafiqs").double()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    seen, outputs = [], []
    for norm in norms:
        norm.register_forward_hook(lambda module, args, output: seen.append((module, args[0])))
    if layer != "image":
        model.get_submodule(layer).register_forward_hook(lambda module, args, output: outputs.append(output))
    for face, score in zip(canonical(faces), scores, strict=True):
        seen.clear()
        image = torch.from_numpy(face).double()[None].requires_grad_()
        model(image)
        loss = sum(
            nn.functional.mse_loss(x.mean([0, 2, 3]), norm.running_mean)
            + nn.functional.mse_loss(x.var([0, 2, 3], correction=0), norm.running_var)
            for norm, x in seen
        )
        (gradient,) = torch.autograd.grad(loss / len(norms), image if layer == "image" else outputs[-1])
        assert score.item() == pytest.approx(-gradient.abs().sum().item(), rel=1e-4)


# -- norms and regression heads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["magface", "embedding-norm"])
@pytest.mark.parametrize("unit", [False, True])
def test_the_norm_is_that_before_normalisation(make_method, make_network, faces, name, unit):
    model = make_network(name)
    with torch.no_grad():
        embeddings = model(torch.from_numpy(np.stack(canonical(faces)))).embeddings.numpy().astype(np.float64)
    model.config.normalize_embedding = unit
    scores = make_method(name, model)(faces).scores
    np.testing.assert_allclose(scores.numpy(), np.sqrt((embeddings**2).sum(1)), rtol=1e-5)


@pytest.mark.parametrize("name", ["cr-fiqa", "diffiqa-r", "ediffiqa", "sdd-fiqa"])
def test_a_regression_head_on_its_embedding(make_method, make_network, faces, name):
    model = make_network(name)
    weights = as_arrays(model)
    with torch.no_grad():
        hidden = model(torch.from_numpy(np.stack(canonical(faces)))).embeddings.numpy().astype(np.float64)
    score = "score" if name == "sdd-fiqa" else "head.score"
    if name == "ediffiqa":
        hidden = hidden @ weights["head.hidden.weight"].T + weights["head.hidden.bias"]
        hidden = hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2  # GELU
    if name == "sdd-fiqa":
        hidden = np.where(hidden > 0, hidden, weights["head_prelu.weight"] * hidden)
    expected = hidden @ weights[f"{score}.weight"][0] + weights[f"{score}.bias"]
    np.testing.assert_allclose(make_method(name, model)(faces).scores.numpy(), expected, rtol=1e-4, atol=1e-5)
