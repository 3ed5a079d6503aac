# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The scores and losses of PreFIQs, PFE, PCNet, FaceQnet, FaceQgen and FROQ against their formulas, written again in
NumPy and float64. tests/conversion has the networks of PFE and FaceQnet.
"""

import math

import numpy as np
import pytest
import torch
from fixtures.close import assert_close
from fixtures.fill import fill_state_dict
from methods.conftest import canonical
from torch import nn

from diffiqa_hf import IResNetConfig, IResNetModel, MobileFaceNetConfig, MobileFaceNetModel
from diffiqa_hf.methods import load_method
from diffiqa_hf.methods.froq import greedy_layers, pseudo_quality
from diffiqa_hf.methods.prefiqs import pruned_copy
from diffiqa_hf.models import FaceEmbeddingOutput, FaceModelConfig, FacePreTrainedModel
from diffiqa_hf.models.clib_fiqa import CLIBFIQAConfig, CLIBFIQAForFaceQuality
from diffiqa_hf.models.faceqgen import FaceQgenConfig, FaceQgenForFaceQuality, ssim
from diffiqa_hf.models.faceqnet import FaceQnetConfig, FaceQnetForFaceQuality
from diffiqa_hf.models.pcnet import PCNetConfig, PCNetForFaceQuality, pair_loss
from diffiqa_hf.models.pfe import (
    PFEForFaceQuality,
    SphereNetConfig,
    SphereNetModel,
    mutual_likelihood_loss,
    mutual_likelihood_score,
)


def as_arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().astype(np.float64) for name, tensor in model.state_dict().items()}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


# -- PreFIQs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["network", "layer"])
@pytest.mark.parametrize("sparsity", [0.4, 0.75])
def test_prefiqs_is_what_survives_pruning(make_method, make_network, faces, sparsity, scope):
    model = make_network("prefiqs")
    scores = make_method("prefiqs", model, sparsity=sparsity, scope=scope)(faces).scores
    weights = {name: x for name, x in as_arrays(model).items() if name.endswith("weight") and x.ndim > 1}
    groups = [list(weights)] if scope == "network" else [[name] for name in weights]
    state = model.state_dict()
    for names in groups:
        sizes = np.sort(np.concatenate([np.abs(weights[name]).ravel() for name in names]))
        largest = sizes[round(sparsity * len(sizes)) - 1]  # of those that go
        for name in names:
            kept = np.abs(weights[name]) > largest
            state[name] = torch.from_numpy(weights[name] * kept).float()
    pruned = type(model)(model.config).eval()
    pruned.load_state_dict(state)
    with torch.no_grad():
        first, second = (net(canonical(faces)).embeddings.double().numpy() for net in (model, pruned))
    for score, a, b in zip(scores, first, second, strict=True):
        distance = np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b))
        assert distance > 0.01
        assert score.item() == pytest.approx(1 - distance / 2, abs=1e-5)


def test_prefiqs_prunes_a_copy_alone(make_network):
    model = make_network("prefiqs")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    copied = pruned_copy(model, 0.5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert copied.state_dict().keys() == before.keys()
    weights = [m.weight for m in copied.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert sum((w == 0).sum().item() for w in weights) == round(0.5 * sum(w.numel() for w in weights))
    assert torch.equal(copied.fc.bias, model.fc.bias) and not any(p.requires_grad for p in copied.parameters())


# -- PFE -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [-7.0, 60.0])  # the sum of inverse variances may be large or small
def test_pfe_is_minus_the_harmonic_mean_of_the_variances(make_method, make_network, faces, shift):
    model = make_network("pfe")
    with torch.no_grad():
        model.uncertainty.shift.fill_(shift)
        variances = np.exp(model(canonical(faces)).log_variances.numpy().astype(np.float64))
    expected = -variances.shape[1] / (1 / variances).sum(1)
    np.testing.assert_allclose(make_method("pfe", model)(faces).scores.numpy(), expected, rtol=1e-4)


BACKBONES = {
    "spherenet": lambda: SphereNetModel(SphereNetConfig(depths=[0, 1], widths=[4, 6], crop_size=[32, 32])),
    "iresnet": lambda: IResNetModel(
        IResNetConfig(depths=[1, 1], widths=[4, 6], embedding_size=16, crop_size=[32, 32], channel_order="bgr")
    ),
    "mobilefacenet": lambda: MobileFaceNetModel(
        MobileFaceNetConfig(crop_size=[32, 32], stages=[[8, 8, 1, 2], [8, 8, 1, 2], [8, 8, 1, 2]], feature_width=16)
    ),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_pfe_on_any_fr_model(name, faces, tmp_path):
    fr_model = BACKBONES[name]()
    fr_model.load_state_dict(fill_state_dict({key: tensor.shape for key, tensor in fr_model.state_dict().items()}))
    model = PFEForFaceQuality.from_fr_model(fr_model).eval()
    model.save_pretrained(tmp_path)
    again = PFEForFaceQuality.from_pretrained(tmp_path)
    assert type(again.backbone) is type(fr_model) and again.config.channel_order == fr_model.config.channel_order
    pixels = canonical(faces)
    # What the last layer reads, from a network that has none.
    fr_model.eval()
    last = fr_model.fc if hasattr(fr_model, "fc") else fr_model.embed
    read = []
    handle = last.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    with torch.no_grad():
        embeddings = fr_model(pixels).embeddings.double()
        output = again(pixels)
    handle.remove()
    expected = embeddings / embeddings.norm(dim=1, keepdim=True)
    torch.testing.assert_close(output.embeddings.double(), expected, atol=1e-6, rtol=0)
    weights = as_arrays(again.uncertainty)
    y = read[0].numpy().astype(np.float64) @ weights["fc1.weight"].T
    y = (y - weights["norm1.running_mean"]) / np.sqrt(weights["norm1.running_var"] + 1e-3)
    y = np.maximum(y * weights["norm1.weight"] + weights["norm1.bias"], 0) @ weights["fc2.weight"].T
    y = (y - weights["norm2.running_mean"]) / np.sqrt(weights["norm2.running_var"] + 1e-3)
    expected = np.log(1e-6 + np.exp(1e-4 * y - 7))
    np.testing.assert_allclose(output.log_variances.numpy(), expected, atol=2e-6)


def negative_mls(mu_a, var_a, mu_b, var_b) -> float:
    total = var_a + var_b
    return sum((mu_a - mu_b) ** 2 / total + np.log(total)) / 2


def test_mutual_likelihood():
    rng = np.random.default_rng(0)
    mu, log_var = rng.standard_normal((6, 5)), rng.standard_normal((6, 5))
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    labels = [3, 1, 3, 1, 0, 3]
    tensors = [torch.from_numpy(values) for values in (mu, log_var)]
    score = mutual_likelihood_score(*(tensor[0] for tensor in tensors), *(tensor[1] for tensor in tensors))
    assert score.item() == pytest.approx(-negative_mls(mu[0], np.exp(log_var[0]), mu[1], np.exp(log_var[1])))
    pairs = [(0, 2), (0, 5), (2, 5), (1, 3)]
    losses = [negative_mls(mu[i], np.exp(log_var[i]), mu[j], np.exp(log_var[j])) for i, j in pairs]
    loss = mutual_likelihood_loss(*tensors, torch.tensor(labels))
    assert loss.item() == pytest.approx(np.mean(losses))
    with pytest.raises(ValueError, match="no two faces of the batch are of one person"):
        mutual_likelihood_loss(*tensors, torch.arange(6))


def test_pfe_learns_which_faces_are_uncertain():
    """Half of the faces have no stable embedding: their variances rise above the others'."""
    torch.manual_seed(0)
    config = SphereNetConfig(depths=[0, 0], widths=[4, 8], crop_size=[32, 32], embedding_size=8)
    model = PFEForFaceQuality.from_fr_model(SphereNetModel(config))
    model.backbone.requires_grad_(False)
    faces = torch.rand(8, 3, 32, 32) * 2 - 1
    faces[4:] *= 0.3
    optimizer = torch.optim.SGD(model.uncertainty.parameters(), 0.05, momentum=0.9)
    labels = torch.arange(8).repeat(2)
    first = None
    for _ in range(60):
        model.train()
        model.backbone.eval()
        noise = torch.randn(16, 3, 32, 32) * torch.where(labels < 4, 0.01, 0.3)[:, None, None, None]
        output = model((faces[labels] + noise).clamp(-1, 1))
        loss = mutual_likelihood_loss(output.embeddings, output.log_variances, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first = first or loss.item()
    assert loss.item() < first
    with torch.no_grad():
        scores = model.eval()(faces).scores
    assert scores[:4].mean() > scores[4:].mean()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())


