# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The vision transformers against what the code of insightface, CVLface and ViT-FIQA gave for weights by rule
(`fixtures/face_vit.npz`, networks of three blocks, 32 wide), and what is our own in them.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.close import assert_close, is_close
from fixtures.face_vit import layout
from fixtures.fill import fill_state_dict, make_images

from diffiqa_hf import AutoModelForFaceQuality, FaceViTConfig, FaceViTForFaceQuality, FaceViTModel
from diffiqa_hf.alignment import ARCFACE_TEMPLATE
from diffiqa_hf.conversion.dialects.face_vit import convert_cvlface_vit, convert_insightface_vit, convert_vit_fiqa
from diffiqa_hf.conversion.networks import load_fr_model
from diffiqa_hf.models.face_vit.modeling_face_vit import FaceViTBlock, RelativeKeypoints


EXPECTED = np.load(Path(__file__).parents[1] / "fixtures" / "face_vit.npz")
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
TINY |= {"crop_size": [32, 32], "embedding_size": 12}


def make(cls=FaceViTModel, **settings):
    torch.manual_seed(0)
    model = cls(FaceViTConfig(**{**TINY, **settings}))
    tensors = fill_state_dict({name: tensor.shape for name, tensor in model.state_dict().items()})
    model.load_state_dict({name: 3 * x if x.ndim > 1 else x for name, x in tensors.items()})
    return model.eval()


# -- parity -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["insightface", "cvlface_small", "cvlface_base", "cvlface_kprpe"])
@torch.no_grad()
def test_same_embeddings_as_the_original(name):
    convert = convert_insightface_vit if name == "insightface" else convert_cvlface_vit
    config, state_dict = convert(fill_state_dict(layout(name)))
    assert config.num_attention_heads == {"cvlface_base": 16, "cvlface_kprpe": 16}.get(name, 8)
    model = FaceViTModel(config).eval()
    model.load_state_dict(state_dict, strict=True)
    assert_close(model(make_images(0)).embeddings, EXPECTED[name])
    if name == "cvlface_kprpe":
        keypoints = np.random.default_rng(1).uniform(0, 1, (2, 5, 2)).astype(np.float32)
        found = model(make_images(0), torch.from_numpy(keypoints)).embeddings
        assert_close(found, EXPECTED["cvlface_kprpe_keypoints"])
        assert not is_close(EXPECTED["cvlface_kprpe_keypoints"], EXPECTED[name], 1e-3)


@pytest.mark.parametrize("mode", ["token", "full", "crfiqa"])
@torch.no_grad()
def test_same_scores_as_vit_fiqa(mode):
    config, state_dict = convert_vit_fiqa(fill_state_dict(layout(f"vit_fiqa_{mode}")))
    assert (config.quality_token, config.embed_quality_token) == (mode != "crfiqa", mode == "full")
    model = AutoModelForFaceQuality.from_config(config).eval()
    assert type(model) is FaceViTForFaceQuality
    model.load_state_dict(state_dict, strict=True)
    output = model(make_images(0))
    assert_close(output.embeddings, EXPECTED[f"vit_fiqa_{mode}_embeddings"])
    assert_close(output.scores, EXPECTED[f"vit_fiqa_{mode}"])


@pytest.mark.parametrize(
    ("convert", "name", "change", "match"),
    [
        (convert_insightface_vit, "insightface", {"head.weight": [2, 2]}, "unexpected tensors: head.weight"),
        (convert_insightface_vit, "insightface", {"pos_embed": None}, "missing tensors: pos_embed"),
        (convert_insightface_vit, "insightface", {"blocks.1.attn.q.weight": [2, 2]}, "unexpected .*blocks.1.attn.q"),
        (convert_cvlface_vit, "cvlface_base", {"blocks.0.mlp.fc1.weight": [128, 32]}, "4 times the width are neither"),
        (convert_cvlface_vit, "cvlface_kprpe", {"keypoint_linear.weight": [49, 10]}, "49 rows, not 49 for each of 16"),
        (convert_vit_fiqa, "vit_fiqa_token", {"head_qs.2.weight": [1]}, "unexpected tensors: head_qs.2.weight"),
    ],
)
def test_tensors_of_another_network(convert, name, change, match):
    shapes = {key: shape for key, shape in (layout(name) | change).items() if shape is not None}
    with pytest.raises(ValueError, match=match):
        convert(fill_state_dict(shapes))


