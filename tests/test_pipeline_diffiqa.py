# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import inspect
import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from fixtures.close import assert_close, is_close
from fixtures.networks import make_scheduler, make_unet
from PIL import Image
from torch.nn.functional import cosine_similarity

from diffiqa_hf import (
    DifFIQAPipeline,
    DifFIQAUNetModel,
    FaceImageError,
    FaceImageProcessor,
    MobileFaceNetConfig,
    MobileFaceNetModel,
)
from diffiqa_hf.pipeline_output import TERMS


SIZE = 32


def make_pipeline(**kwargs) -> DifFIQAPipeline:
    torch.manual_seed(0)
    unet = make_unet(SIZE, (8, 16))
    scheduler = make_scheduler()
    fr_model = MobileFaceNetModel(
        MobileFaceNetConfig(
            crop_size=[SIZE, SIZE],
            stem_width=8,
            stem_groups=8,
            stages=[[16, 8, 1, 2], [16, 8, 2, 2], [16, 8, 1, 2]],
            feature_width=16,
            embedding_size=16,
        )
    )
    processor = FaceImageProcessor(size={"height": SIZE, "width": SIZE})
    pipe = DifFIQAPipeline(unet.eval(), scheduler, fr_model.eval(), processor, **kwargs)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipe() -> DifFIQAPipeline:
    return make_pipeline(num_repeats=2)


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(5)]


