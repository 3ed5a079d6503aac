# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Face recognition models: the numbers of the published implementations, and what every one of them has to do."""

import copy
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.close import assert_close, is_close
from fixtures.fill import fill_state_dict, make_images
from PIL import Image
from transformers import AutoModel, PreTrainedModel

from diffiqa_hf.conversion.dialects.adaface import convert_adaface
from diffiqa_hf.conversion.dialects.curricularface import convert_curricularface
from diffiqa_hf.conversion.dialects.iresnet import convert_insightface_iresnet, convert_magface
from diffiqa_hf.conversion.dialects.mobilefacenet import convert_insightface_mbf, convert_xiaoccer
from diffiqa_hf.models import (
    DlibResNetConfig,
    DlibResNetModel,
    FaceEmbeddingOutput,
    IResNetConfig,
    IResNetModel,
    MobileFaceNetConfig,
    MobileFaceNetModel,
)


FIXTURES = Path(__file__).parents[1] / "fixtures"


def relative_difference(actual: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(actual.numpy() - expected).max() / np.abs(expected).max())


# -- parity with the published implementations ------------------------------------------------------------------------


CONVERTERS = {
    "adaface": convert_adaface,
    "curricularface": convert_curricularface,
    "insightface": convert_insightface_iresnet,
    "magface": convert_magface,
}


def read_layout(name: str) -> dict:
    # MagFace's networks have the tensors of insightface's.
    return json.loads((FIXTURES / f"{name.replace('magface', 'insightface')}.json").read_text())


@pytest.mark.parametrize(
    "name",
    [
        "insightface_mbf",
        "insightface_iresnet18",
        "insightface_iresnet50",
        "insightface_iresnet100",
        "magface_iresnet18",
        "magface_iresnet100",
        "adaface_ir18",
        "adaface_ir50",
        "adaface_ir101",
        "curricularface_ir50",
        "curricularface_ir101",
    ],
)
@torch.no_grad()
def test_same_embeddings_as_the_original(name):
    layout = read_layout(name)
    is_mbf = name == "insightface_mbf"
    convert = convert_insightface_mbf if is_mbf else CONVERTERS[name.split("_")[0]]
    config, state_dict = convert(fill_state_dict(layout["shapes"], layout["salt"]))
    with torch.device("meta"):  # saves the time of a random initialisation
        model = (MobileFaceNetModel if is_mbf else IResNetModel)(config).eval()
    model.load_state_dict(state_dict, strict=True, assign=True)
    output = model(make_images(layout["image_seed"]))
    expected = np.load(FIXTURES / f"{name.split('_')[0]}.npz")
    # The epsilon of the normalisations moves MagFace's embeddings by 2e-5.
    assert relative_difference(output.embeddings, expected[name]) < 1e-5
    assert (output.norms is not None) == (f"{name}_norms" in expected)
    if output.norms is not None:
        assert relative_difference(output.norms, expected[f"{name}_norms"]) < 1e-5


ADAFACE = {"shortcut": "subsample", "final_norm_affine": False}
CURRICULARFACE = {**ADAFACE, "mid_norm": False}


