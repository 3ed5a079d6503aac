# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
ViTNT-FIQA against its formula in NumPy and float64, and against what the authors' code gave for weights by rule
(`fixtures/face_vit.npz`).
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.close import assert_close
from fixtures.face_vit import layout
from fixtures.fill import fill_state_dict, make_images
from methods.conftest import FACE_VIT, canonical, filled

from diffiqa_hf import FaceViTConfig, FaceViTModel
from diffiqa_hf.conversion.dialects.face_vit import convert_cvlface_vit
from diffiqa_hf.methods import load_method


EXPECTED = np.load(Path(__file__).parents[1] / "fixtures" / "face_vit.npz")


def layer_norm(tokens: np.ndarray, weights: dict, name: str) -> np.ndarray:
    mean, var = tokens.mean(-1, keepdims=True), tokens.var(-1, keepdims=True)
    return (tokens - mean) / np.sqrt(var + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def blocks(model: FaceViTModel, face: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """After each block the tokens, and the attention in it `(heads, tokens, tokens)`."""
    weights = {name: tensor.numpy().astype(np.float64) for name, tensor in model.state_dict().items()}
    size, heads = model.config.patch_size, model.config.num_attention_heads
    rows, columns = (side // size for side in face.shape[1:])
    patches = face[:, : rows * size, : columns * size].reshape(3, rows, size, columns, size)
    patches = patches.transpose(1, 3, 0, 2, 4).reshape(rows * columns, -1)
    tokens = patches @ weights["embeddings.projection.weight"].reshape(model.config.hidden_size, -1).T
    tokens = tokens + weights["embeddings.projection.bias"]
    if model.config.quality_token:
        tokens = np.concatenate([weights["embeddings.quality_token"][0], tokens])
    tokens = tokens + weights["embeddings.positions"][0]
    found, attentions = [], []
    for i in range(model.config.num_hidden_layers):
        name = f"blocks.{i}"
        normed = layer_norm(tokens, weights, f"{name}.norm1")
        qkv = (normed @ weights[f"{name}.attention.qkv.weight"].T).reshape(len(tokens), 3, heads, -1)
        query, key, value = qkv.transpose(1, 2, 0, 3)
        logits = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
        attention = np.exp(logits - logits.max(-1, keepdims=True))
        attention /= attention.sum(-1, keepdims=True)
        out = (attention @ value).transpose(1, 0, 2).reshape(len(tokens), -1)
        out = out @ weights[f"{name}.attention.proj.weight"].T + weights[f"{name}.attention.proj.bias"]
        tokens = tokens + out
        inside = layer_norm(tokens, weights, f"{name}.norm2") @ weights[f"{name}.fc1.weight"].T
        inside = np.clip(inside + weights[f"{name}.fc1.bias"], 0, 6)
        tokens = tokens + inside @ weights[f"{name}.fc2.weight"].T + weights[f"{name}.fc2.bias"]
        found.append(layer_norm(tokens, weights, "norm"))
        attentions.append(attention)
    return found, attentions


@pytest.mark.parametrize("with_token", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"num_blocks": 2, "scaling": 2.0}, {"attention_weights": True}, {"num_blocks": 2, "attention_weights": True}],
)
def test_the_formula(make_method, faces, with_token, options):
    model = filled(FaceViTModel(FaceViTConfig(**FACE_VIT, quality_token=with_token)))
    output = make_method("vitnt-fiqa", model, **options)(faces)
    count, scaling = options.get("num_blocks", 3), options.get("scaling", 8.0)
    for i, face in enumerate(canonical(faces).numpy().astype(np.float64)):
        tokens, attentions = blocks(model, face)
        unit = [x[int(with_token) :] for x in tokens[:count]]
        unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in unit]
        distances = np.mean([np.linalg.norm(b - a, axis=-1) for a, b in zip(unit[:-1], unit[1:], strict=True)], axis=0)
        weights = np.full(len(distances), 1 / len(distances))
        if options.get("attention_weights"):
            weights = attentions[count - 1].mean(0).sum(0)[int(with_token) :]
            weights = weights / weights.sum()
        expected = (weights * 2 / (1 + np.exp(scaling * distances))).sum()
        assert output.scores[i].item() == pytest.approx(expected, abs=2e-6)
        assert output.terms["distance"][i].item() == pytest.approx(distances.mean(), abs=2e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vitnt", {}),
        ("vitnt_scaling", {"scaling": 1.0}),
        ("vitnt_attention", {"num_blocks": 2, "attention_weights": True}),
    ],
)
def test_same_scores_as_the_authors_code(name, options):
    config, state_dict = convert_cvlface_vit(fill_state_dict(layout("cvlface_base")))
    model = FaceViTModel(config)
    model.load_state_dict(state_dict, strict=True)
    scores, _ = load_method("vitnt-fiqa", fr_model=model, **options).raw_scores(make_images(0), 0)
    assert_close(scores, EXPECTED[name])


def test_other_fr_models_are_refused(make_network):
    with pytest.raises(ValueError, match="has to be a FaceViTModel, this is a IResNetModel"):
        load_method("vitnt-fiqa", fr_model=make_network("froq"))
    with pytest.raises(ValueError, match="vitnt-fiqa needs fr_model: .*CVLface"):
        load_method("vitnt-fiqa")


def test_a_patch_is_weighed_by_the_attention_that_it_gets():
    """By hand: all attention to one patch makes the score that patch's own."""
    model = filled(FaceViTModel(FaceViTConfig(**FACE_VIT)))
    with torch.no_grad():
        attention = model.blocks[-1].attention
        attention.qkv.weight[:32] = 0
    found = load_method("vitnt-fiqa", fr_model=model, attention_weights=True).raw_scores(make_images(0, 2, 32), 0)[0]
    even = load_method("vitnt-fiqa", fr_model=model).raw_scores(make_images(0, 2, 32), 0)[0]
    assert_close(found, even)  # queries and keys of zero: all patches alike
