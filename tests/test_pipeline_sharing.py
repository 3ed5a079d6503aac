# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""One pipeline, many threads; networks in training mode, offloaded, folded; which schedulers it takes."""

import sys
from concurrent.futures import ThreadPoolExecutor

import diffusers
import pytest
import torch
from accelerate import cpu_offload
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.hooks import apply_group_offloading
from test_pipeline_diffiqa import faces, make_pipeline  # noqa: F401 - a fixture

from diffiqa_hf import Calibration, DifFIQAPipeline, explain, fit_calibration, load_method
from diffiqa_hf.calibration import UNNAMED_SCHEDULER
from diffiqa_hf.schedulers import scheduler_settings


SETTINGS = [(4, 4), (8, 2), (20, 4), (3, 1)]


def assert_same(scores, expected):
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)


# -- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", [DDPMScheduler, DDIMScheduler])
def test_threads_with_other_settings_do_not_disturb_each_other(faces, scheduler):  # noqa: F811
    pipe = make_pipeline()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)

    def score(job):
        number, (t, steps) = job
        settings = {"num_timesteps": t, "num_inference_steps": steps, "num_repeats": 2, "batch_size": 1 + number}
        return pipe(faces[number], **settings).scores

    jobs = [(number, setting) for number in range(3) for setting in SETTINGS]
    alone = torch.cat([score(job) for job in jobs])
    interval = sys.getswitchinterval()
    sys.setswitchinterval(interval / 100)
    try:
        with ThreadPoolExecutor(4) as pool:
            together = torch.cat(list(pool.map(score, jobs)))
    finally:
        sys.setswitchinterval(interval)
    assert_same(together, alone)


def test_streams_that_take_turns(faces):  # noqa: F811
    pipe = make_pipeline(num_repeats=1)
    expected = [pipe(faces, num_timesteps=t, num_inference_steps=s).scores for t, s in SETTINGS]
    streams = [pipe.stream(faces, num_timesteps=t, num_inference_steps=s, batch_size=2) for t, s in SETTINGS]
    found = torch.tensor([[record.score for record in records] for records in zip(*streams, strict=True)])
    assert_same(found, torch.stack(expected, 1))


def test_a_calibration_may_be_set_while_others_score(faces):  # noqa: F811
    pipe = make_pipeline(num_repeats=1, num_timesteps=2)
    expected = pipe(faces).scores
    calibrations = [fit_calibration(expected + i, settings=pipe.calibration_settings()) for i in (0, 1)]

    def score(number):
        if number % 2:
            pipe.calibration = [*calibrations, None][number % 3]
            return None
        return pipe(faces[0])

    with ThreadPoolExecutor(4) as pool:
        outputs = [output for output in pool.map(score, range(40)) if output is not None]
    possible = [float(calibration.percentiles(expected[0])) for calibration in calibrations]
    for output in outputs:
        assert_same(output.scores, expected[:1])
        if output.percentiles is not None:
            assert min(abs(output.percentiles.item() - value) for value in possible) < 0.1


# -- training mode ----------------------------------------------------------------------------------------------------


def in_training_mode(pipe):
    """Copies of its networks in training mode."""
    copies = make_pipeline()
    for name in ("unet", "fr_model"):
        getattr(copies, name).load_state_dict(getattr(pipe, name).state_dict())
        getattr(copies, name).train()
    return copies.unet, copies.fr_model


WAYS = {
    "constructor": lambda pipe, unet, fr, folder: DifFIQAPipeline(
        **{**pipe.components, "unet": unet, "fr_model": fr}, num_repeats=2
    ),
    "attribute": lambda pipe, unet, fr, folder: (setattr(pipe, "unet", unet), setattr(pipe, "fr_model", fr), pipe)[2],
    "register_modules": lambda pipe, unet, fr, folder: (pipe.register_modules(unet=unet, fr_model=fr), pipe)[1],
    "from_pretrained": lambda pipe, unet, fr, folder: (
        pipe.save_pretrained(folder),
        DifFIQAPipeline.from_pretrained(folder, unet=unet, fr_model=fr),
    )[1],
    "from_pipe": lambda pipe, unet, fr, folder: DifFIQAPipeline.from_pipe(pipe, unet=unet, fr_model=fr, num_repeats=2),
    "load_method": lambda pipe, unet, fr, folder: load_method("diffiqa", pipe, fr_model=fr, num_repeats=2),
}


@pytest.mark.parametrize("way", list(WAYS))
def test_networks_in_training_mode_score_as_in_evaluation_mode(faces, tmp_path, way):  # noqa: F811
    pipe = make_pipeline(num_repeats=2)
    expected = pipe(faces).scores
    networks = in_training_mode(pipe)
    before = [{key: value.clone() for key, value in network.state_dict().items()} for network in networks]
    other = WAYS[way](pipe, *networks, tmp_path)
    if way == "load_method":
        networks[1].train()  # which it has put in evaluation mode
    assert_same(other(faces).scores, expected)
    assert_same(torch.cat([other(face).scores for face in faces]), expected)
    for network, state in zip(networks, before, strict=True):
        torch.testing.assert_close(dict(network.state_dict()), state, atol=0, rtol=0)
        assert all(module.training for module in network.modules())