@pytest.mark.parametrize("winograd", [False, True])
def test_folding_changes_no_score(faces, winograd, tmp_path):
    pipe = make_pipeline(num_repeats=2)
    expected = pipe(faces)
    pipe.enable_folding(winograd)
    output = pipe(faces)
    torch.testing.assert_close(output.scores, expected.scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(output.terms, expected.terms, atol=1e-4, rtol=0)
    with pytest.raises(RuntimeError, match="save the model that it was made of"):
        pipe.save_pretrained(tmp_path)


def test_batch_size_on_a_cpu_goes_by_the_width_of_the_unet():
    pipe = make_pipeline()
    assert pipe._choose_batch_size() == 20
    pipe.register_modules(unet=DifFIQAUNetModel(dim=128, dim_mults=(1,), sample_size=SIZE))
    assert pipe._choose_batch_size() == 5


def count_rows(pipe: DifFIQAPipeline, *args, **kwargs) -> tuple[int, int]:
    """Images that go through the UNet and through the FR model in one call."""
    rows = {"unet": 0, "fr_model": 0}

    def hook(name):
        def count(module, inputs, output):
            rows[name] += len(inputs[0])

        return count

    handles = [getattr(pipe, name).register_forward_hook(hook(name)) for name in rows]
    pipe(*args, **kwargs)
    for handle in handles:
        handle.remove()
    return rows["unet"], rows["fr_model"]


def test_equation_7_by_hand(pipe, faces):
    output = pipe(faces[:1], num_timesteps=3, num_repeats=2, seed=4)
    face = pipe.image_processor(faces[0], return_tensors="pt").pixel_values
    values = []
    with torch.no_grad():
        reference = pipe.embed(face)
        values.append(cosine_similarity(reference, pipe.embed(face.flip(-1))).item())
        for flipped in (False, True):
            for seed in pipe.noise_seeds(face[0], 4, 2, flipped):
                generator = [torch.Generator().manual_seed(seed)]
                noise = torch.randn(face.shape, generator=generator[0])
                noisy = pipe.forward_process(face.flip(-1) if flipped else face, 3, noise)
                restored = pipe.backward_process(noisy, 3, generator=generator)
                values += [cosine_similarity(reference, pipe.embed(image)).item() for image in (noisy, restored)]
    # The clean flipped face counts for every repetition.
    expected = (2 * values[0] + sum(values[1:])) / 10
    assert output.scores.item() == pytest.approx(expected, abs=1e-5)
    assert list(output.terms) == list(TERMS)
    assert torch.stack(list(output.terms.values())).mean().item() == pytest.approx(expected, abs=1e-5)


def test_score_belongs_to_the_image(pipe, faces):
    scores = pipe(faces).scores
    assert len(set(scores.tolist())) == len(faces)
    for batch_size in (1, 3, 64):
        torch.testing.assert_close(pipe(faces, batch_size=batch_size).scores, scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(pipe(faces[::-1]).scores.flip(0), scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(pipe(faces[2]).scores[0], scores[2], atol=1e-5, rtol=0)
    torch.manual_seed(99)  # the global generator plays no part
    assert torch.equal(pipe(faces).scores, scores)
    assert not is_close(pipe(faces, seed=1).scores, scores)


def test_repeats_share_their_noise(pipe, faces):
    # The first copies are the same however many there are, so more repetitions refine a score.
    one = pipe(faces[0], num_repeats=1, output_images=True)
    three = pipe(faces[0], num_repeats=3, output_images=True)
    torch.testing.assert_close(one.noisy, three.noisy)
    torch.testing.assert_close(one.restored, three.restored, atol=1e-5, rtol=0)


def test_no_work_twice(pipe, faces):
    t, n = 4, 3
    assert count_rows(pipe, faces[:2], num_timesteps=t, num_repeats=n) == (2 * 2 * n * t, 2 * (2 + 4 * n))
    kwargs = {"num_timesteps": t, "num_repeats": n}
    assert count_rows(pipe, faces[0], num_inference_steps=1, **kwargs) == (2 * n, 2 + 4 * n)
    assert count_rows(pipe, faces[0], use_flip=False, **kwargs) == (n * t, 1 + 2 * n)
    assert count_rows(pipe, faces[0], use_forward=False, **kwargs) == (2 * n * t, 2 + 2 * n)
    assert count_rows(pipe, faces[0], use_backward=False, **kwargs) == (0, 2 + 2 * n)


@pytest.mark.parametrize(
    ("off", "terms"),
    [
        ({"use_flip"}, ["noisy", "restored"]),
        ({"use_forward"}, ["restored", "flipped", "restored_flipped"]),
        ({"use_backward"}, ["noisy", "flipped", "noisy_flipped"]),
        ({"use_forward", "use_backward"}, ["flipped"]),
    ],
)
def test_ablations(pipe, faces, off, terms):
    complete = pipe(faces[:2])
    output = pipe(faces[:2], **dict.fromkeys(off, False))
    assert list(output.terms) == terms
    for name in terms:
        torch.testing.assert_close(output.terms[name], complete.terms[name], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.scores, torch.stack([output.terms[name] for name in terms]).mean(0))


def test_nothing_left_to_compare(pipe, faces):
    with pytest.raises(ValueError, match="nothing is left"):
        pipe(faces[0], use_flip=False, use_forward=False, use_backward=False)


@pytest.mark.parametrize("steps", [None, 1, 5])
def test_ddim_gives_the_same_scores(faces, steps):
    pipe = make_pipeline(num_timesteps=20, num_repeats=2)
    expected = pipe(faces, num_inference_steps=steps).scores
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    torch.testing.assert_close(pipe(faces, num_inference_steps=steps).scores, expected, atol=1e-3, rtol=0)


def test_ddim_refuses_uneven_steps(faces):
    pipe = make_pipeline(num_timesteps=200)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(ValueError, match="cannot step from 199 to 132"):
        pipe(faces[0], num_inference_steps=3)


def test_save_and_load(pipe, faces, tmp_path):
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["num_repeats"] == 2
    # Public paths that saved pipelines hold: they never move (design decision 9).
    assert index["fr_model"] == ["diffiqa_hf.models.mobilefacenet.modeling_mobilefacenet", "MobileFaceNetModel"]
    assert index["image_processor"] == ["diffiqa_hf.image_processing_face", "FaceImageProcessor"]
    loaded = DifFIQAPipeline.from_pretrained(tmp_path)
    assert_close(loaded(faces).scores, pipe(faces).scores)
    again = DifFIQAPipeline(**loaded.components, num_repeats=2)
    assert_close(again(faces).scores, pipe(faces).scores)


def test_variant(pipe, faces, tmp_path):
    pipe.save_pretrained(tmp_path, variant="fp16")
    loaded = DifFIQAPipeline.from_pretrained(tmp_path, variant="fp16")
    assert_close(loaded(faces).scores, pipe(faces).scores)
    with pytest.raises((OSError, ValueError)):
        DifFIQAPipeline.from_pretrained(tmp_path, variant="ema")


def test_half_precision(pipe, faces, tmp_path):
    pipe.save_pretrained(tmp_path)
    half = DifFIQAPipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert half.unet.dtype == half.fr_model.dtype == torch.bfloat16
    torch.testing.assert_close(half(faces).scores, pipe(faces).scores, atol=0.05, rtol=0)


def test_presets(faces, tmp_path):
    pipe = make_pipeline(num_repeats=2)
    pipe.set_preset("official")
    pipe.save_pretrained(tmp_path)
    loaded = DifFIQAPipeline.from_pretrained(tmp_path)
    assert (loaded.config.num_timesteps, loaded.config.num_repeats, loaded.config.off_by_one) == (5, 10, True)
    # The authors' loop: six calls for t = 5.
    assert count_rows(loaded, faces[0], num_repeats=1) == (2 * 6, 2 + 4)
    noisy = loaded(faces[0], num_repeats=1, output_images=True).noisy
    loaded.set_preset("paper")
    assert count_rows(loaded, faces[0], num_repeats=1) == (2 * 5, 2 + 4)
    face = loaded.image_processor(faces[0], return_tensors="pt").pixel_values
    closer = loaded(faces[0], num_repeats=1, output_images=True).noisy
    # Noise of index 5 against index 4: standard deviations .0179 and .0160.
    assert (noisy - face).std() / (closer - face).std() == pytest.approx(0.01790 / 0.01597, rel=0.01)
    with pytest.raises(ValueError, match="unknown preset"):
        pipe.set_preset("mine")


def test_kinds_of_images(pipe, faces, tmp_path):
    expected = pipe(faces[0]).scores
    path = tmp_path / "a face.png"
    Image.fromarray(faces[0]).save(path)
    for image in (path, str(path), Image.open(path), faces[0] / 255.0, torch.from_numpy(faces[0]).permute(2, 0, 1)):
        torch.testing.assert_close(pipe(image).scores, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(pipe(np.stack(faces)).scores, pipe(faces).scores, atol=1e-5, rtol=0)
    assert pipe([]).scores.shape == (0,)


def test_dataset_column(pipe, faces):
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"image": [Image.fromarray(face) for face in faces]})
    torch.testing.assert_close(pipe(dataset["image"]).scores, pipe(faces).scores, atol=1e-5, rtol=0)


def test_an_iterator_is_streamed(pipe, faces):
    read = []

    def images():
        for i in range(1000):
            read.append(i)
            yield faces[i % len(faces)]

    stream = pipe.stream(images(), num_timesteps=1, num_repeats=1, batch_size=4)
    records = [next(stream) for _ in range(6)]
    assert [record.index for record in records] == list(range(6))
    assert len(read) <= 8  # no further than the batch at hand
    assert records[0].score == pytest.approx(records[5].score, abs=1e-5)


def test_bad_images_get_nan_and_a_reason(pipe, faces, tmp_path):
    output = pipe([faces[0], tmp_path / "missing.jpg", faces[1]])
    torch.testing.assert_close(output.scores[[0, 2]], pipe(faces[:2]).scores, atol=1e-5, rtol=0)
    assert output.scores[1].isnan() and output.errors == [None, "no such file", None]
    assert output.image_indices.tolist() == [0, 1, 2]
    with pytest.raises(FaceImageError, match="no such file"):
        pipe(tmp_path / "missing.jpg", on_error="raise")


def test_nan_weights_are_named(faces):
    pipe = make_pipeline(num_repeats=1)
    torch.nn.init.constant_(pipe.unet.conv_in.weight, float("nan"))
    output = pipe(faces[0])
    assert output.scores.isnan().all() and "not finite" in output.errors[0]


def test_output_images(pipe, faces):
    output = pipe(faces[:2], output_images=True)
    assert output.noisy.shape == output.restored.shape == (2, 3, SIZE, SIZE)
    assert output.restored.abs().max() <= 1.0
    assert pipe(faces[0]).noisy is None
    assert pipe(faces[0], output_images=True, use_backward=False).restored is None


def test_tuple_output(pipe, faces):
    output = pipe(faces)
    as_tuple = pipe(faces, return_dict=False)
    assert_close(as_tuple[0], output.scores)
    assert as_tuple[3] == output.errors


@pytest.mark.parametrize(
    "settings",
    [
        {"num_timesteps": 0},
        {"num_timesteps": 1001},
        {"num_timesteps": 5, "num_inference_steps": 6},
        {"num_repeats": 0},
        {"num_repeats": 1.5},
        {"batch_size": 0},
        {"seed": "1"},
        {"on_error": "ignore"},
    ],
)
def test_senseless_settings(pipe, faces, settings):
    with pytest.raises(ValueError, match=list(settings)[-1]):
        pipe(faces[0], **settings)


@pytest.mark.parametrize("name", ["num_timesteps", "num_inference_steps", "num_repeats"])
def test_a_saved_setting_that_is_no_number(faces, name):
    pipe = make_pipeline(num_timesteps=2)
    pipe.register_to_config(**{name: [None]})
    with pytest.raises(ValueError, match=f"{name} has to be .*None"):
        pipe(faces[0])


def test_call_and_stream_take_the_same(pipe):
    call = inspect.signature(pipe.__call__).parameters
    stream = inspect.signature(pipe.stream).parameters
    assert {name: p.default for name, p in call.items() if name != "return_dict"} == {
        name: p.default for name, p in stream.items()
    }


def test_out_of_memory_halves_the_batch(faces):
    pipe = make_pipeline(num_repeats=4)
    expected = pipe(faces).scores
    forward = pipe.unet.forward

    def cramped(sample, *args, **kwargs):
        if len(sample) > 3:
            raise torch.OutOfMemoryError("as a small GPU would")
        return forward(sample, *args, **kwargs)

    pipe.unet.forward = cramped
    torch.testing.assert_close(pipe(faces, batch_size=16).scores, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_compiled_parts_give_the_same_scores(faces, tmp_path):
    pipe = make_pipeline(num_repeats=2, num_timesteps=2)
    expected = pipe(faces[:2], batch_size=4).scores
    pipe.unet, pipe.fr_model = torch.compile(pipe.unet), torch.compile(pipe.fr_model)
    torch.testing.assert_close(pipe(faces[:2], batch_size=4).scores, expected, atol=1e-5, rtol=0)
    pipe.save_pretrained(tmp_path)
    loaded = DifFIQAPipeline.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(faces[:2]).scores, expected, atol=1e-5, rtol=0)


def test_offloading_hooks_change_no_score(faces):
    """Here they move from one CPU to the same: what is checked is that every model is called in a way they see."""
    pipe = make_pipeline(num_repeats=2, num_timesteps=2)
    expected = pipe(faces[:2]).scores
    pipe.enable_model_cpu_offload(device="cpu")
    assert_close(pipe(faces[:2]).scores, expected)
    assert_close(pipe(faces[:2]).scores, expected)