# Counted on the originals.
@pytest.mark.parametrize(
    ("depths", "variant", "parameters", "tensors"),
    [
        ([2, 2, 2, 2], {}, 24_025_600, 187),
        ([3, 4, 6, 3], {}, 34_139_328, 331),
        ([3, 4, 14, 3], {}, 43_590_848, 475),
        ([3, 13, 30, 3], {}, 65_156_160, 925),
        ([3, 13, 30, 3], ADAFACE, 65_150_912, 917),
        ([3, 13, 30, 3], CURRICULARFACE, 65_128_768, 672),
    ],
)
def test_sizes(depths, variant, parameters, tensors):
    with torch.device("meta"):
        model = IResNetModel(IResNetConfig(depths=depths, **variant))
    assert model.num_parameters() == parameters
    assert len(model.state_dict()) == tensors


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("insightface_iresnet18", "layer2.1.bn2.running_var"),
        ("insightface_iresnet18", "layer3.0.conv1.weight"),
        ("magface_iresnet18", "fc.weight"),
        ("adaface_ir18", "body.4.shortcut_layer.1.running_mean"),
        ("adaface_ir18", "output_layer.3.weight"),
        ("curricularface_ir50", "input_layer.2.weight"),
        ("curricularface_ir50", "body.23.res_layer.4.bias"),
    ],
)
def test_conversion_is_strict(name, tensor):
    convert = CONVERTERS[name.split("_")[0]]
    shapes = read_layout(name)["shapes"]
    state_dict = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    missing = {key: value for key, value in state_dict.items() if key != tensor}
    with pytest.raises(ValueError, match=f"missing tensors: {re.escape(tensor)}"):
        convert(missing)
    with pytest.raises(ValueError, match=r"unexpected tensors: head\.kernel$"):
        convert({**state_dict, "head.kernel": torch.empty(512, 10, device="meta")})
    with pytest.raises(
        ValueError, match=r"(conv1|input_layer\.0)\.weight has the shape \(64, 1, 3, 3\), not \(64, 3, 3"
    ):
        first = "conv1.weight" if "conv1.weight" in shapes else "input_layer.0.weight"
        convert({**state_dict, first: torch.empty(64, 1, 3, 3, device="meta")})


def test_dialects_are_not_mistaken_for_one_another():
    layouts = {name: read_layout(name)["shapes"] for name in ("insightface_iresnet18", "adaface_ir18")}
    layouts["curricularface_ir50"] = read_layout("curricularface_ir50")["shapes"]
    for name, shapes in layouts.items():
        state_dict = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
        for family, convert in CONVERTERS.items():
            if family != name.split("_")[0] and (family, name) != ("magface", "insightface_iresnet18"):
                with pytest.raises(ValueError, match="missing tensors"):
                    convert(state_dict)


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

MIDDLE = [0.5, 0.5, 0.5]
TINY_IRESNET = {"depths": [1, 2], "widths": [8, 12], "embedding_size": 16}
TINY = {
    "dlib": (
        DlibResNetModel,
        DlibResNetConfig,
        {**TINY_IRESNET, "image_mean": MIDDLE, "image_std": MIDDLE, "chip_size": None},
    ),
    "iresnet": (IResNetModel, IResNetConfig, TINY_IRESNET),
    "ir": (IResNetModel, IResNetConfig, {**TINY_IRESNET, **CURRICULARFACE, "dropout": 0.4, "dropout_channels": True}),
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
        model = model_class(config_class(**{**sizes, **kwargs})).eval()
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
        assert_close(loaded(faces).embeddings, model(faces).embeddings)


@torch.no_grad()
def test_batch_invariance(make_model):
    # Of unlike contrast, for random pixels all look the same to a small network.
    model, faces = make_model(), make_images(0, 3) * torch.tensor([1, 0.5, 0.1]).view(3, 1, 1, 1)
    together = model(faces).embeddings
    assert together.shape == (3, 16)
    alone = torch.cat([model(face[None]).embeddings for face in faces])
    assert relative_difference(together, alone.numpy()) < 1e-5
    assert (together[0] - together[1]).abs().max() > 1e-2


def test_gradients_reach_every_pixel(make_model):
    # In channels-last order, as a NumPy image permuted; oneDNN's backward pass has crashed on it.
    faces = make_images(0).contiguous(memory_format=torch.channels_last).requires_grad_()
    make_model()(faces).embeddings.square().sum().backward()
    assert faces.grad.isfinite().all()
    # The unpadded first convolution of dlib passes over the last row and column of 112.
    assert (faces.grad != 0).float().mean() > 0.98


def loss_and_gradients(model: torch.nn.Module, faces: torch.Tensor) -> dict[str, torch.Tensor]:
    faces = faces.detach().requires_grad_()
    torch.manual_seed(0)  # of the dropout
    loss = model(faces).embeddings.square().sum()
    loss.backward()
    gradients = {name: tensor.grad for name, tensor in model.named_parameters() if tensor.requires_grad}
    return {"loss": loss.detach(), "pixels": faces.grad, **gradients}


def assert_same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]):
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, atol=1e-4 * float(tensor.abs().max()), rtol=1e-4, msg=name)


