# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
CLIB-FIQA's state dict (`CLIB-FIQA_R50.pth`), named as OpenAI's CLIP. Its text encoder runs once, here, on the 360
sentences; what it gives for them is all that is kept of it.
"""

import itertools
import math

import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from ...models.clib_fiqa import CLIBFIQAConfig
from ...models.clib_fiqa.configuration_clib_fiqa import PROMPT_WORDS


# The tokens of CLIP's vocabulary of 49,408 that the sentences are made of.
_VOCABULARY_SIZE, _START, _END = 49408, 49406, 49407
_TOKENS = {
    **{"a": [320], "photo": [1125], "of": [539], ",": [267], "and": [537], "face": [1710], "with": [593]},
    **{"under": [1798], "which": [1448], "is": [533], "quality": [3027], "angle": [6946], "lighting": [5799]},
    **{"hazy": [32655], "blurry": [21977], "clear": [3143], "profile": [6444], "slight": [14297]},
    **{"frontal": [35794], "obstructed": [44876, 2910], "unobstructed": [569, 44876, 2910], "typical": [9854]},
    **{"exaggerated": [29766, 943], "expression": [11357], "extreme": [8331], "normal": [5967], "bad": [2103]},
    **{"poor": [3665], "fair": [2849], "good": [886], "perfect": [1878]},
}


def sentences() -> list[str]:
    """The 360 sentences, the quality changing first."""
    return [
        f"a photo of a {blur}, {occlusion}, and {pose} face with {look} under {light}, which is of {level} quality"
        for blur, occlusion, pose, look, light, level in itertools.product(*PROMPT_WORDS.values())
    ]


def convert_clib_fiqa(state_dict: dict[str, torch.Tensor]) -> tuple[CLIBFIQAConfig, dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: A bare state dict of CLIP with a ResNet, 489 tensors for RN50 (RGB, 224x224, CLIP's mean and
            standard deviation).

    Returns:
        The configuration and the state dict of a [`CLIBFIQAForFaceQuality`].

    Raises:
        ValueError: A tensor of the text encoder is not expected or missing; it is named.
        KeyError: One that the sizes are read off is missing.
    """
    visual, text = {}, {}
    for name, tensor in state_dict.items():
        if name.startswith("visual."):
            visual[name.removeprefix("visual.")] = tensor
        elif name != "logit_scale":
            text[name] = tensor.float()
    converted = {**visual, "logit_scale": state_dict["logit_scale"], "prompts": encode_sentences(text)}
    depths = _depths(visual)
    places = visual["attnpool.positional_embedding"].shape[0] - 1
    side = (2 << len(depths)) * math.isqrt(places)
    config = CLIBFIQAConfig(
        depths=depths,
        width=visual["conv3.weight"].shape[0],
        crop_size=[side, side],
        embedding_size=visual["attnpool.c_proj.weight"].shape[0],
    )
    return config, converted


def encode_sentences(text: dict[str, torch.Tensor]) -> torch.Tensor:
    """
    What CLIP's text encoder gives for the sentences.

    Args:
        text: Its tensors in float32, named as OpenAI has them.

    Returns:
        `(360, embedding_size)`, of unit length.
    """
    context, width = text["positional_embedding"].shape
    vocabulary = text["token_embedding.weight"].shape[0]
    if vocabulary != _VOCABULARY_SIZE:
        raise ValueError(f"a vocabulary of {vocabulary} and not CLIP's {_VOCABULARY_SIZE} tokens")
    layers = len({name.split(".")[2] for name in text if name.startswith("transformer.resblocks.")})
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=text["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        projection_dim=text["text_projection"].shape[1],
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=context,
        hidden_act="quick_gelu",
        eos_token_id=_END,
        bos_token_id=_START,
    )
    encoder = CLIPTextModelWithProjection(config)
    encoder.load_state_dict(_text_names(text), strict=True, assign=True)
    rows = []
    for sentence in sentences():
        words = sentence.replace(",", " ,").split()
        rows.append([_START, *itertools.chain.from_iterable(_TOKENS[word] for word in words), _END])
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)  # what comes after the end is not read
    for row, values in zip(tokens, rows, strict=True):
        row[: len(values)] = torch.tensor(values)
    with torch.no_grad():
        features = torch.cat([encoder.eval()(input_ids=part).text_embeds for part in tokens.split(60)])
    return torch.nn.functional.normalize(features)


def _depths(visual: dict[str, torch.Tensor]) -> list[int]:
    depths: list[int] = []
    while blocks := {name.split(".")[1] for name in visual if name.startswith(f"layer{len(depths) + 1}.")}:
        depths.append(len(blocks))
    return depths


def _text_names(text: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """From OpenAI's names of the text encoder to those of transformers."""
    outside = {
        "token_embedding": "embeddings.token_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
        "ln_final": "final_layer_norm",
    }
    inside = {"attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2"}
    inside |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    renamed = {}
    for name, tensor in text.items():
        if name == "text_projection":
            renamed["text_projection.weight"] = tensor.t()
            continue
        parts = name.split(".")
        if parts[:2] == ["transformer", "resblocks"] and len(parts) > 4:
            layer, rest = f"text_model.encoder.layers.{parts[2]}", ".".join(parts[3:])
            if rest in ("attn.in_proj_weight", "attn.in_proj_bias"):
                kind = rest.rpartition("_")[2]
                for part, values in zip("qkv", tensor.chunk(3), strict=True):
                    renamed[f"{layer}.self_attn.{part}_proj.{kind}"] = values
                continue
            module, _, kind = rest.rpartition(".")
            if module in inside:
                renamed[f"{layer}.{inside[module]}.{kind}"] = tensor
                continue
        elif name in outside:
            renamed[f"text_model.{outside[name]}"] = tensor
            continue
        elif name.rpartition(".")[0] in outside:
            module, _, kind = name.rpartition(".")
            renamed[f"text_model.{outside[module]}.{kind}"] = tensor
            continue
        raise ValueError(f"unexpected tensors: {name}")
    return renamed


__all__ = ["convert_clib_fiqa", "encode_sentences", "sentences"]
