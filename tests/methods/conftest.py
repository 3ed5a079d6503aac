# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Tiny networks of the real classes for each method, and faces for them."""

import numpy as np
import pytest
import torch
from fixtures.fill import fill_state_dict
from fixtures.networks import make_scheduler, make_unet

from diffiqa_hf import (
    DifFIQAPipeline,
    FaceImageProcessor,
    FaceViTConfig,
    FaceViTForFaceQuality,
    FaceViTModel,
    IResNetConfig,
    IResNetForFaceQuality,
    IResNetModel,
    LightQNetConfig,
    LightQNetForFaceQuality,
    MobileFaceNetConfig,
    MobileFaceNetForFaceQuality,
    SDDFIQAConfig,
    SDDFIQAForFaceQuality,
)
from diffiqa_hf.methods import load_method
from diffiqa_hf.models.clib_fiqa import CLIBFIQAConfig, CLIBFIQAForFaceQuality
from diffiqa_hf.models.faceqgen import FaceQgenConfig, FaceQgenForFaceQuality
from diffiqa_hf.models.faceqnet import FaceQnetConfig, FaceQnetForFaceQuality
from diffiqa_hf.models.pcnet import PCNetConfig, PCNetForFaceQuality
from diffiqa_hf.models.pfe import PFEConfig, PFEForFaceQuality, SphereNetConfig


SIZE = 32
IRESNET = {"depths": [1, 1, 1, 1], "widths": [8, 8, 8, 8], "embedding_size": 16, "crop_size": [SIZE, SIZE]}
MOBILE = {
    "crop_size": [SIZE, SIZE],
    "stem_width": 8,
    "stem_groups": 8,
    "stages": [[16, 8, 1, 2], [16, 8, 2, 2], [16, 8, 1, 2]],
    "feature_width": 16,
    "embedding_size": 16,
}
LIGHTQNET = {
    "crop_size": [SIZE, SIZE],
    "stem_width": 4,
    "blocks": [[4, 4, 2], [8, 6, 2], [8, 6, 1], [12, 8, 2]],
    "feature_width": 16,
}
SPHERENET = {"depths": [1, 0, 1], "widths": [4, 6, 8], "crop_size": [SIZE, SIZE]}
FACEQNET = {"depths": [1, 2], "widths": [4, 6], "stem_width": 4, "head_widths": [8], "crop_size": [SIZE, SIZE]}
CLIBFIQA = {"depths": [1, 1], "width": 8, "crop_size": [SIZE, SIZE], "embedding_size": 16}
FACE_VIT = {
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "embedding_size": 16,
    "crop_size": [SIZE, SIZE],
}
FACEQGEN = {"generator_widths": [4, 6, 8], "discriminator_widths": [4, 6], "crop_size": [SIZE, SIZE]}
OPTIONS = {
    "diffiqa": {"num_timesteps": 200, "num_inference_steps": 1, "num_repeats": 2},
    "faceqan": {"num_steps": 3, "num_starts": 3},
    "froq": {"layers": ["prelu", "layer2", "layer4.0.bn3", "fc"]},
    "ser-fiq": {"num_passes": 8},
}


def filled(model: torch.nn.Module) -> torch.nn.Module:
    """With weights and running statistics that are all different, the weights of a size that tells faces apart."""
    tensors = fill_state_dict({name: tensor.shape for name, tensor in model.state_dict().items()})
    model.load_state_dict({name: 3 * tensor if tensor.ndim > 1 else tensor for name, tensor in tensors.items()})
    return model.eval()


def canonical(faces: list[np.ndarray]) -> torch.Tensor:
    """Pictures (H, W, 3) uint8 as what a network gets."""
    return torch.from_numpy(np.stack(faces) / 127.5 - 1).float().permute(0, 3, 1, 2)


def in_range(model: FaceQnetForFaceQuality) -> FaceQnetForFaceQuality:
    """With scores around 1/2, where nothing is clipped: the pixels go to 255, and the weights are large."""
    with torch.no_grad():
        model.stem.norm.weight /= 100
        model.dense[-1].weight /= 10
        noise = torch.rand(16, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
        model.dense[-1].bias += 0.5 - model(noise).scores.mean()
    return model


def make_network(name: str) -> torch.nn.Module | DifFIQAPipeline:
    """What `load_method(name)` is given as `weights`, or, where it takes none, as `fr_model`."""
    if name == "diffiqa":
        torch.manual_seed(0)
        unet = make_unet(SIZE, (8, 16))
        scheduler = make_scheduler()
        fr_model = filled(IResNetModel(IResNetConfig(**IRESNET)))
        return DifFIQAPipeline(unet.eval(), scheduler, fr_model, FaceImageProcessor())
    if name in ("cr-fiqa", "diffiqa-r"):
        return filled(IResNetForFaceQuality(IResNetConfig(**IRESNET)))
    if name == "ediffiqa":
        config = MobileFaceNetConfig(**MOBILE, quality_hidden_size=24, normalize_embedding=True)
        return filled(MobileFaceNetForFaceQuality(config))
    if name == "sdd-fiqa":
        config = {key: IRESNET[key] for key in ("depths", "widths", "crop_size")}
        return filled(SDDFIQAForFaceQuality(SDDFIQAConfig(**config)))
    if name == "lightqnet":
        return filled(LightQNetForFaceQuality(LightQNetConfig(**LIGHTQNET)))
    if name == "pfe":
        return filled(PFEForFaceQuality(PFEConfig(backbone_config=SphereNetConfig(**SPHERENET, embedding_size=16))))
    if name == "pcnet":
        return filled(PCNetForFaceQuality(PCNetConfig(**SPHERENET)))
    if name == "faceqnet":
        return in_range(filled(FaceQnetForFaceQuality(FaceQnetConfig(**FACEQNET))))
    if name == "faceqgen":
        return filled(FaceQgenForFaceQuality(FaceQgenConfig(**FACEQGEN)))
    if name == "clib-fiqa":
        model = filled(CLIBFIQAForFaceQuality(CLIBFIQAConfig(**CLIBFIQA)))
        with torch.no_grad():
            model.logit_scale += 2
        return model
    if name == "vit-fiqa":
        return filled(FaceViTForFaceQuality(FaceViTConfig(**FACE_VIT, quality_token=True)))
    if name == "vitnt-fiqa":
        return filled(FaceViTModel(FaceViTConfig(**FACE_VIT)))
    if name == "magface":
        own = {"channel_order": "bgr", "image_mean": [0, 0, 0], "image_std": [1, 1, 1], "dropout_channels": True}
        return filled(IResNetModel(IResNetConfig(**IRESNET, **own)))
    return filled(IResNetModel(IResNetConfig(**IRESNET)))


def make_method(name: str, network=None, **options):
    """The method on a tiny network, with faces of 32x32."""
    from diffiqa_hf.methods import get_card

    argument = "weights" if "weights" in get_card(name).takes else "fr_model"
    network = make_network(name) if network is None else network
    processor = FaceImageProcessor(size={"height": SIZE, "width": SIZE})
    options = {**OPTIONS.get(name, {}), **options}
    return load_method(name, image_processor=processor, **{argument: network}, **options)


@pytest.fixture(scope="session", name="make_method")
def make_method_fixture():
    return make_method


@pytest.fixture(scope="session", name="make_network")
def make_network_fixture():
    return make_network


@pytest.fixture(scope="session")
def faces() -> list[np.ndarray]:
    """Five smooth pictures, (32, 32, 3) uint8."""
    from PIL import Image

    rng = np.random.default_rng(0)
    small = [Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)) for _ in range(5)]
    return [np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for picture in small]
