# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""CLIB-FIQA: the converter, the text encoder and the network, against CLIP computed in NumPy."""

import math

import numpy as np
import pytest
import torch
from fixtures.close import assert_close
from fixtures.fill import fill_state_dict

from diffiqa_hf import AutoModelForFaceQuality
from diffiqa_hf.conversion import recognise
from diffiqa_hf.conversion.checkpoint import load_foreign
from diffiqa_hf.conversion.dialects.clib_fiqa import encode_sentences, sentences
from diffiqa_hf.conversion.loading import CheckpointError
from diffiqa_hf.methods import load_method
from diffiqa_hf.models.clib_fiqa import CLIBFIQAForFaceQuality


# Numbers of CLIP's vocabulary, for the sentence at that position.
TOKENS = {
    0: "49406 320 1125 539 320 32655 267 44876 2910 267 537 6444 1710 593 29766 943 11357 1798 8331 5799 267 1448 533 "
    "539 2103 3027 49407",
    359: "49406 320 1125 539 320 3143 267 569 44876 2910 267 537 35794 1710 593 9854 11357 1798 5967 5799 267 1448 "
    "533 539 1878 3027 49407",
    # The second blur, pose and quality, and else the first.
    120 + 20 + 1: "49406 320 1125 539 320 21977 267 44876 2910 267 537 14297 6946 1710 593 29766 943 11357 1798 8331 "
    "5799 267 1448 533 539 3665 3027 49407",
}


def norm(name: str, width: int) -> dict[str, list[int]]:
    layout = {f"{name}.{kind}": [width] for kind in ("weight", "bias", "running_mean", "running_var")}
    return layout | {f"{name}.num_batches_tracked": []}