# -- PCNet -----------------------------------------------------------------------------------------------------------


def conv_bn_relu(weights: dict[str, np.ndarray], name: str, x: np.ndarray, stride: int) -> np.ndarray:
    """On (C, H, W) with even sides, padded as TensorFlow's SAME."""
    kernel = weights[f"{name}.conv.weight"]
    before, after = (0, 1) if stride == 2 else (1, 1)
    x = np.pad(x, [(0, 0), (before, after), (before, after)])
    rows, columns = ((side - 3) // stride * stride + 1 for side in x.shape[1:])
    parts = [
        np.einsum("oc,chw->ohw", kernel[:, :, i, j], x[:, i : i + rows : stride, j : j + columns : stride])
        for i in range(3)
        for j in range(3)
    ]
    y = sum(parts) - weights[f"{name}.norm.running_mean"][:, None, None]
    y = y * (weights[f"{name}.norm.weight"] / np.sqrt(weights[f"{name}.norm.running_var"] + 1e-3))[:, None, None]
    return np.maximum(y + weights[f"{name}.norm.bias"][:, None, None], 0)


def test_pcnet(make_method, make_network, faces):
    model = make_network("pcnet")
    weights = as_arrays(model)
    scores = make_method("pcnet", model)(faces).scores
    for face, score in zip(faces, scores, strict=True):
        x = (face.astype(np.float64).transpose(2, 0, 1) - 127.5) / 128
        for stage, depth in enumerate(model.config.depths):
            x = conv_bn_relu(weights, f"stages.{stage}.down", x, 2)
            for i in range(depth):
                name = f"stages.{stage}.blocks.{i}"
                x = x + conv_bn_relu(weights, f"{name}.conv2", conv_bn_relu(weights, f"{name}.conv1", x, 1), 1)
        logit = weights["score.weight"][0] @ x.mean((1, 2)) + weights["score.bias"][0]
        assert score.item() == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-5)