def test_channels_last(make_model):
    # The order of the weights decides, whatever that of the image.
    last, plain, faces = make_model().to(memory_format=torch.channels_last), make_model(), make_images(0)
    orders = []
    convolutions = [module for module in last.modules() if isinstance(module, torch.nn.Conv2d)]
    for module in convolutions[:-1]:  # MobileFaceNet's last gives a single pixel
        module.register_forward_hook(
            lambda module, inputs, output: orders.append(output.is_contiguous(memory_format=torch.channels_last))
        )
    expected = loss_and_gradients(plain, faces.contiguous())
    for memory_format in (torch.contiguous_format, torch.channels_last):
        last.zero_grad()
        assert_same(loss_and_gradients(last, faces.contiguous(memory_format=memory_format)), expected)
    assert len(orders) == 2 * (len(convolutions) - 1) and all(orders)
    with torch.no_grad():
        embeddings = plain(faces.contiguous(memory_format=torch.channels_last)).embeddings
        assert_close(embeddings, plain(faces.contiguous()).embeddings)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # transformers 5 has the method under a new name as well
@pytest.mark.parametrize("enable", ["gradient_checkpointing_enable", "activation_checkpointing_enable"])
def test_gradient_checkpointing(make_model, enable):
    if not hasattr(PreTrainedModel, enable):
        pytest.skip(f"this transformers has no {enable}")
    plain, checkpointed, faces = make_model().train(), make_model().train(), make_images(0)
    getattr(checkpointed, enable)()
    counts = {}
    for model in (plain, checkpointed):
        # The first convolution of the last block.
        inner = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)][-4]
        inner.register_forward_hook(lambda *_, model=model: counts.update({model: counts.get(model, 0) + 1}))
    assert_same(loss_and_gradients(checkpointed, faces), loss_and_gradients(plain, faces))
    assert counts == {plain: 1, checkpointed: 2}
    # The running statistics are updated once, not again when a block is run for the second time.
    assert_same(dict(checkpointed.named_buffers()), dict(plain.named_buffers()))
    # And go on being updated afterwards.
    loss_and_gradients(checkpointed, faces)
    loss_and_gradients(plain, faces)
    assert_same(dict(checkpointed.named_buffers()), dict(plain.named_buffers()))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_copy_keeps_its_own_statistics(make_model):
    plain = make_model().train()
    original = make_model().train()
    original.gradient_checkpointing_enable()
    copied = copy.deepcopy(original)
    loss_and_gradients(copied, make_images(0))
    loss_and_gradients(plain, make_images(0))
    assert_same(dict(copied.named_buffers()), dict(plain.named_buffers()))


@pytest.fixture
def compiler():
    """As a process has it that has compiled nothing: of one class torch compiles eight models, and then no more."""
    torch.compiler.reset()