def test_explained_in_training_mode(faces):  # noqa: F811
    pipe = make_pipeline(num_repeats=2)
    expected = explain(pipe, faces[0])
    pipe.unet, pipe.fr_model = networks = in_training_mode(pipe)
    found = explain(pipe, faces[0])
    assert found.score == pytest.approx(expected.score, abs=1e-5)
    largest = abs(expected.attribution).max()
    torch.testing.assert_close(found.attribution, expected.attribution, atol=1e-3 * largest, rtol=0)
    assert all(network.training for network in networks)
    assert networks[1].state_dict()["norm.num_batches_tracked"] == 0


# -- schedulers -------------------------------------------------------------------------------------------------------

OTHERS = ["DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "LCMScheduler", "PNDMScheduler", "TCDScheduler"]


@pytest.mark.parametrize("name", [*OTHERS, "DDPMParallelScheduler", "DDIMParallelScheduler"])
def test_any_other_scheduler_is_refused_however_it_gets_in(faces, tmp_path, name):  # noqa: F811
    pipe = make_pipeline()
    scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    line = f"DifFIQA runs with DDPMScheduler or DDIMScheduler, not with {name}"
    with pytest.raises(ValueError, match=line):
        DifFIQAPipeline(**{**pipe.components, "scheduler": scheduler})
    pipe.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=line):
        DifFIQAPipeline.from_pretrained(tmp_path, scheduler=scheduler)
    pipe.scheduler = scheduler
    for call in (lambda: pipe(faces[0]), lambda: pipe.stream(faces), lambda: explain(pipe, faces[0])):
        with pytest.raises(ValueError, match=line):
            call()
    with pytest.raises(ValueError, match=line):
        pipe.backward_process(torch.zeros(1, 3, 32, 32), 4)


@pytest.mark.parametrize(
    ("scheduler", "changes"),
    [
        (DDPMScheduler, {"prediction_type": "epsilon"}),
        (DDPMScheduler, {"variance_type": "fixed_large"}),
        (DDPMScheduler, {"clip_sample": False}),
        (DDPMScheduler, {"clip_sample_range": 2.0}),
        (DDPMScheduler, {"thresholding": True}),
        (DDIMScheduler, {"prediction_type": "v_prediction"}),
        (DDIMScheduler, {"rescale_betas_zero_snr": True}),
    ],
)
def test_settings_that_make_another_process_are_refused(faces, scheduler, changes):  # noqa: F811
    pipe = make_pipeline()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config, **changes)
    name = next(iter(changes))
    with pytest.raises(ValueError, match=f"DifFIQA runs with {name}=.*, this {scheduler.__name__} has"):
        pipe(faces[0])


@pytest.mark.parametrize("betas", [[], [0.1], [0.1] * 999, [[0.1] * 1000]], ids=lambda betas: str(len(betas)))
def test_betas_of_other_steps_are_refused(faces, betas):  # noqa: F811
    pipe = make_pipeline()
    pipe.scheduler = DDPMScheduler.from_config(pipe.scheduler.config, num_train_timesteps=1000, trained_betas=betas)
    with pytest.raises(ValueError, match=r"\(trained_betas\), not num_train_timesteps, 1000$"):
        pipe(faces[0])


@pytest.mark.parametrize("beta", [-0.1, 1.0, float("nan")])
def test_betas_that_are_no_parts_are_refused(faces, beta):  # noqa: F811
    pipe = make_pipeline()
    pipe.scheduler = DDPMScheduler.from_config(
        pipe.scheduler.config, num_train_timesteps=1000, trained_betas=[0.1] * 999 + [beta]
    )
    with pytest.raises(ValueError, match="no parts of noise from 0 to 1"):
        pipe(faces[0])


def test_what_changes_scores_is_in_the_calibration_and_what_does_not_is_not(faces):  # noqa: F811
    pipe = make_pipeline(num_timesteps=20, num_repeats=2, num_inference_steps=4)
    config = pipe.scheduler.config
    expected = pipe(faces).scores
    pipe.calibration = fit_calibration(expected, settings=pipe.calibration_settings())
    for changes in ({"timestep_spacing": "trailing"}, {"steps_offset": 1}, {"beta_end": 0.03}):
        pipe.scheduler = DDPMScheduler.from_config(config, **changes)
        output = pipe(faces)
        assert_same(output.scores, expected)
        assert output.percentiles is not None
    ddim = DDIMScheduler.from_config(config)
    found = {}
    for spacing in ("leading", "trailing", "linspace"):
        pipe.scheduler = DDIMScheduler.from_config(ddim.config, timestep_spacing=spacing)
        found[spacing] = pipe(faces).scores
    assert_same(found["trailing"], found["leading"])
    assert_same(found["linspace"], found["leading"])
    for scheduler, line in (
        (DDPMScheduler.from_config(config, beta_schedule="linear"), "scheduler beta_schedule was squaredcos_cap_v2"),
        (DDPMScheduler.from_config(config, num_train_timesteps=500), "scheduler num_train_timesteps was 1000, is 500"),
        (ddim, "scheduler class was DDPMScheduler, is DDIMScheduler"),
    ):
        pipe.scheduler = scheduler
        assert pipe(faces).percentiles is None
        assert line in pipe.calibration.misfit(pipe.calibration_settings())
    pipe.calibration = fit_calibration(expected, settings=pipe.calibration_settings())
    pipe.scheduler = DDIMScheduler.from_config(ddim.config, set_alpha_to_one=False)
    line = pipe.calibration.misfit(pipe.calibration_settings())
    assert "(scheduler set_alpha_to_one was True, is False)" in line


