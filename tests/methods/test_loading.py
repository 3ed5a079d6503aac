# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Where a method's network comes from."""

import re
from pathlib import Path

import pytest
import torch
from fixtures.close import assert_close

from diffiqa_hf import (
    DifFIQAPipeline,
    DifFIQARModel,
    DlibResNetConfig,
    DlibResNetModel,
    IResNetConfig,
    IResNetForFaceQuality,
)
from diffiqa_hf.methods import CARDS, get_card, load_method
from diffiqa_hf.methods.regression import method_of


FACE = Path(__file__).parents[2] / "examples" / "faces" / "astronaut.jpg"
WITH_WEIGHTS = [card.name for card in CARDS if "weights" in card.takes and card.name != "diffiqa"]
NEEDING_WEIGHTS = [card.name for card in CARDS if "weights" in card.needs]


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_weights_from_a_folder(make_method, make_network, faces, tmp_path, name):
    network = make_network(name)
    network.save_pretrained(tmp_path)
    torch.testing.assert_close(make_method(name, tmp_path)(faces).scores, make_method(name, network)(faces).scores)


@pytest.mark.parametrize("name", NEEDING_WEIGHTS)
def test_weights_have_to_be_given(name):
    where = re.escape(get_card(name).weights_source)
    with pytest.raises(ValueError, match=f"^{name} needs weights: {where}$"):
        load_method(name)
    with pytest.raises(ValueError, match=f"^{name} has no default weights, it needs its own: {where}$"):
        load_method(name, "default")


def test_the_distilled_network_comes_with_the_package():
    assert {*WITH_WEIGHTS} - {*NEEDING_WEIGHTS} == {"diffiqa-r"}
    expected = DifFIQARModel.from_pretrained().state_dict()
    for method in (load_method("diffiqa-r"), load_method("diffiqa-r", "default", device="cpu")):
        state = method.model.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in state.items())
        assert not method.model.training and next(method.model.parameters()).dtype == torch.float32


def test_a_network_says_which_method_it_is_of(make_network):
    for name in [card.name for card in CARDS if card.networks]:
        card = method_of(make_network(name)).card
        assert card.name == {"cr-fiqa": "diffiqa-r"}.get(name, name)
    with pytest.raises(ValueError, match="^no method has a IResNetModel as its network$"):
        method_of(make_network("faceqan"))


def test_what_a_method_does_not_take():
    with pytest.raises(ValueError, match="^faceqan takes no weights, but fr_model$"):
        load_method("faceqan", weights="somewhere")
    with pytest.raises(ValueError, match="^cr-fiqa takes no fr_model, but weights$"):
        load_method("cr-fiqa", weights="somewhere", fr_model="default")
    with pytest.raises(TypeError, match="^faceqan has no option 'epsilon'; it has eps, "):
        load_method("faceqan", epsilon=0.1)


def test_a_published_file_is_converted_on_the_way(make_method, faces, tmp_path):
    config = IResNetConfig(depths=[1, 1, 1, 1], widths=[8, 8, 8, 8], embedding_size=16)
    network = IResNetForFaceQuality(config).eval()
    # CR-FIQA's names are those of insightface's IResNet, which are ours, and `qs`.
    theirs = {f"qs.{key}": value for key, value in network.head.score.state_dict().items()}
    torch.save({**theirs, **network.backbone.state_dict()}, tmp_path / "32572backbone.pth")
    method = load_method("cr-fiqa", weights=tmp_path / "32572backbone.pth", align=False)
    expected = load_method("cr-fiqa", weights=network, align=False)(faces[:2]).scores
    torch.testing.assert_close(method(faces[:2]).scores, expected)
    with pytest.raises(ValueError, match="broken.pth: "):
        (tmp_path / "broken.pth").write_bytes(b"<html>")
        make_method("cr-fiqa", tmp_path / "broken.pth")


def test_another_methods_network_is_refused(make_method, make_network):
    with pytest.raises(ValueError, match="^sdd-fiqa is a SDDFIQAForFaceQuality, this is a IResNetForFaceQuality$"):
        make_method("sdd-fiqa", make_network("cr-fiqa"))
    with pytest.raises(ValueError, match="^cr-fiqa has a quality head of kind linear, this one is mlp$"):
        make_method("cr-fiqa", make_network("ediffiqa"))


def test_a_folder_without_a_quality_head_is_refused(make_method, make_network, tmp_path):
    make_network("faceqan").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is no face quality model: it has no weights for head.score"):
        make_method("cr-fiqa", tmp_path)


def test_another_kind_of_network_is_named(make_method, tmp_path):
    DlibResNetModel(DlibResNetConfig(depths=[1, 1], widths=[4, 6], embedding_size=5)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is no face quality model but a DlibResNetModel$"):
        make_method("cr-fiqa", tmp_path)


def test_the_fr_model_in_a_quality_model_is_one(make_method, make_network, faces, tmp_path):
    network = make_network("cr-fiqa")
    network.save_pretrained(tmp_path)
    expected = make_method("embedding-norm", network.backbone)(faces).scores
    torch.testing.assert_close(make_method("embedding-norm", tmp_path)(faces).scores, expected)


def test_the_default_fr_model_is_that_of_the_default_pipeline():
    method = load_method("embedding-norm")
    assert next(method.model.parameters()).dtype == torch.float32
    pipe = DifFIQAPipeline.from_pretrained("default")
    face = pipe.image_processor(str(FACE), return_tensors="pt").pixel_values
    with torch.no_grad():
        expected = torch.linalg.vector_norm(pipe.embed(face), dim=1)
    torch.testing.assert_close(method(FACE).scores, expected)


def test_diffiqa_is_the_pipeline(make_method, make_network, faces):
    pipe = make_network("diffiqa")
    method = make_method("diffiqa", pipe, preset="official", use_flip=False)
    output = method(faces[:2], seed=3)
    assert not pipe.config.off_by_one  # the caller's pipeline is left alone
    pipe.set_preset("official")
    pipe.register_modules(image_processor=method.image_processor)
    assert method.options["num_repeats"] == 2 and not method.options["use_flip"]
    expected = pipe(faces[:2], seed=3, **method.options)
    assert_close(output.scores, expected.scores)
    assert output.terms.keys() == expected.terms.keys()


def test_diffiqa_with_another_fr_model(make_network, faces):
    pipe, fr_model = make_network("diffiqa"), make_network("magface")
    method = load_method("diffiqa", weights=pipe, fr_model=fr_model)
    assert method.pipeline.fr_model is fr_model and pipe.fr_model is not fr_model
