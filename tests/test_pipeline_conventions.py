# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What diffusers' common tests ask of a pipeline, where it applies to one that gives scores."""

import copy
import inspect

import pytest
import torch
from fixtures.close import assert_close, is_close
from test_pipeline_diffiqa import faces, make_pipeline  # noqa: F401 - a fixture

from diffiqa_hf import DifFIQAPipeline, FaceQualityOutput


def scores_of(pipe, faces):  # noqa: F811
    return pipe(faces[:3]).scores


def test_components_are_those_of_the_constructor():
    pipe = make_pipeline()
    parameters = inspect.signature(DifFIQAPipeline.__init__).parameters
    required = {name for name, x in parameters.items() if x.default is inspect.Parameter.empty} - {"self"}
    assert set(pipe.components) == required
    assert set(pipe.config) >= set(parameters) - {"self"}


def test_dictionary_and_tuple(faces):  # noqa: F811
    pipe = make_pipeline(num_repeats=1)
    output, given = pipe(faces[:3]), pipe(faces[:3], return_dict=False)
    assert isinstance(output, FaceQualityOutput) and isinstance(given, tuple)
    assert_close(given[0], output.scores)
    assert_close(output["scores"], output[0])


def test_saved_copied_and_in_double_precision(faces, tmp_path):  # noqa: F811
    pipe = make_pipeline(num_repeats=2)
    expected = scores_of(pipe, faces)
    pipe.save_pretrained(tmp_path)
    assert_close(scores_of(DifFIQAPipeline.from_pretrained(tmp_path), faces), expected)
    assert_close(scores_of(copy.deepcopy(pipe), faces), expected)
    assert_close(scores_of(pipe.to(torch.float64), faces), expected)
    assert pipe.dtype == torch.float64
    assert_close(scores_of(pipe.to("cpu", torch.float32), faces), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, {"unet": torch.bfloat16, "default": torch.float32}])
def test_loaded_in_half_precision(faces, tmp_path, dtype):  # noqa: F811
    pipe = make_pipeline(num_repeats=2)
    pipe.save_pretrained(tmp_path)
    loaded = DifFIQAPipeline.from_pretrained(tmp_path, dtype=dtype)
    assert loaded.unet.dtype == torch.bfloat16
    assert loaded.fr_model.dtype == (torch.float32 if isinstance(dtype, dict) else dtype)
    assert (scores_of(loaded, faces) - scores_of(pipe, faces)).abs().max() < 0.05


@pytest.mark.parametrize("options", [{"offload_type": "leaf_level"}, {"num_blocks_per_group": 1}])
def test_all_networks_offloaded_in_groups(faces, options):  # noqa: F811
    pipe = make_pipeline(num_repeats=2)
    expected = scores_of(pipe, faces)
    pipe.enable_group_offload(torch.device("cpu"), **{"offload_type": "block_level", **options})
    for _ in range(2):
        assert_close(scores_of(pipe, faces), expected)


def test_the_unet_stored_in_eight_bits(faces):  # noqa: F811
    """The scores are those of a UNet whose weights were rounded to three bits once, to float32's rounding."""
    pipe, rounded = make_pipeline(num_repeats=1), make_pipeline(num_repeats=1)
    expected = scores_of(pipe, faces)
    pipe.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    stored = pipe.unet.state_dict()
    assert sum(tensor.dtype == torch.float8_e4m3fn for tensor in stored.values()) > len(stored) / 2
    rounded.unet.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
    found = scores_of(pipe, faces)
    assert_close(found, scores_of(rounded, faces))
    assert not is_close(found, expected, 1e-4)


def test_with_attention_in_slices_and_hooks_removed(faces):  # noqa: F811
    pipe = make_pipeline(num_repeats=2)
    expected = scores_of(pipe, faces)
    pipe.enable_attention_slicing()
    assert_close(scores_of(pipe, faces), expected)
    pipe.disable_attention_slicing()
    pipe.remove_all_hooks()
    pipe.maybe_free_model_hooks()
    assert_close(scores_of(pipe, faces), expected)