def make_layout(depths=(3, 4, 6, 3), width: int = 4, text_width: int = 16, text_layers: int = 12, size: int = 6):
    """The names and shapes of CLIP with a ResNet."""
    layout = {}
    for i, (inside, outside) in enumerate([(3, width // 2), (width // 2, width // 2), (width // 2, width)], start=1):
        layout |= {f"visual.conv{i}.weight": [outside, inside, 3, 3], **norm(f"visual.bn{i}", outside)}
    before = width
    for stage, depth in enumerate(depths):
        planes = width << stage
        for i in range(depth):
            name = f"visual.layer{stage + 1}.{i}"
            layout |= {f"{name}.conv1.weight": [planes, before, 1, 1], **norm(f"{name}.bn1", planes)}
            layout |= {f"{name}.conv2.weight": [planes, planes, 3, 3], **norm(f"{name}.bn2", planes)}
            layout |= {f"{name}.conv3.weight": [4 * planes, planes, 1, 1], **norm(f"{name}.bn3", 4 * planes)}
            if i == 0:
                layout[f"{name}.downsample.0.weight"] = [4 * planes, before, 1, 1]
                layout |= norm(f"{name}.downsample.1", 4 * planes)
            before = 4 * planes
    layout["visual.attnpool.positional_embedding"] = [50, before]
    for part in "qkvc":
        layout[f"visual.attnpool.{part}_proj.weight"] = [size if part == "c" else before, before]
        layout[f"visual.attnpool.{part}_proj.bias"] = [size if part == "c" else before]
    for i in range(text_layers):
        name = f"transformer.resblocks.{i}"
        layout |= {f"{name}.attn.in_proj_weight": [3 * text_width, text_width]}
        layout |= {f"{name}.attn.in_proj_bias": [3 * text_width]}
        for part, outside, inside in (
            ("attn.out_proj", text_width, text_width),
            ("mlp.c_fc", 4 * text_width, text_width),
            ("mlp.c_proj", text_width, 4 * text_width),
        ):
            layout |= {f"{name}.{part}.weight": [outside, inside], f"{name}.{part}.bias": [outside]}
        for part in ("ln_1", "ln_2"):
            layout |= {f"{name}.{part}.{kind}": [text_width] for kind in ("weight", "bias")}
    layout |= {"token_embedding.weight": [49408, text_width], "positional_embedding": [77, text_width]}
    layout |= {f"ln_final.{kind}": [text_width] for kind in ("weight", "bias")}
    return layout | {"text_projection": [text_width, size], "logit_scale": []}


def make_state_dict(**sizes) -> dict[str, torch.Tensor]:
    tensors = fill_state_dict(make_layout(**sizes))
    # fill_state_dict scales by the fan-in, which these have none of.
    for name in ("token_embedding.weight", "positional_embedding", "visual.attnpool.positional_embedding"):
        tensors[name] = tensors[name] * math.sqrt(tensors[name].shape[1])
    tensors["logit_scale"] = torch.tensor(math.log(100))
    # Faces are to be told apart at the end of a deep network.
    return {
        name: 3 * tensor if name.startswith("visual.") and name.endswith("weight") and tensor.ndim > 1 else tensor
        for name, tensor in tensors.items()
    }


@pytest.fixture(scope="module")
def state_dict() -> dict[str, torch.Tensor]:
    return make_state_dict()


@pytest.fixture(scope="module")
def checkpoint(state_dict, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("clib") / "CLIB-FIQA_R50.pth"
    torch.save({f"module.{name}": tensor for name, tensor in state_dict.items()}, path)
    return str(path)


# -- CLIP in NumPy ---------------------------------------------------------------------------------------------------


def softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def attend(query: np.ndarray, key: np.ndarray, value: np.ndarray, heads: int, causal: bool = False) -> np.ndarray:
    """On (places, width)."""
    size = query.shape[1] // heads
    out = []
    for part in (slice(h * size, (h + 1) * size) for h in range(heads)):
        scores = query[:, part] @ key[:, part].T / math.sqrt(size)
        if causal:
            scores = np.where(np.tri(len(scores)) > 0, scores, -np.inf)
        out.append(softmax(scores) @ value[:, part])
    return np.concatenate(out, 1)


def run_text(weights: dict[str, np.ndarray], tokens: list[int], heads: int) -> np.ndarray:
    def layer_norm(x, name):
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    x = weights["token_embedding.weight"][tokens] + weights["positional_embedding"][: len(tokens)]
    layers = sum(name.endswith("attn.in_proj_bias") for name in weights)
    for i in range(layers):
        name = f"transformer.resblocks.{i}"
        y = layer_norm(x, f"{name}.ln_1")
        y = y @ weights[f"{name}.attn.in_proj_weight"].T + weights[f"{name}.attn.in_proj_bias"]
        x = x + linear(attend(*np.split(y, 3, axis=1), heads, causal=True), f"{name}.attn.out_proj")
        y = linear(layer_norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc")
        x = x + linear(y / (1 + np.exp(-1.702 * y)), f"{name}.mlp.c_proj")
    x = layer_norm(x, "ln_final")[-1] @ weights["text_projection"]
    return x / np.linalg.norm(x)


def run_image(weights: dict[str, np.ndarray], face: np.ndarray, depths: tuple[int, ...]) -> np.ndarray:
    """The unit embedding of one uint8 face (224, 224, 3)."""
    weights = {name.removeprefix("visual."): values for name, values in weights.items()}

    def conv(x, name, stride=1):
        kernel = weights[f"{name}.weight"]
        size = kernel.shape[2]
        places = (x.shape[1] - 1) // stride + 1
        x = np.pad(x, [(0, 0), (size // 2, size // 2), (size // 2, size // 2)])
        n = (places - 1) * stride + 1
        shifts = [(i, j) for i in range(size) for j in range(size)]
        return sum(
            np.tensordot(kernel[:, :, i, j], x[:, i : i + n : stride, j : j + n : stride], 1) for i, j in shifts
        )

    def bn(x, name):
        scale = weights[f"{name}.weight"] / np.sqrt(weights[f"{name}.running_var"] + 1e-5)
        shift = weights[f"{name}.bias"] - scale * weights[f"{name}.running_mean"]
        return x * scale[:, None, None] + shift[:, None, None]

    def relu(x):
        return np.maximum(x, 0)

    def pool(x):
        return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4

    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    x = ((face.astype(np.float64) / 255 - mean) / std).transpose(2, 0, 1)
    for i in (1, 2, 3):
        x = relu(bn(conv(x, f"conv{i}", 2 if i == 1 else 1), f"bn{i}"))
    x = pool(x)
    for stage, depth in enumerate(depths, start=1):
        for i in range(depth):
            name = f"layer{stage}.{i}"
            y = relu(bn(conv(x, f"{name}.conv1"), f"{name}.bn1"))
            y = relu(bn(conv(y, f"{name}.conv2"), f"{name}.bn2"))
            if stage > 1 and i == 0:
                x, y = pool(x), pool(y)
            if i == 0:
                x = bn(conv(x, f"{name}.downsample.0"), f"{name}.downsample.1")
            x = relu(x + bn(conv(y, f"{name}.conv3"), f"{name}.bn3"))
    x = x.reshape(len(x), -1).T
    x = np.concatenate([x.mean(0, keepdims=True), x]) + weights["attnpool.positional_embedding"]

    def linear(x, part):
        return x @ weights[f"attnpool.{part}_proj.weight"].T + weights[f"attnpool.{part}_proj.bias"]

    x = linear(attend(linear(x[:1], "q"), linear(x, "k"), linear(x, "v"), x.shape[1] // 64), "c")[0]
    return x / np.linalg.norm(x)


def as_arrays(state_dict: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().astype(np.float64) for name, tensor in state_dict.items()}


def test_the_text_encoder_reads_the_sentences():
    found = sentences()
    assert len({*found}) == 360
    assert found[0] == (
        "a photo of a hazy, obstructed, and profile face with exaggerated expression under extreme lighting, which is "
        "of bad quality"
    )
    # Two heads.
    tensors = make_state_dict(depths=(), text_width=128, text_layers=2)
    text = {name: value for name, value in tensors.items() if not name.startswith(("visual.", "logit_scale"))}
    features = encode_sentences(text).numpy()
    assert features.shape == (360, 6)
    weights = as_arrays(text)
    for position, tokens in TOKENS.items():
        expected = run_text(weights, [int(token) for token in tokens.split()], 2)
        np.testing.assert_allclose(features[position], expected, atol=2e-5)


def test_a_checkpoint_becomes_the_same_network(state_dict, checkpoint):
    assert len(state_dict) == 489 and [dialect.name for dialect in recognise(state_dict)] == ["clib-fiqa"]
    faces = np.random.default_rng(1).integers(0, 256, (2, 7, 7, 3), dtype=np.uint8)
    faces = faces.repeat(32, 1).repeat(32, 2)
    faces[1] //= 4
    method = load_method("clib-fiqa", weights=checkpoint, align=False)
    output = method(list(faces))
    weights, prompts = as_arrays(state_dict), method.model.prompts.numpy().astype(np.float64)
    for i, face in enumerate(faces):
        p = softmax(100 * prompts @ run_image(weights, face, (3, 4, 6, 3))).reshape(3, 2, 3, 2, 2, 5)
        quality = sum(p[..., level].sum() * value for level, value in enumerate((0.1, 0.3, 0.5, 0.7, 0.9)))
        assert output.scores[i].item() == pytest.approx(quality, abs=1e-5)
        expected = {
            "clear": p[2].sum(),
            "unobstructed": p[:, 1].sum(),
            "frontal": p[:, :, 2].sum(),
            "typical expression": p[:, :, :, 1].sum(),
            "normal lighting": p[:, :, :, :, 1].sum(),
        }
        assert {name: values[i].item() for name, values in output.terms.items()} == pytest.approx(expected, abs=1e-5)
    assert abs(output.scores[0] - output.scores[1]) > 1e-3


def test_the_sizes_are_read_off_the_file_and_survive_saving(checkpoint, tmp_path):
    converted = load_foreign(checkpoint)
    config = converted.model.config
    assert (config.depths, config.width, config.embedding_size) == ([3, 4, 6, 3], 4, 6)
    assert list(config.crop_size) == [224, 224] and converted.dialect.name == "clib-fiqa"
    converted.model.save_pretrained(tmp_path)
    again = AutoModelForFaceQuality.from_pretrained(tmp_path)
    assert type(again) is CLIBFIQAForFaceQuality
    faces = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        for ours, theirs in zip(converted.model(faces).to_tuple(), again(faces).to_tuple(), strict=True):
            assert_close(theirs, ours)
    # Everything but the sentences can be trained.
    model = again.train()
    model(faces.repeat(2, 1, 1, 1)).scores.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters()) and not model.prompts.requires_grad


def test_files_that_are_something_else(state_dict, tmp_path):
    def rejected(tensors: dict[str, torch.Tensor], match: str) -> None:
        torch.save(tensors, tmp_path / "file.pth")
        with pytest.raises(CheckpointError, match=match):
            load_foreign(tmp_path / "file.pth", "clib-fiqa")

    def without(name: str) -> dict[str, torch.Tensor]:
        return {key: value for key, value in state_dict.items() if key != name}

    rejected(without("visual.layer2.1.conv2.weight"), r"missing \(layer2.1.conv2.weight\)")
    rejected(without("transformer.resblocks.3.ln_1.weight"), "not the tensors of clib-fiqa")
    rejected(without("token_embedding.weight"), "1 missing .token_embedding.weight")
    rejected({**state_dict, "transformer.resblocks.3.ln_3.weight": torch.zeros(3)}, "unexpected tensors: transformer")
    rejected({**state_dict, "visual.proj": torch.zeros(3)}, "1 unexpected .proj")
    rejected({**state_dict, "token_embedding.weight": torch.zeros(100, 16)}, "a vocabulary of 100")