def test_betas_of_ones_own_are_told_apart():
    schedulers = [DDPMScheduler(trained_betas=[value] * 10) for value in (0.01, 0.02)]
    first, second = map(scheduler_settings, schedulers)
    assert first != second and first == scheduler_settings(DDPMScheduler(trained_betas=[0.01] * 10))


def test_a_calibration_that_names_no_scheduler_is_of_the_one_that_there_was(faces, tmp_path):  # noqa: F811
    pipe = make_pipeline(num_repeats=1)
    settings = pipe.calibration_settings()
    assert settings.pop("scheduler") == UNNAMED_SCHEDULER
    fit_calibration(pipe(faces).scores, settings=settings).save(tmp_path / "old.json")
    pipe.calibration = Calibration.from_pretrained(tmp_path / "old.json")
    assert pipe(faces).percentiles is not None
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    assert pipe(faces).percentiles is None


# -- offloading and folding -------------------------------------------------------------------------------------------


def offload_whole(pipe, folder):
    cpu_offload(pipe.unet, execution_device="cpu")
    cpu_offload(pipe.fr_model, execution_device="cpu")


def offload_blocks(pipe, folder):
    for model in (pipe.unet, pipe.fr_model):
        apply_group_offloading(model, torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1)


def offload_leaves_to_disk(pipe, folder):
    for name in ("unet", "fr_model"):
        apply_group_offloading(
            getattr(pipe, name),
            torch.device("cpu"),
            offload_type="leaf_level",
            offload_to_disk_path=str(folder / name),
        )


@pytest.mark.parametrize("offload", [offload_whole, offload_blocks, offload_leaves_to_disk])
@pytest.mark.parametrize("first", [False, True])
def test_an_offloaded_pipeline_has_its_percentiles(faces, tmp_path, offload, first):  # noqa: F811
    pipe = make_pipeline(num_repeats=2)
    expected = pipe(faces).scores
    calibration = fit_calibration(expected, settings=pipe.calibration_settings())
    pipe = make_pipeline(num_repeats=2)
    if first:
        offload(pipe, tmp_path)
    pipe.calibration = calibration
    if not first:
        offload(pipe, tmp_path)
    with ThreadPoolExecutor(3) as pool:
        outputs = list(pool.map(lambda _: pipe(faces), range(3)))
    for output in outputs:
        assert_same(output.scores, expected)
        assert output.percentiles is not None
    assert pipe.calibration_settings() == calibration.settings


def test_folding_twice_keeps_scores_and_percentiles(faces):  # noqa: F811
    pipe = make_pipeline(num_repeats=2)
    expected = pipe(faces).scores
    pipe.calibration = fit_calibration(expected, settings=pipe.calibration_settings())
    for winograd in (False, False, True):
        pipe.enable_folding(winograd)
        output = pipe(faces)
        torch.testing.assert_close(output.scores, expected, atol=1e-4, rtol=0)
        assert output.percentiles is not None


# -- several FR models ------------------------------------------------------------------------------------------------


def test_scores_with_several_fr_models_are_those_of_a_pipeline_with_each(faces, tmp_path):  # noqa: F811
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    images = [*faces[:3], broken, *faces[3:]]
    pipe, other = make_pipeline(num_repeats=2), make_pipeline().fr_model
    torch.nn.init.normal_(next(weight for weight in other.parameters() if weight.ndim == 4))
    pipe_of_other = DifFIQAPipeline(**{**pipe.components, "fr_model": other}, num_repeats=2)
    found = list(zip(*pipe.stream_with([pipe.fr_model, other], images), strict=True))
    for records, alone in zip(found, (pipe, pipe_of_other), strict=True):
        expected = list(alone.stream(images))
        assert [record.index for record in records] == [record.index for record in expected]
        assert [record.error for record in records] == [record.error for record in expected]
        assert records[3].error
        for name in expected[0].terms:
            terms = [torch.tensor([r.terms.get(name, 0.0) for r in made]) for made in (records, expected)]
            assert_same(*terms)
    first, second = (torch.tensor([record.score for record in records]) for records in found)
    assert (first - second).abs().nan_to_num().max() > 1e-3