def test_the_published_sizes():
    """Counted from the authors' networks: CVLface's ViT-B, ViT-FIQA's ViT-S."""
    published = {"patch_size": 9, "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 2048}
    with torch.device("meta"):
        assert FaceViTModel(FaceViTConfig()).num_parameters() == sum(_cvlface_base().values())
        fiqa = FaceViTForFaceQuality(FaceViTConfig(**published, quality_token=True, mask_ratio=0.1))
    assert fiqa.num_parameters() == sum(_vit_fiqa().values())


def _blocks(depth: int, width: int, inside: int) -> int:
    linear = width * 3 * width + width * width + width + 2 * width * inside + inside + width
    return depth * (linear + 4 * width)


def _cvlface_base() -> dict[str, int]:
    return {
        "patches": 512 * 3 * 64 + 512,
        "positions": 196 * 512,
        "blocks": _blocks(24, 512, 1536),
        "norm": 1024,
        "feature": 196 * 512 * 512 + 512 * 512 + 4 * 512,
    }


def _vit_fiqa() -> dict[str, int]:
    return {
        "patches": 512 * 3 * 81 + 512,
        "positions and tokens": 145 * 512 + 2 * 512,
        "blocks": _blocks(12, 512, 2048),
        "norm": 1024,
        "feature": 144 * 512 * 512 + 512 * 512 + 4 * 512,
        "head": 3 * 512,
    }


# -- the quality token ------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_score_is_read_from_the_token_and_the_embedding_from_the_patches():
    model = make(FaceViTForFaceQuality, quality_token=True)
    faces = make_images(0, 3, 32)
    tokens = model.backbone.encode(faces)
    assert tokens.shape == (3, 17, 16)
    output = model(faces)
    assert_close(output.scores, model.head(tokens[:, 0]))
    # The last block's patches alone make the embedding: another token before the head changes nothing of it.
    model.head.score.weight *= 2
    assert_close(model(faces).scores, 2 * output.scores)
    assert_close(model(faces).embeddings, output.embeddings)


def test_a_quality_model_is_an_fr_model_and_an_fr_model_gets_a_head(tmp_path):
    model = make(FaceViTForFaceQuality, quality_token=True)
    model.save_pretrained(tmp_path / "quality")
    faces = make_images(0, 2, 32)
    fr_model = load_fr_model(tmp_path / "quality")
    with torch.no_grad():
        assert_close(fr_model(faces).embeddings, model(faces).embeddings)
    make().save_pretrained(tmp_path / "fr")
    with_head = AutoModelForFaceQuality.from_pretrained(tmp_path / "fr")
    assert with_head.head.score.in_features == TINY["embedding_size"]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"num_attention_heads": 3}, "multiple of num_attention_heads"),
        ({"patch_size": 40}, "larger than the face"),
        ({"num_hidden_layers": 0}, "are positive"),
        ({"embed_quality_token": True}, "goes with quality_token"),
        ({"relative_keypoints": True, "quality_token": True}, "patches alone"),
        ({"quality_hidden_size": 8}, "no hidden layer"),
        ({"mask_ratio": 1.0}, r"lie in \[0, 1\)"),
        ({"drop_path_rate": -0.1}, r"lie in \[0, 1\)"),
    ],
)
def test_configurations_that_make_no_sense(settings, match):
    with pytest.raises(ValueError, match=match):
        FaceViTConfig(**{**TINY, **settings})


