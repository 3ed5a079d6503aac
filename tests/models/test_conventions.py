# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What users of transformers and diffusers rely on, over every model of the package: the checks of the libraries' own
common tests that apply to it.
"""

import copy
import inspect
import json

import pytest
import torch
from accelerate import cpu_offload
from diffusers.hooks import apply_group_offloading
from diffusers.training_utils import EMAModel
from fixtures.close import assert_close
from fixtures.fill import make_images
from transformers import AutoConfig, AutoModel, Trainer, TrainingArguments

from diffiqa_hf import (
    AutoModelForFaceQuality,
    CLIBFIQAConfig,
    CLIBFIQAForFaceQuality,
    DifFIQADiTModel,
    DifFIQAUNetModel,
    DlibResNetConfig,
    DlibResNetModel,
    FaceQgenConfig,
    FaceQgenForFaceQuality,
    FaceQnetConfig,
    FaceQnetForFaceQuality,
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
    MobileFaceNetModel,
    PCNetConfig,
    PCNetForFaceQuality,
    PFEConfig,
    PFEForFaceQuality,
    SDDFIQAConfig,
    SDDFIQAForFaceQuality,
    SphereNetConfig,
    SphereNetModel,
)


IRESNET = {"depths": [1, 1], "widths": [8, 8], "embedding_size": 16, "crop_size": [32, 32]}
MOBILE = {
    "crop_size": [32, 32],
    "stem_width": 8,
    "stem_groups": 8,
    "stages": [[16, 8, 1, 2], [16, 8, 2, 2], [16, 8, 1, 2]],
    "feature_width": 16,
    "embedding_size": 16,
}
SPHERENET = {"depths": [1, 0, 1], "widths": [4, 6, 8], "crop_size": [32, 32]}
FACE_VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
FACE_VIT |= {"crop_size": [32, 32], "embedding_size": 16}
FR_MODELS = {
    IResNetModel: IResNetConfig(**IRESNET),
    MobileFaceNetModel: MobileFaceNetConfig(**MOBILE),
    SphereNetModel: SphereNetConfig(**SPHERENET, embedding_size=16),
    DlibResNetModel: DlibResNetConfig(
        depths=[1, 2], widths=[4, 8], chip_size=42, crop_size=[32, 32], embedding_size=16
    ),
    FaceViTModel: FaceViTConfig(**FACE_VIT, relative_keypoints=True),
}
QUALITY_MODELS = {
    IResNetForFaceQuality: IResNetConfig(**IRESNET),
    MobileFaceNetForFaceQuality: MobileFaceNetConfig(**MOBILE, quality_hidden_size=12, normalize_embedding=True),
    SDDFIQAForFaceQuality: SDDFIQAConfig(depths=[1, 1], widths=[8, 8], crop_size=[32, 32]),
    LightQNetForFaceQuality: LightQNetConfig(
        crop_size=[32, 32], stem_width=4, blocks=[[4, 4, 2], [8, 6, 2], [8, 6, 1], [12, 8, 2]], feature_width=16
    ),
    PFEForFaceQuality: PFEConfig(backbone_config=IResNetConfig(**IRESNET)),
    PCNetForFaceQuality: PCNetConfig(**SPHERENET),
    FaceQnetForFaceQuality: FaceQnetConfig(
        depths=[1, 2], widths=[4, 6], stem_width=4, head_widths=[8], crop_size=[32, 32]
    ),
    FaceQgenForFaceQuality: FaceQgenConfig(
        generator_widths=[4, 6, 8], discriminator_widths=[4, 6], crop_size=[32, 32]
    ),
    CLIBFIQAForFaceQuality: CLIBFIQAConfig(depths=[1, 1], width=8, crop_size=[32, 32], embedding_size=16),
    FaceViTForFaceQuality: FaceViTConfig(**FACE_VIT, quality_token=True, mask_ratio=0.0),
}
MODELS = {**FR_MODELS, **QUALITY_MODELS}
every_model = pytest.mark.parametrize("cls", list(MODELS))
every_quality_model = pytest.mark.parametrize("cls", list(QUALITY_MODELS))
# And what restores faces, where both kinds of model have it.
DENOISERS = {
    DifFIQAUNetModel: {"dim": 8, "dim_mults": (1, 2, 2), "sample_size": 32},
    DifFIQADiTModel: {"hidden_size": 16, "num_layers": 2, "num_attention_heads": 2, "sample_size": 32},
}
everything = pytest.mark.parametrize("cls", [*MODELS, *DENOISERS])
every_denoiser = pytest.mark.parametrize("cls", list(DENOISERS))


def make(cls, **changes):
    torch.manual_seed(0)
    if cls in DENOISERS:
        model = cls(**DENOISERS[cls]).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # the transformer begins as the identity
                if not parameter.any():
                    parameter.normal_(0, 0.1)
        return model
    config = copy.deepcopy(MODELS[cls])
    for name, value in changes.items():
        setattr(config, name, value)
    model = cls(config).eval()
    with torch.no_grad():
        for module in model.modules():  # running statistics as after training, and no two maps alike
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return model


def inputs(cls) -> tuple:
    return (make_images(0, 3, 32), 5) if cls in DENOISERS else (make_images(0, 3, 32),)


def main_output(cls, model) -> torch.Tensor:
    return model(*inputs(cls))[0]


def test_the_list_is_complete():
    registered = {*AutoModelForFaceQuality._model_mapping.values(), *AutoModel._model_mapping._extra_content.values()}
    assert {cls for cls in registered if cls.__module__.startswith("diffiqa_hf.")} == {*MODELS}


# -- saving and loading -----------------------------------------------------------------------------------------------


@everything
@pytest.mark.parametrize("options", [{}, {"max_shard_size": "3KB"}, {"variant": "fp16"}])
@torch.no_grad()
def test_saved_whole_in_shards_and_as_a_variant(cls, options, tmp_path):
    model = make(cls)
    model.save_pretrained(tmp_path, **options)
    variant = {key: value for key, value in options.items() if key == "variant"}
    loaded = cls.from_pretrained(tmp_path, **variant)
    assert not loaded.training
    assert_close(main_output(cls, loaded), main_output(cls, model))
    if "max_shard_size" in options:
        assert len(list(tmp_path.glob("*.safetensors"))) > 1


@every_model
@torch.no_grad()
def test_a_configuration_goes_through_json_and_makes_the_model_again(cls, tmp_path):
    config = make(cls).config
    config.save_pretrained(tmp_path)
    for again in (type(config).from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(again) is type(config)
        assert {**again.to_dict(), "_name_or_path": ""} == config.to_dict()
        model = cls._from_config(again)
        assert {name: x.shape for name, x in model.state_dict().items()} == {
            name: x.shape for name, x in make(cls).state_dict().items()
        }
    assert json.loads(config.to_json_string())["model_type"] == config.model_type
    changed = type(config)(num_labels=3, output_hidden_states=True, return_dict=False)
    assert (changed.num_labels, changed.output_hidden_states, changed.return_dict) == (3, True, False)


@everything
@torch.no_grad()
def test_in_bfloat16(cls, tmp_path):
    model = make(cls)
    model.save_pretrained(tmp_path)
    loaded = cls.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16
    faces, *more = inputs(cls)
    output = loaded(faces.bfloat16(), *more)[0]
    # A score comes out of a sigmoid or a head in single precision, whatever the network computes in.
    assert output.dtype == (torch.float32 if "ForFaceQuality" in cls.__name__ else torch.bfloat16)
    assert output.isfinite().all()
    if cls is not PFEForFaceQuality:  # whose differences are in the fourth digit
        expected = main_output(cls, model)
        assert (output.float() - expected).abs().max() < 0.1 * max(1.0, expected.abs().max().item())


@every_model
def test_all_weights_that_are_missing_are_made(cls):
    torch.manual_seed(0)
    model = cls.from_pretrained(None, config=copy.deepcopy(MODELS[cls]), state_dict={})
    torch.manual_seed(0)
    for name, tensor in cls(copy.deepcopy(MODELS[cls])).state_dict().items():
        found = model.state_dict()[name]
        assert found.isfinite().all(), name
        tensor, found = tensor.float(), found.float()
        if tensor.unique().numel() == 1:
            assert_close(found, tensor)
        elif tensor.numel() >= 64:  # drawn from the same distribution, in another order
            assert 0.5 < found.std() / tensor.std() < 2, name


# -- the call ---------------------------------------------------------------------------------------------------------


@every_model
@torch.no_grad()
def test_tuples_by_the_call_and_by_the_configuration(cls, tmp_path):
    model = make(cls)
    assert next(iter(inspect.signature(model.forward).parameters)) == model.main_input_name == "pixel_values"
    expected = model(*inputs(cls))
    names = [name for name, value in expected.items() if value is not None]
    given = model(*inputs(cls), return_dict=False)
    model.save_pretrained(tmp_path)
    by_config = cls.from_pretrained(tmp_path, return_dict=False)
    for output in (given, by_config(*inputs(cls)), expected.to_tuple()):
        assert isinstance(output, tuple) and len(output) == len(names)
        for value, name in zip(output, names, strict=True):
            assert_close(value, expected[name])
    assert type(by_config(*inputs(cls), return_dict=True)) is type(expected)


@every_model
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@torch.no_grad()
def test_traced(cls):
    model = make(cls, return_dict=False)
    traced = torch.jit.trace(model, inputs(cls), check_trace=False)
    assert_close(traced(*inputs(cls))[0], main_output(cls, model))


@everything
@torch.no_grad()
def test_copied(cls):
    model = make(cls)
    assert_close(main_output(cls, copy.deepcopy(model)), main_output(cls, model))


# -- training ---------------------------------------------------------------------------------------------------------


@every_quality_model
def test_labels_give_the_loss(cls):
    model = make(cls)
    labels = torch.tensor([0.1, 0.5, 0.9])
    output = model(*inputs(cls), labels=labels)
    assert next(iter(output)) == "loss"
    assert_close(output.loss, (output.scores - labels).square().mean())
    assert_close(model(*inputs(cls), labels=labels[:, None]).loss, output.loss)
    assert_close(model(*inputs(cls), labels=labels.double(), return_dict=False)[0], output.loss)
    # A face that could not be scored counts for nothing, in the loss and in the gradient.
    unknown = model(*inputs(cls), labels=torch.tensor([0.1, float("nan"), 0.9])).loss
    assert_close(unknown, (output.scores - labels)[[0, 2]].square().mean())
    unknown.backward()
    assert all(x.grad.isfinite().all() for x in model.parameters() if x.grad is not None)
    with pytest.raises(ValueError, match="there are 3 scores and labels of shape"):
        model(*inputs(cls), labels=labels[:2])


@every_quality_model
def test_trainer_trains(cls, tmp_path):
    model = make(cls).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    faces = [{"pixel_values": face, "labels": torch.tensor(i / 8)} for i, face in enumerate(make_images(0, 8, 32))]
    arguments = TrainingArguments(
        tmp_path, max_steps=2, per_device_train_batch_size=4, report_to=[], use_cpu=True, save_strategy="no"
    )
    trainer = Trainer(model, arguments, train_dataset=faces, eval_dataset=faces)
    assert trainer.train().training_loss > 0
    assert trainer.evaluate()["eval_loss"] > 0
    assert trainer.predict(faces).predictions[0].shape == (8,)
    assert any((tensor != before[name]).any() for name, tensor in model.named_parameters())


@everything
@pytest.mark.filterwarnings("ignore::FutureWarning")  # transformers 5 has it under a new name as well
def test_gradient_checkpointing_changes_no_gradient(cls):
    if cls not in DENOISERS and not cls.supports_gradient_checkpointing:
        pytest.skip("it has no blocks to be computed twice")
    gradients = []
    for checkpointed in (False, True):
        model = make(cls).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
                module.p = 0.0
        if checkpointed and cls in DENOISERS:
            model.enable_gradient_checkpointing()
            assert model.is_gradient_checkpointing
        elif checkpointed:
            model.gradient_checkpointing_enable()
        main_output(cls, model).square().sum().backward()
        gradients.append({name: x.grad for name, x in model.named_parameters() if x.grad is not None})
    assert gradients[0] and gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert_close(gradients[1][name], gradient)


def test_the_unet_recomputes_its_levels_alone_when_checkpointed():
    unet = make(DifFIQAUNetModel).train()
    calls = []
    for level in (*unet.downs, *unet.ups):
        level[0].block1.proj.register_forward_hook(lambda *args: calls.append(1))
    unet.enable_gradient_checkpointing()
    unet(*inputs(DifFIQAUNetModel)).sample.sum().backward()
    assert len(calls) == 2 * 6
    calls.clear()
    with torch.no_grad():
        unet(*inputs(DifFIQAUNetModel))
    unet.disable_gradient_checkpointing()
    unet(*inputs(DifFIQAUNetModel)).sample.sum().backward()
    assert len(calls) == 2 * 6


# -- offloading -------------------------------------------------------------------------------------------------------


@everything
@pytest.mark.parametrize("kind", ["sequential", "blocks", "two_blocks", "leaves", "disk"])
@torch.no_grad()
def test_offloaded(cls, kind, tmp_path):
    model = make(cls)
    expected = main_output(cls, model)
    if kind == "sequential":
        cpu_offload(model, execution_device="cpu")
    else:
        apply_group_offloading(
            model,
            torch.device("cpu"),
            offload_type="leaf_level" if kind == "leaves" else "block_level",
            num_blocks_per_group=2 if kind == "two_blocks" else 1,
            offload_to_disk_path=str(tmp_path) if kind == "disk" else None,
        )
    for _ in range(2):
        assert_close(main_output(cls, model), expected)
    if kind == "disk" and cls is DifFIQAUNetModel:
        # No more than a few of its parts are in memory at a time.
        assert len(list(tmp_path.glob("*.safetensors"))) > 6
    # A list that nobody calls would leave its weights where they are.
    assert not any(type(x) is torch.nn.ModuleList and hasattr(x, "_diffusers_hook") for x in model.modules())


@everything
@torch.no_grad()
def test_a_part_on_the_disk(cls, tmp_path):
    model = make(cls)
    expected = main_output(cls, model)
    model.save_pretrained(tmp_path / "model")
    size = sum(x.numel() * x.element_size() for x in model.state_dict().values())
    memory = {"cpu": int(size * 0.6)}
    loaded = cls.from_pretrained(
        tmp_path / "model", device_map="auto", max_memory=memory, offload_folder=str(tmp_path / "disk")
    )
    assert_close(main_output(cls, loaded), expected)


# -- what restores faces ----------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_transformer_from_its_configuration_and_its_averages(tmp_path):
    dit = make(DifFIQADiTModel)
    EMAModel(dit.parameters(), model_cls=DifFIQADiTModel, model_config=dit.config).save_pretrained(tmp_path)
    assert dict(DifFIQADiTModel.from_config(dit.config).config) == dict(dit.config)
    loaded = EMAModel.from_pretrained(tmp_path, DifFIQADiTModel)
    assert all(map(torch.equal, loaded.shadow_params, dit.parameters()))


def test_the_unet_from_its_configuration(caplog, tmp_path):
    unet = make(DifFIQAUNetModel)
    ema = EMAModel(unet.parameters(), model_cls=DifFIQAUNetModel, model_config=unet.config)
    ema.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert "block_out_channels" not in saved and saved["dim_mults"] == [1, 2, 2]
    again = DifFIQAUNetModel.from_config(unet.config)
    assert dict(again.config) == dict(unet.config) and again.config.block_out_channels == (8, 16, 16)
    loaded = EMAModel.from_pretrained(tmp_path, DifFIQAUNetModel)
    assert all(map(torch.equal, loaded.shadow_params, unet.parameters()))
    assert "block_out_channels" not in caplog.text


@every_denoiser
@torch.no_grad()
def test_stored_in_eight_bits(cls):
    model = make(cls)
    expected = model(*inputs(cls)).sample
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    found = model(*inputs(cls)).sample
    assert torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.95


# -- configurations in configurations ---------------------------------------------------------------------------------


def test_what_is_set_for_the_whole_reaches_the_backbone():
    for backbone in (None, IResNetConfig(**IRESNET), SphereNetConfig(**SPHERENET).to_dict()):
        config = PFEConfig(backbone_config=backbone, attn_implementation="eager")
        assert config.backbone_config._attn_implementation == "eager"
        config._attn_implementation = "sdpa"
        assert config.backbone_config._attn_implementation == "sdpa"
        again = PFEConfig.from_dict(config.to_dict())
        assert again.to_dict() == config.to_dict() and type(again.backbone_config) is type(config.backbone_config)