def test_the_pair_loss_is_that_of_the_worse_face():
    rng = np.random.default_rng(1)
    scores, embeddings = rng.uniform(size=5), 3 * rng.standard_normal((5, 4))
    pairs = [(0, 3), (1, 4)]
    expected = np.mean([(cosine(embeddings[i], embeddings[j]) - min(scores[i], scores[j])) ** 2 for i, j in pairs])
    q = torch.from_numpy(scores).requires_grad_()
    f = torch.from_numpy(embeddings).requires_grad_()
    loss = pair_loss(q, f, torch.tensor([0, 1, 2, 0, 1]))
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    # Only the worse face of a pair learns, and the FR model does not.
    worse = [min(pair, key=lambda i: scores[i]) for pair in pairs]
    assert q.grad.nonzero().flatten().tolist() == sorted(worse) and f.grad is None


def test_pcnet_learns_its_labels():
    torch.manual_seed(0)
    model = PCNetForFaceQuality(PCNetConfig(depths=[0, 0], widths=[8, 8], crop_size=[32, 32])).train()
    faces = torch.rand(8, 3, 32, 32) * 2 - 1
    faces[4:] *= 0.2  # the pairs of which are not alike
    embeddings = torch.eye(8)
    embeddings[:4] = torch.eye(8)[0]
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(40):
        loss = pair_loss(model(faces).scores, embeddings, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02
    scores = model(faces).scores
    assert scores[:4].min() > scores[4:].view(2, 2).min(1).values.max() + 0.3


def test_the_defaults_are_the_published_sizes():
    def count(model: nn.Module, kind: type) -> int:
        return sum(isinstance(module, kind) for module in model.modules())

    with torch.device("meta"):
        pcnet, faceqnet = PCNetForFaceQuality(PCNetConfig()), FaceQnetForFaceQuality(FaceQnetConfig())
        clib_fiqa, spherenet = CLIBFIQAForFaceQuality(CLIBFIQAConfig()), SphereNetModel(SphereNetConfig())
    assert (count(pcnet, nn.Conv2d), count(pcnet, nn.Linear)) == (16, 1)
    # The 64 layers of the name are the convolutions.
    assert (count(spherenet, nn.Conv2d), count(spherenet, nn.Linear)) == (64, 1)
    # A ResNet-50 without its classifier, and the image encoder of CLIP's RN50 with the temperature.
    trunk = [parameter for name, parameter in faceqnet.named_parameters() if not name.startswith("dense.")]
    assert sum(parameter.numel() for parameter in trunk) == 23_508_032
    assert sum(parameter.numel() for parameter in clib_fiqa.parameters()) == 38_316_896 + 1


# -- FaceQnet --------------------------------------------------------------------------------------------------------


def test_faceqnet_clips(make_method, make_network, faces):
    model = make_network("faceqnet")
    inside = make_method("faceqnet", model)(faces)
    assert torch.equal(inside.scores, inside.terms["unclipped"])
    middle = inside.scores.median()
    with torch.no_grad():  # spread around the middle one, which becomes 1/2
        model.dense[-1].weight *= 1e3
        model.dense[-1].bias.copy_(0.5 + 1e3 * (model.dense[-1].bias - middle))
    output = make_method("faceqnet", model)(faces)
    unclipped = output.terms["unclipped"].numpy()
    assert unclipped.min() < 0 and unclipped.max() > 1
    np.testing.assert_array_equal(output.scores.numpy(), np.clip(unclipped, 0, 1))


def test_faceqnet_reads_bgr_from_0_to_255(make_network):
    pixels = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    prepared = make_network("faceqnet").prepare_faces(pixels / 127.5 - 1)
    torch.testing.assert_close(prepared, pixels.flip(1).float(), atol=2e-4, rtol=0)
    with pytest.raises(ValueError, match="head_acts are"):
        FaceQnetConfig(head_acts=["relu", "softmax"])
    with pytest.raises(ValueError, match="one more than head_widths"):
        FaceQnetConfig(head_acts=["relu"])


# -- FaceQgen --------------------------------------------------------------------------------------------------------


def ssim_of(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004, window by window, of (C, H, W) in [0, 1]."""
    g = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    window = np.outer(g, g) / np.outer(g, g).sum()
    values = []
    for x, y in zip(a, b, strict=True):
        for i in range(x.shape[0] - 10):
            for j in range(x.shape[1] - 10):
                p, q = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                cov = (window * (p - mp) * (q - mq)).sum()
                value = (2 * mp * mq + 0.01**2) * (2 * cov + 0.03**2)
                values.append(value / (mp**2 + mq**2 + 0.01**2) / (vp + vq + 0.03**2))
    return np.mean(values)


def test_structural_similarity():
    rng = np.random.default_rng(5)
    a = rng.uniform(size=(2, 3, 16, 14))
    b = np.clip(a + 0.2 * rng.standard_normal(a.shape), 0, 1)
    result = ssim(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(result, [ssim_of(x, y) for x, y in zip(a, b, strict=True)], rtol=1e-9)
    np.testing.assert_allclose(ssim(torch.from_numpy(a), torch.from_numpy(a)).numpy(), 1, rtol=1e-9)


def test_faceqgen(make_method, make_network, faces):
    model = make_network("faceqgen")
    pixels = canonical(faces)
    with torch.no_grad():
        restored = model(pixels).restored
        logits = model.discriminator(restored).numpy().astype(np.float64)
    assert restored.shape == pixels.shape and restored.abs().max() < 1
    a, b = ((images.numpy().astype(np.float64) + 1) / 2 for images in (pixels, restored))
    expected = {
        "ssim": [ssim_of(x, y) for x, y in zip(a, b, strict=True)],
        "mse": -((a - b) ** 2).mean((1, 2, 3)),
        "discriminator": (1 / (1 + np.exp(-logits))).mean((1, 2)),
    }
    for measure, values in expected.items():
        output = make_method("faceqgen", model, measure=measure)(faces)
        np.testing.assert_allclose(output.scores.numpy(), values, atol=2e-5)
        assert set(output.terms) == {*expected}
    model.config.measure = "mse"
    np.testing.assert_allclose(make_method("faceqgen", model)(faces).scores.numpy(), expected["mse"], atol=1e-5)
    np.testing.assert_allclose(model(pixels).scores.detach().numpy(), expected["mse"], atol=1e-5)
    with pytest.raises(ValueError, match="measure has to be one of"):
        make_method("faceqgen", model, measure="psnr")


def test_faceqgen_learns_to_restore():
    torch.manual_seed(0)
    config = FaceQgenConfig(generator_widths=[8, 8], discriminator_widths=[4], crop_size=[32, 32])
    model = FaceQgenForFaceQuality(config).train()
    target = torch.nn.functional.interpolate(torch.rand(4, 3, 4, 4) * 2 - 1, size=(32, 32), mode="bilinear")
    noisy = (target + 0.5 * torch.randn(4, 3, 32, 32)).clamp(-1, 1)
    optimizer = torch.optim.Adam(model.generator.parameters(), 0.01)
    losses = []
    for _ in range(60):
        loss = (model.generator(noisy) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


# -- FROQ ------------------------------------------------------------------------------------------------------------


class TwoLayerFRModel(FacePreTrainedModel):
    """1x1 convolution and a linear layer on all pixels; a module that is never run, and one that is run twice."""

    config_class = FaceModelConfig

    def __init__(self, config: FaceModelConfig):
        super().__init__(config)
        self.conv = nn.Conv2d(3, 4, 1, bias=False)
        self.act = nn.Tanh()
        self.fc = nn.Linear(4 * config.crop_size[0] * config.crop_size[1], config.embedding_size)
        self.spare = nn.Linear(2, 2)
        self.post_init()

    def forward(self, pixel_values, return_dict=None):
        hidden_states = self.act(self.act(self.conv(self.prepare_faces(pixel_values))))
        return FaceEmbeddingOutput(embeddings=self.fc(hidden_states.flatten(1)))


@pytest.fixture(scope="module")
def two_layers() -> TwoLayerFRModel:
    torch.manual_seed(0)
    model = TwoLayerFRModel(FaceModelConfig(crop_size=[32, 32], embedding_size=8))
    nn.init.normal_(model.conv.weight)
    nn.init.normal_(model.fc.weight, std=0.02)
    return model.eval()


def run(weights: dict[str, np.ndarray], face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The convolution's output and the embedding of a canonical face (3, H, W)."""
    conv = np.einsum("oc,chw->ohw", weights["conv.weight"][:, :, 0, 0], face)
    return conv, weights["fc.weight"] @ np.tanh(np.tanh(conv)).ravel() + weights["fc.bias"]


def test_froq_is_the_mean_norm_of_the_layers(two_layers, faces, make_method):
    scores = make_method("froq", two_layers, layers=["fc", "conv"])(faces).scores
    weights = as_arrays(two_layers)
    for face, score in zip(canonical(faces).numpy().astype(np.float64), scores, strict=True):
        conv, embedding = run(weights, face)
        expected = (math.sqrt((conv**2).sum()) + math.sqrt((embedding**2).sum())) / 2
        assert score.item() == pytest.approx(expected, rel=1e-5)


def test_froq_pseudo_quality(two_layers, faces):
    weights = as_arrays(two_layers)
    pixels = canonical(faces)
    with torch.no_grad():
        result = pseudo_quality(lambda images: two_layers(images).embeddings, pixels, seed=3, alpha=0.1)
    noise = torch.randn((10, 3, 32, 32), generator=torch.Generator().manual_seed(3)).numpy().astype(np.float64)
    for face, value in zip(pixels.numpy().astype(np.float64), result, strict=True):
        clean = run(weights, face)[1]
        flip = cosine(clean, run(weights, face[:, :, ::-1])[1])
        noisy = np.mean([cosine(clean, run(weights, 0.9 * face + 0.1 * draw)[1]) for draw in noise])
        occluded = []
        for top in range(0, 32, 4):
            for left in range(0, 32, 4):
                changed = face.copy()
                changed[:, top : top + 4, left : left + 4] = -1
                occluded.append(cosine(clean, run(weights, changed)[1]))
        assert value.item() == pytest.approx((flip + noisy + np.mean(occluded)) / 3, abs=1e-5)
    with pytest.raises(ValueError, match="8x8 squares"):
        pseudo_quality(lambda images: images.flatten(1), torch.zeros(1, 3, 30, 32))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Without ties."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return 1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum() / (len(a) * (len(a) ** 2 - 1))


def test_froq_chooses_greedily():
    rng = np.random.default_rng(6)
    quality = rng.standard_normal(40)
    norms = {f"layer{i}": quality + scale * rng.standard_normal(40) for i, scale in enumerate((3, 1, 1.2, 2, 1.5))}
    norms["constant"] = np.ones(40)
    order = sorted((name for name in norms if name != "constant"), key=lambda n: -spearman(norms[n], quality))[:4]
    chosen, left, best = [order[0]], order[1:], []
    sets = [list(chosen)]
    while left:
        best = max(left, key=lambda n: spearman(sum(norms[m] for m in [*chosen, n]), quality))
        chosen.append(best)
        left.remove(best)
        sets.append(list(chosen))
    expected = max(sets, key=lambda names: spearman(sum(norms[m] for m in names), quality))
    assert len(expected) > 1
    assert greedy_layers(norms, quality, 4) == expected
    with pytest.raises(ValueError, match="all alike"):
        greedy_layers({"constant": np.ones(5)}, np.arange(5.0))


def test_froq_calibrates_on_layers_that_are_run_once(two_layers, faces, make_method):
    method = make_method("froq", two_layers, layers=None, calibration=faces)
    with torch.no_grad():
        quality = pseudo_quality(method.embed, canonical(faces)).numpy()
    weights = as_arrays(two_layers)
    outputs = [run(weights, face) for face in canonical(faces).numpy().astype(np.float64)]
    norms = {"conv": np.array([np.linalg.norm(conv) for conv, _ in outputs])}
    norms["fc"] = np.array([np.linalg.norm(embedding) for _, embedding in outputs])
    assert method.layers == greedy_layers(norms, quality) and set(method.layers) <= {"conv", "fc"}
    again = make_method("froq", two_layers, layers=method.layers)
    assert_close(again(faces).scores, method(faces).scores)


def test_froq_settings_that_make_no_sense(two_layers, faces, make_method):
    with pytest.raises(ValueError, match="froq needs either layers"):
        load_method("froq", fr_model=two_layers)
    with pytest.raises(ValueError, match="froq needs either layers"):
        make_method("froq", two_layers, calibration=faces)
    with pytest.raises(ValueError, match="no module 'conv7'"):
        make_method("froq", two_layers, layers=["conv", "conv7"])
    with pytest.raises(ValueError, match="each once"):
        make_method("froq", two_layers, layers=["conv", "conv"])
    with pytest.raises(ValueError, match="num_candidates"):
        make_method("froq", two_layers, num_candidates=0)
    with pytest.raises(ValueError, match="3 images at least"):
        make_method("froq", two_layers, layers=None, calibration=faces[:2])
    with pytest.raises(ValueError, match="no one tensor for a face at 'act'"):
        make_method("froq", two_layers, layers=["act"])(faces)