# -- keypoints --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_bias_is_that_of_each_pair_of_patches():
    """KP-RPE's formula, pair by pair in NumPy and float64."""
    config = FaceViTConfig(**TINY | {"crop_size": [112, 112]}, relative_keypoints=True)
    module = RelativeKeypoints(config).double()
    module.load_state_dict(
        {key: x.double() for key, x in fill_state_dict({k: x.shape for k, x in module.state_dict().items()}).items()}
    )
    points = np.random.default_rng(0).uniform(0, 1, (5, 2))
    found = module(torch.from_numpy(points)[None]).numpy()
    assert found.shape == (2, 1, 2, 196, 196)
    weight, bias = module.linear.weight.numpy(), module.linear.bias.numpy()
    rng = np.random.default_rng(1)

    def offset(distance: int) -> int:
        if abs(distance) <= 1:
            return distance
        far = round(1.9 + np.log(abs(distance) / 1.9) / np.log(8) * 1.9)
        return int(np.sign(distance) * min(far, 3))

    for _ in range(200):
        i, j = rng.integers(196, size=2)
        (row, column), (other_row, other_column) = divmod(i, 14), divmod(j, 14)
        centre = np.array([(column + 0.5) / 14, (row + 0.5) / 14])
        bucket = (offset(row - other_row) + 3) * 7 + offset(column - other_column) + 3
        for block in range(2):
            for head in range(2):
                line = (block * 2 + head) * 49 + bucket
                expected = weight[line] @ (centre - points).ravel() + bias[line]
                np.testing.assert_allclose(found[block, 0, head, i, j], expected, atol=1e-12)


@torch.no_grad()
def test_canonical_faces_have_their_points_where_they_are_aligned_to():
    model = make(relative_keypoints=True, crop_size=[112, 96])
    faces = make_images(0, 2)
    points = torch.tensor((ARCFACE_TEMPLATE - [8, 0]) / [96, 112], dtype=torch.float32)
    expected = model(faces).embeddings
    assert_close(model(faces, points.expand(2, -1, -1)).embeddings, expected)
    assert not is_close(model(faces, points.flip(1).expand(2, -1, -1)).embeddings, expected, 1e-4)
    with pytest.raises(ValueError, match="takes no keypoints"):
        make()(make_images(0, 2, 32), points.expand(2, -1, -1))


# -- training ---------------------------------------------------------------------------------------------------------


def test_masked_patches_are_seen_by_no_block_and_replaced_behind_the_last():
    model = make(FaceViTForFaceQuality, quality_token=True, mask_ratio=0.25).train()
    faces = make_images(0, 2, 32)
    counts = []
    for block in model.backbone.blocks:
        block.register_forward_pre_hook(lambda module, args: counts.append(args[0].shape[1]))
    with torch.no_grad():
        model.backbone.mask_token.fill_(7.0)
    tokens = model.backbone.encode(faces)
    assert counts == [12, 12]  # of 17
    masked = tokens.eq(7.0).all(2)
    assert masked.sum(1).tolist() == [5, 5] and not masked[:, 0].any()
    # Those that stay stand in their own places: in evaluation mode, with one block that does nothing, they are equal.
    for block in model.backbone.blocks:
        for layer in (block.attention.proj, block.fc2):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    tokens = model.backbone.encode(faces)
    masked = tokens.eq(7.0).all(2)
    whole = model.eval().backbone.encode(faces)
    torch.testing.assert_close(tokens[~masked], whole[~masked])


def test_stochastic_depth_leaves_out_blocks_in_training_alone():
    torch.manual_seed(0)
    block = FaceViTBlock(FaceViTConfig(**TINY), drop_path=0.5)
    tokens = torch.randn(400, 4, 16)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(0, 0.5)
        whole = block.eval()(tokens)
        found = block.train()(tokens)
    untouched = (found == tokens).all((1, 2)).float().mean()
    assert 0.15 < untouched < 0.35  # both of its halves are left out for a quarter
    assert_close(block.eval()(tokens), whole)
    assert_close(FaceViTBlock(FaceViTConfig(**TINY), 0.0).train()(tokens).shape, whole.shape)