# `eager` shows that it can be traced in one piece, `inductor` builds it with a C++ compiler.
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("compiler")
def test_compile(make_model, backend):
    model, faces = make_model(), make_images(0)
    expected = loss_and_gradients(model, faces)
    model.zero_grad()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    actual = {name.removeprefix("_orig_mod."): value for name, value in loss_and_gradients(compiled, faces).items()}
    assert_same(actual, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.usefixtures("compiler")
def test_compile_with_gradient_checkpointing(make_model):
    plain, model, faces = make_model().train(), make_model().train(), make_images(0)
    model.gradient_checkpointing_enable()
    compiled = torch.compile(model, backend="aot_eager")
    actual = {name.removeprefix("_orig_mod."): value for name, value in loss_and_gradients(compiled, faces).items()}
    assert_same(actual, loss_and_gradients(plain, faces))
    assert_same(dict(model.named_buffers()), dict(plain.named_buffers()))


@torch.no_grad()
def test_bgr_is_the_channels_flipped(make_model):
    faces = make_images(0)
    # An own mean for each channel shows that it belongs to the network's order, not to RGB.
    scale = {"image_mean": [0.3, 0.5, 0.7], "image_std": [0.2, 0.3, 0.4]}
    rgb, bgr = make_model(**scale), make_model(**scale, channel_order="bgr")
    assert_close(bgr(faces).embeddings, rgb(faces.flip(1)).embeddings)
    assert not is_close(bgr(faces).embeddings, rgb(faces).embeddings)


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
    assert_close(model(other).embeddings, model(faces).embeddings)
    assert_close(model(faces[:, :, :, 8:104]).embeddings, model(faces).embeddings)


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
    plain, output = make_model()(faces).embeddings, make_model(normalize_embedding=True)(faces)
    unit = output.embeddings
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(unit, plain / plain.norm(dim=1, keepdim=True))
    torch.testing.assert_close(output.norms, plain.norm(dim=1))
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
    assert_close(plain[0], output.embeddings)
    output, plain = (make_model(normalize_embedding=True)(faces, return_dict=flag) for flag in (None, False))
    assert len(plain) == 2
    assert_close(plain[0], output.embeddings)
    assert_close(plain[1], output.norms)


def test_unknown_channel_order(make_model):
    with pytest.raises(ValueError, match="'rgb' or 'bgr', not 'gbr'"):
        make_model(channel_order="gbr")


def test_unknown_shortcut():
    with pytest.raises(ValueError, match="'conv' or 'subsample', not 'pool'"):
        IResNetConfig(shortcut="pool")


@torch.no_grad()
def test_shortcut_takes_every_second_pixel():
    kwargs = {"depths": [1], "widths": [8], "embedding_size": 16}
    model = IResNetModel(IResNetConfig(**kwargs, shortcut="subsample")).eval()
    block = model.layer1[0]
    block.bn3.weight.zero_()  # the shortcut alone
    pixels = torch.randn(2, 8, 7, 6)
    assert torch.equal(block(pixels), torch.nn.functional.max_pool2d(pixels, 1, 2))
    assert "layer1.0.downsample.0.weight" in IResNetModel(IResNetConfig(**kwargs)).state_dict()


@torch.no_grad()
def test_dropout_of_whole_channels():
    model = IResNetModel(IResNetConfig(**TINY_IRESNET, dropout=0.4, dropout_channels=True)).train()
    dropped = []
    model.dropout.register_forward_hook(
        lambda module, inputs, output: dropped.append((output == 0).float().mean((2, 3)))
    )
    torch.manual_seed(0)
    model(make_images(0, 8))
    # (8, 12) shares of zeros: a channel is taken out whole or not at all.
    assert set(dropped[0].flatten().tolist()) == {0.0, 1.0}
    assert 0.2 < dropped[0].mean() < 0.6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_mean": None}, "image_mean is 3 numbers, not 'None'"),
        ({"image_std": [0.5, None, 0.5]}, "image_std is 3 numbers"),
        ({"image_std": [0.5, 0.0, 0.5]}, "image_std and crop_size are positive"),
        ({"image_mean": [0.5, float("nan"), 0.5]}, "image_mean is 3 numbers"),
        ({"crop_size": [112.5, 112]}, "crop_size is 2 numbers"),
        ({"bn_eps": None}, "bn_eps has to be float, not 'None'"),
        ({"normalize_embedding": "no"}, "normalize_embedding has to be bool, not 'no'"),
        ({"mid_norm": 1}, "mid_norm has to be bool, not '1'"),
        ({"embedding_size": "16"}, "embedding_size has to be int, not '16'"),
    ],
)
def test_a_configuration_with_something_else_in_it_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        IResNetConfig(**values)
