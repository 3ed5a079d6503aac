# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import UNet2DModel
from fixtures.hub import LocalHub
from fixtures.networks import MOBILEFACENET as TINY
from fixtures.networks import make_scheduler
from huggingface_hub import DatasetCard, ModelCard
from safetensors.torch import load_file, save_file

import diffiqa_hf
from diffiqa_hf import (
    AutoModelForFaceQuality,
    DifFIQAPipeline,
    FaceImageProcessor,
    LightQNetConfig,
    LightQNetForFaceQuality,
    MobileFaceNetConfig,
    MobileFaceNetForFaceQuality,
    MobileFaceNetModel,
)
from diffiqa_hf.calibration import fit_calibration
from diffiqa_hf.hub import (
    DataFacts,
    HubError,
    ResultFacts,
    TrainingFacts,
    add_hub_arguments,
    add_results,
    benchmark_results,
    check_folder,
    check_hub_arguments,
    complete_card,
    complete_folder,
    push_folder,
    read_training,
    record_training,
    training_facts,
    write_model_card,
)
from diffiqa_hf.hub.cards import shipped_folder
from diffiqa_hf.methods.regression import method_of


ROOT = Path(__file__).parents[2]
FACTS = TrainingFacts(
    command="accelerate launch training/train_diffiqa_r.py --num_train_epochs 2",
    data=[DataFacts("faces of volunteers", 9525, 403, "CC BY 4.0")],
    results=[
        ResultFacts("pauc", "pAUC at discard 0.3", 0.5512, "people held out", 0.43, 0.68, 0.95, "817 mated pairs"),
        ResultFacts("spearmanr", "Spearman's correlation", 0.9034, "faces held out"),
    ],
    heldout="every tenth of them",
    steps=1234,
    processes=2,
    device="cuda",
    license_text="for research only",
    versions={"torch": "2.13.0"},
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """
    Folders as `save_pretrained` writes them: `quality`, `other` (with other weights), `fr`, `pipe` and `other_pipe`.
    """
    folder = tmp_path_factory.mktemp("made")
    for seed, name in enumerate(("quality", "other")):
        torch.manual_seed(seed)
        model = MobileFaceNetForFaceQuality(MobileFaceNetConfig(**TINY))
        model.head.score.bias.data.fill_(seed + 0.5)
        model.save_pretrained(folder / name)
    fr_model = MobileFaceNetModel(MobileFaceNetConfig(**TINY)).eval()
    fr_model.save_pretrained(folder / "fr")
    unet = UNet2DModel(
        sample_size=112,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    scheduler = make_scheduler()
    other_fr_model = MobileFaceNetModel(MobileFaceNetConfig(**TINY)).eval()
    for name, model in (("pipe", fr_model), ("other_pipe", other_fr_model)):
        DifFIQAPipeline(unet, scheduler, model, FaceImageProcessor()).save_pretrained(folder / name)
    return folder


@pytest.fixture
def quality(made, tmp_path) -> Path:
    return Path(shutil.copytree(made / "quality", tmp_path / "quality"))


# -- cards ------------------------------------------------------------------------------------------------------------


def test_card_of_a_run_says_what_the_run_knew(quality):
    record_training(quality, FACTS)
    card = ModelCard.load(quality / "README.md")
    assert card.data.library_name == "transformers" and "face-image-quality-assessment" in card.data.tags
    assert (card.data.license, card.data.license_name) == ("other", "for research only")
    pauc, spearman = card.data.eval_results
    assert pauc.metric_value == 0.5512 and pauc.dataset_name == "people held out"
    assert pauc.metric_args == {"interval": [0.43, 0.68], "confidence": 0.95, "basis": "817 mated pairs"}
    assert spearman.metric_value == 0.9034 and spearman.metric_args is None
    assert spearman.dataset_name == "faces held out"
    assert "| faces of volunteers | 9,525 | 403 | CC BY 4.0 |\n\nHeld out: every tenth of them." in card.text
    assert "| people held out | pAUC at discard 0.3 | 0.5512 | 0.43 to 0.68 (95 %) | 817 mated pairs |" in card.text
    assert "| faces held out | Spearman's correlation | 0.9034 | none computed | not recorded |" in card.text
    assert FACTS.command in card.text and "1234 steps, 2 processes on cuda; torch 2.13.0." in card.text
    assert read_training(quality) == FACTS
    parameters = sum(p.numel() for p in MobileFaceNetForFaceQuality.from_pretrained(quality).parameters())
    assert f"MobileFaceNetForFaceQuality, {parameters:,} parameters" in card.text


@pytest.mark.parametrize("name", ["quality", "fr", "pipe"])
def test_every_card_has_its_sections_and_admits_what_is_not_known(made, name):
    text = complete_card(made / name, repo_id="ann/model")
    for heading in ("Use", "Intended use", "Limits", "People", "Training data", "Results", "How to reproduce"):
        assert f"\n## {heading}\n" in text
    assert "was not tested" in text and "No figure was recorded." in text and "left no record" in text
    assert '"ann/model"' in text and "{{" not in text and "None" not in text
    assert "model-index" not in ModelCard(text).data.to_dict()


def test_card_that_is_there_keeps_what_it_says(quality):
    ours = "---\nlicense: mit\nlanguage: en\n---\n# Mine\n\nHello.\n\n## Limits\n\nNone at all.\n"
    (quality / "README.md").write_text(ours)
    assert write_model_card(quality, facts=FACTS)
    card = ModelCard.load(quality / "README.md")
    assert card.data.license == "mit" and card.data.language == "en" and card.data.get("license_name") is None
    assert card.data.library_name == "transformers" and len(card.data.eval_results) == 2
    assert card.text.startswith("# Mine\n\nHello.\n\n## Limits\n\nNone at all.\n\n## Use\n")
    assert card.text.count("## Limits") == 1 and card.text.count("## Results") == 1
    before = (quality / "README.md").read_bytes()
    assert not write_model_card(quality, facts=FACTS) and (quality / "README.md").read_bytes() == before


def test_card_says_what_a_score_means(quality, made, tmp_path):
    rng = np.random.default_rng(0)
    people, scores = np.repeat(np.arange(30), 5), rng.uniform(size=150)
    noise = (2.5 - 2.2 * scores)[:, None] * rng.normal(size=(150, 16))
    embeddings = rng.normal(size=(30, 16))[people] + noise
    fitted = fit_calibration(scores, embeddings, people, fmr=1e-2, data="visitors | of a gate")
    record_training(quality, FACTS)
    assert "## Calibration" not in (quality / "README.md").read_text()
    fitted.save_pretrained(quality)
    text = complete_card(quality)
    assert text.index("\n## Results\n") < text.index("\n## Calibration\n") < text.index("\n## How to reproduce\n")
    section = text.split("\n## Calibration\n")[1].split("\n## ")[0]
    assert "measured on 150 faces: visitors | of a gate." in section and "FMR of 0.01 on all 10,875 non" in section
    shown = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert [line.split(" | ")[0] for line in shown] == ["| 5", "| 25", "| 50", "| 75", "| 95"]
    level = fitted.level(25)
    assert shown[1] == f"| 25 | {level.score:.4g} | {level.errors / level.pairs:.4g} | {level.pairs} |"
    assert shown[4] == f"| 95 | {fitted.quantiles[95]:.4g} | too few pairs | {fitted.level(95).pairs} |"
    # Percentiles alone; and of a pipeline.
    pipe = Path(shutil.copytree(made / "pipe", tmp_path / "pipe"))
    fit_calibration(scores).save_pretrained(pipe)
    section = complete_card(pipe).split("\n## Calibration\n")[1].split("\n## ")[0]
    assert f"\n| 50 | {np.median(scores):.4g} |\n" in section and "FNMR" not in section
    assert "which ones was not recorded" in section
    # A card that somebody has written gets the section that it lacks.
    (pipe / "README.md").write_text("# Mine\n")
    assert complete_card(pipe).count("\n## Calibration\n") == 1
    (pipe / "calibration.json").write_text("{}")
    with pytest.raises(HubError, match="calibration.json is no calibration"):
        complete_card(pipe)


def test_card_of_a_run_gets_the_name_that_it_is_pushed_under(quality):
    record_training(quality, FACTS)
    assert 'from_pretrained("quality")' in (quality / "README.md").read_text()
    assert 'from_pretrained("ann/best")' in complete_folder(quality, "face_quality", "ann/best")["README.md"]


def test_cards_that_cannot_be(quality, tmp_path):
    (quality / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(HubError, match="README.md: its metadata is no YAML"):
        complete_card(quality)
    with pytest.raises(HubError, match="no card template 'unet'"):
        complete_card(quality, "unet")
    (quality / "training.json").write_text('{"command": "x", "speed": 3}')
    with pytest.raises(HubError, match="training.json: unknown facts: speed"):
        complete_card(quality)
    with pytest.raises(ValueError, match="metric"):
        TrainingFacts.from_dict({"results": [{"value": 0.5}]})
    with pytest.raises(ValueError, match="interval"):
        ResultFacts("pauc", "pAUC", 0.5, "faces", low=0.4)


def test_templates_and_pipelines_are_found():
    for name in ("model_cards", "pipelines"):
        assert shipped_folder(name).samefile(ROOT / name) and not (ROOT / name).is_symlink()
    for path in (ROOT / "pipelines").glob("*/pipeline.py"):
        compile(path.read_text(), str(path), "exec")


def test_facts_of_a_run_have_no_paths_of_the_machine():
    from accelerate import Accelerator
    from datasets import Dataset

    parser = argparse.ArgumentParser()
    add_hub_arguments(parser)
    for option in ("--train_data_dir", "--identity_column", "--out", "--resume_from_checkpoint"):
        parser.add_argument(option)
    parser.set_defaults(dataset_name=None, train_parquet=None, holdout_modulo=10, identity_column="person")
    argv = ["--train_data_dir", "/home/ann/faces of people", "--out=/tmp/run", "--push_to_hub", "--hub_model_id"]
    argv += [
        "ann/secret",
        "--card_note",
        "a first run",
        "--card_note=not the last",
        "--resume_from_checkpoint",
        "latest",
        "--weights_license",
        "for research",
    ]
    args = parser.parse_args(argv)
    dataset = Dataset.from_dict({"person": ["a", "b", "a"]})
    facts = training_facts("training/train_ddpm.py", args, argv, dataset, Accelerator(cpu=True), steps=7)
    assert facts.command == "accelerate launch training/train_ddpm.py --train_data_dir 'faces of people' --out=run"
    assert facts.data == [DataFacts("`faces of people`", 3, 2)] and facts.steps == 7
    assert facts.notes == ["a first run", "not the last"]
    assert "divisible by 10" in facts.heldout and facts.license_text == "for research"


PART = TrainingFacts(
    command="accelerate launch training/train_face_recognition.py --seed 1\naccelerate launch training/again.py",
    data=FACTS.data,
    results=[ResultFacts("fnmr", "FNMR at FMR 1e-3", 0.226, "people held out", basis="817 mated pairs")],
    heldout="nobody",
    notes=["The second run\ngoes on where the first | ended."],
)


def test_card_of_a_pipeline_says_how_each_part_was_made(made, tmp_path):
    pipe = Path(shutil.copytree(made / "pipe", tmp_path / "pipe"))
    record_training(pipe, FACTS, {"fr_model": PART, "unet": None})
    text = (pipe / "README.md").read_text()
    assert "| faces of volunteers | 9,525 | 403 | CC BY 4.0 | the pipeline, `fr_model` |\n" in text
    assert "Held out (the pipeline): every tenth of them." in text and "Held out (`fr_model`): nobody." in text
    results, reproduce = (
        text.split(f"## {title}\n")[1].split("\n## ")[0] for title in ("Results", "How to reproduce")
    )
    of_pipe, of_part = results.split("### Of `fr_model`")
    assert "0.5512" in of_pipe and "random gives 1" in of_pipe and "0.226" in of_part and "random" not in of_part
    of_pipe, of_part = reproduce.split("### Of `fr_model`")
    assert FACTS.command in of_pipe and PART.command in of_part and "left no record" not in reproduce
    assert "- `fr_model`: The second run\n  goes on where the first | ended.\n" in text
    # It goes with the part, and neither a pipeline nor an FR model minds it.
    assert check_folder(pipe) == "diffiqa"
    part = Path(shutil.copytree(pipe / "fr_model", tmp_path / "part"))
    assert read_training(part) == PART and check_folder(part) == "face_recognition"
    assert PART.command in complete_card(part) and "### Of" not in complete_card(part)
    # Of the pipeline alone.
    (pipe / "fr_model" / "training.json").unlink()
    assert "The run that made `fr_model` left no record." in complete_card(pipe)
    # Of the part alone: what was measured with the whole has no run.
    record_training(pipe, TrainingFacts(results=FACTS.results), {"fr_model": PART})
    text = (pipe / "README.md").read_text()
    assert "The run that made `unet` left no record." in text and text.count("pip install") == 1


def test_a_broken_record_of_a_part_is_named(made, tmp_path):
    pipe = Path(shutil.copytree(made / "pipe", tmp_path / "pipe"))
    (pipe / "fr_model" / "training.json").write_text('{"colour": 1}')
    with pytest.raises(HubError, match="fr_model/training.json: unknown facts: colour"):
        complete_card(pipe)


# -- figures of a benchmark -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> tuple[Path, list]:
    """`results.json` of two methods with two FR models, the second without any error; and the evaluations in it."""
    from diffiqa_hf.evaluation import evaluate_methods
    from diffiqa_hf.evaluation.study.report import Study, write_report

    generator = np.random.default_rng(0)
    people = np.repeat(np.arange(60), 4)
    pairs = np.array([(i, j) for i in range(len(people)) for j in range(i)])
    mated = people[pairs[:, 0]] == people[pairs[:, 1]]
    quality = generator.uniform(size=len(people))
    noise = generator.normal(scale=0.05, size=len(pairs))
    weak = np.where(mated, 0.8 * np.minimum(*quality[pairs.T]), 0.1) + noise
    perfect = np.where(mated, 0.9, 0.0)
    scores = {"ours": quality, "random": generator.uniform(size=len(people))}
    evaluations = [
        evaluate_methods(
            similarities, mated, scores, pairs=pairs, identities=people, replicates=50, benchmark="B|1", fr_model=name
        )
        for name, similarities in (("weak", weak), ("perfect", perfect))
    ]
    settings = {"benchmarks": {"B|1": {"protocol": "all pairs"}}}
    folder = tmp_path_factory.mktemp("report")
    write_report(Study("T", {"default": evaluations}, ("ours", "random"), settings=settings), folder, pictures=False)
    return folder / "results.json", evaluations


def test_figures_of_a_report(report):
    path, (weak, perfect) = report
    results = {(result.metric, result.name, result.dataset): result for result in benchmark_results(path, "ours")}
    point = "FMR 0.001, protocol default"
    assert list(results) == [
        ("fnmr", f"FNMR at {point}", "B|1, FR model weak"),
        ("pauc", f"ours: pAUC at discard 0.2, {point}", "B|1, FR model weak"),
        ("pauc", f"ours: pAUC at discard 0.3, {point}", "B|1, FR model weak"),
        ("fnmr", f"FNMR at {point}", "B|1, FR model perfect"),  # and no pAUC: 0 / 0
    ]
    fnmr, _, pauc, none = results.values()
    curve, interval = weak.results["ours"], weak.interval("ours", 0.3)
    assert fnmr.value == curve.fnmr == curve.false_non_matches / 360 and none.value == 0
    assert fnmr.basis.startswith(
        f"{curve.false_non_matches} errors in 360 mated pairs; {curve.false_matches} false matches in 28,320 non-mated"
    )
    rate = weak.fnmr_interval
    assert (fnmr.low, fnmr.high, fnmr.confidence) == (rate.low, rate.high, 0.95) and rate.low < fnmr.value < rate.high
    assert "; 50 bootstrap draws of 60 people; all pairs" in fnmr.basis
    assert (none.low, none.high, none.confidence) == (None, None, None) and "draws" not in none.basis
    assert (pauc.value, pauc.low, pauc.high) == (curve.pauc[0.3], interval.low, interval.high)
    assert pauc.confidence == interval.confidence and pauc.low < pauc.value < 0.9
    assert pauc.basis == "; ".join(
        [
            f"{curve.false_non_matches} errors in 360 mated pairs",
            f"floor {curve.floor[0.3]:.3g}",
            f"share {curve.share[0.3]:.3g}",
            "50 bootstrap draws of 60 people",
            "all pairs",
            *weak.notes,
        ]
    )
    assert none.basis.endswith("; ".join(["all pairs", *perfect.notes])) and perfect.notes


def test_reports_that_have_not_the_figures(report, tmp_path):
    with pytest.raises(HubError, match="has no method 'theirs'; it has ours, random"):
        benchmark_results(report[0], "theirs")
    # One of before FNMR(0) had an interval.
    older = json.loads(report[0].read_text())
    for evaluation in older["evaluations"]:
        for figures in evaluation["methods"].values():
            del figures["fnmr_interval"]
    (tmp_path / "older.json").write_text(json.dumps(older))
    assert [result.low is None for result in benchmark_results(tmp_path / "older.json", "ours")] == [
        True, False, False, True
    ]  # fmt: skip
    with pytest.raises(HubError, match="none.json: no such file"):
        benchmark_results(tmp_path / "none.json", "ours")
    for text, reason in (
        ("{", "Expecting"),
        ("{}", "no results.json of `diffiqa benchmark`"),
        ("[]", "no results.json"),
    ):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(HubError, match=reason):
            benchmark_results(tmp_path / "results.json", "ours")


def test_figures_are_added_to_the_record_and_to_the_card(quality, report):
    record_training(quality, FACTS)
    push_name = complete_folder(quality, "face_quality", "ann/best")["README.md"]
    (quality / "README.md").write_text(push_name)
    found = benchmark_results(report[0], "ours")
    assert add_results(quality, found, ["Not for cats."]) == ["README.md", "training.json"]
    facts = read_training(quality)
    assert facts.results == [*FACTS.results, *found] and facts.notes == ["Not for cats."]
    assert facts.command == FACTS.command
    card = ModelCard.load(quality / "README.md")
    assert [result.metric_value for result in card.data.eval_results] == [result.value for result in facts.results]
    assert (
        f"| B\\|1, FR model weak | FNMR at FMR 0.001, protocol default | {found[0].value:.4g} | {found[0].low:.4g} to "
        in card.text
    )
    assert f"| FNMR at FMR 0.001, protocol default | {found[-1].value:.4g} | none computed" in card.text
    assert "\n## Notes\n\n- Not for cats.\n\n## How" in card.text and '"ann/best"' in card.text
    # The same again: nothing. Another value of the same figure: in its place.
    assert add_results(quality, found, ["Not for cats."]) == []
    new = [ResultFacts("fnmr", found[0].name, 0.25, found[0].dataset)]
    add_results(quality, new)
    assert read_training(quality).results == [*FACTS.results, *new, *found[1:]]
    add_results(quality, forget="B|1")
    assert read_training(quality).results == FACTS.results
    assert "B\\|1" not in (quality / "README.md").read_text()


def test_figures_without_a_run(quality, report):
    add_results(quality, benchmark_results(report[0], "ours"))
    text = (quality / "README.md").read_text()
    assert "The run that made these weights left no record." in text and "FR model perfect" in text


def test_a_card_that_somebody_has_changed_is_theirs(quality, report):
    record_training(quality, FACTS)
    theirs = (quality / "README.md").read_text().replace("0.5512", "0.1")
    (quality / "README.md").write_text(theirs)
    found = benchmark_results(report[0], "ours")
    add_results(quality, found)
    card = (quality / "README.md").read_text()
    assert "0.1 | 0.43 to 0.68" in card and "B\\|1" not in card
    assert read_training(quality).results == [*FACTS.results, *found]
    # What it has not is added.
    (quality / "README.md").write_text("# Mine\n")
    add_results(quality, notes=["Mind the gap."])
    text = (quality / "README.md").read_text()
    assert text.count("# Mine\n") == 1 and "- Mind the gap." in text and "B\\|1" in text and "Filled in" not in text


# -- folders ----------------------------------------------------------------------------------------------------------


def test_folders_that_load(made):
    assert [check_folder(made / name) for name in ("quality", "fr", "pipe")] == [
        "face_quality",
        "face_recognition",
        "diffiqa",
    ]


def test_folders_that_are_refused(quality, made, tmp_path):
    def refused(match: str, folder: Path = quality) -> None:
        with pytest.raises(HubError, match=match):
            check_folder(folder)

    refused("no folder", tmp_path / "nothing")
    refused("holds no pipeline", tmp_path)
    torch.save({}, quality / "pytorch_model.bin")
    refused("pytorch_model.bin: only safetensors are pushed")
    (quality / "pytorch_model.bin").unlink()

    weights = load_file(quality / "model.safetensors")
    name = "head.score.weight"
    for broken, match in (
        ({key: value for key, value in weights.items() if key != name}, f"has no weights for {name}"),
        ({**weights, "more": torch.zeros(1)}, "weights that no part of the network is for: more"),
        ({**weights, name: torch.full_like(weights[name], float("nan"))}, f"NaN or infinite weights .{name}"),
    ):
        save_file(broken, quality / "model.safetensors", metadata={"format": "pt"})
        refused(match)
    (quality / "model.safetensors").write_bytes(b"not this")
    refused("model.safetensors: truncated or damaged")
    (quality / "config.json").write_text("{")
    refused("config.json|Expecting")

    pipe = shutil.copytree(made / "pipe", tmp_path / "pipe")
    index = json.loads((pipe / "model_index.json").read_text())
    (pipe / "model_index.json").write_text(json.dumps({**index, "_class_name": "DDPMPipeline"}))
    refused("is a DDPMPipeline", pipe)


def test_what_is_missing_for_loading_is_added(made, quality, tmp_path):
    parts = complete_folder(quality, "face_quality")
    assert set(parts) == {"README.md", "preprocessor_config.json"}
    assert json.loads(parts["preprocessor_config.json"])["size"] == {"height": 112, "width": 112}
    assert set(complete_folder(made / "pipe", "diffiqa")) == {"README.md", "pipeline.py"}
    (quality / "preprocessor_config.json").write_text("{}")
    assert set(complete_folder(quality, "face_quality")) == {"README.md"}

    blocks = [[4, 4, 2], [8, 6, 2]]
    LightQNetForFaceQuality(LightQNetConfig(stem_width=4, blocks=blocks, feature_width=8)).save_pretrained(tmp_path)
    parts = complete_folder(tmp_path, "face_quality")
    assert json.loads(parts["preprocessor_config.json"])["size"] == {"height": 96, "width": 96}


# -- the Hub ----------------------------------------------------------------------------------------------------------

SCORES = """
import numpy as np, json
from pathlib import Path
import diffiqa_hf.models
from diffiqa_hf import AutoModelForFaceQuality, DifFIQAPipeline, FaceImageProcessor, load_method
from diffiqa_hf.calibration import Calibration
from diffiqa_hf.methods.regression import method_of
from diffusers import DiffusionPipeline
from transformers import AutoImageProcessor, AutoModel, pipeline
import torch

image = (np.arange(112 * 112 * 3) % 251).astype("uint8").reshape(112, 112, 3)
faces = FaceImageProcessor()([image], return_tensors="pt")
result = {}

def attempt(name, function):
    try:
        with torch.no_grad():
            result[name] = function()
    except Exception as error:
        result[name] = f"{type(error).__name__}: {error}"

def by_pipeline(repo, cls=DifFIQAPipeline, **options):
    return cls.from_pretrained(repo, **options)(image, num_repeats=1).scores.tolist()

def by_model(repo, **options):
    return AutoModelForFaceQuality.from_pretrained(repo, **options).eval()(**faces).scores.tolist()

def by_fr_model(repo, **options):
    return AutoModel.from_pretrained(repo, **options).eval()(**faces).embeddings[0].tolist()

def by_task(repo, key="score", **options):
    return [pipeline("face-image-quality-assessment", model=repo, **options)(image)[key]]

def percentiles(repo):
    method = method_of(AutoModelForFaceQuality.from_pretrained(repo))
    method.calibration = Calibration.from_pretrained(repo)
    return [*method(image).percentiles.tolist(), *load_method("diffiqa-r", repo)(image).percentiles.tolist()]
"""

LOAD = (
    SCORES
    + """
custom = {"cls": DiffusionPipeline, "trust_remote_code": True}
attempt("pipeline", lambda: by_pipeline("ann/pipe"))
attempt("custom", lambda: by_pipeline("ann/pipe", custom_pipeline="ann/pipe", **custom))
attempt("pipeline, revision", lambda: by_pipeline("ann/pipe", revision="other"))
attempt("custom, revision", lambda: by_pipeline("ann/pipe", revision="other", custom_pipeline="ann/pipe", **custom))
attempt("custom file", lambda: by_pipeline("ann/pipe", custom_pipeline="pipeline", **custom))
attempt("custom folder", lambda: by_pipeline("ann/pipe", custom_pipeline=pipelines, **custom))
attempt("untrusted", lambda: by_pipeline("ann/pipe", DiffusionPipeline, custom_pipeline="ann/pipe"))
# After the code has come to the cache it still needs no trust.
attempt("pipeline again", lambda: by_pipeline("ann/pipe"))
attempt("half", lambda: str(DifFIQAPipeline.from_pretrained("ann/pipe", torch_dtype=torch.float16).fr_model.dtype))
attempt("model", lambda: by_model("ann/quality"))
attempt("revision", lambda: by_model("ann/quality", revision="other"))
attempt("no revision", lambda: by_model("ann/quality", revision="none"))
attempt("task", lambda: by_task("ann/quality"))
attempt("task, revision", lambda: by_task("ann/quality", revision="other"))
attempt("percentiles", lambda: percentiles("ann/quality"))
attempt("task, percentile", lambda: by_task("ann/quality", "percentile"))
attempt("private task", lambda: by_task("ann/secret"))
attempt("private percentiles", lambda: percentiles("ann/secret"))
attempt("processor", lambda: type(AutoImageProcessor.from_pretrained("ann/quality")).__name__)
attempt("private", lambda: by_fr_model("ann/fr"))
attempt("private pipeline", lambda: by_pipeline("ann/private"))
attempt("private, custom", lambda: by_pipeline("ann/private", custom_pipeline="ann/private", **custom))
"""
)


@pytest.fixture(scope="module")
def hub(made, local, tmp_path_factory):
    """
    A Hub with what Ann has pushed: `quality` with a calibration and `pipe`, each with a branch `other`, and three
    private repositories.
    """
    pushed = Path(shutil.copytree(made, tmp_path_factory.mktemp("pushed") / "made"))
    shutil.copytree(pushed / "pipe", pushed / "private")
    record_training(pushed / "quality", FACTS)
    method = method_of(AutoModelForFaceQuality.from_pretrained(pushed / "quality"))
    around = local["quality"][0] + np.linspace(-0.3, 0.7, 101)
    settings = method.calibration_settings()
    fit_calibration(around, settings=settings, data="faces of a gate").save_pretrained(pushed / "quality")
    shutil.copytree(pushed / "quality", pushed / "secret")
    code = """
from diffiqa_hf.hub import push_folder
folder += "/"
result = [push_folder(folder + "quality", "quality")[0], push_folder(folder + "pipe", "ann/pipe")[0]]
push_folder(folder + "other", "ann/quality", revision="other", commit_message="another head")
push_folder(folder + "other_pipe", "ann/pipe", revision="other")
for name in ("fr", "private", "secret"):
    push_folder(folder + name, "ann/" + name, private=True)
"""
    with LocalHub({"token-of-ann": "ann", "token-of-bob": "bob"}) as hub:
        hub.urls = hub.run(code, tmp_path_factory.mktemp("home"), "token-of-ann", folder=str(pushed))
        yield hub


@pytest.fixture(scope="module")
def local(made) -> dict:
    """The scores of the folders themselves."""
    values: dict = {}
    exec(SCORES, values)
    with torch.no_grad():
        return {
            "pipe": values["by_pipeline"](made / "pipe"),
            "other_pipe": values["by_pipeline"](made / "other_pipe"),
            "quality": values["by_model"](made / "quality"),
            "other": values["by_model"](made / "other"),
            "fr": values["by_fr_model"](made / "fr"),
        }


def test_what_a_push_leaves_on_the_hub(hub):
    quality, pipe = hub.repositories["models", "ann/quality"], hub.repositories["models", "ann/pipe"]
    assert quality.messages[1:] == [f"a face quality model, by diffiqa_hf {diffiqa_hf.__version__}", "another head"]
    assert not quality.private and hub.repositories["models", "ann/fr"].private
    files = quality.files[quality.refs["main"]]
    expected = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json", "training.json"}
    assert expected | {"calibration.json"} <= set(files)
    assert hub.urls[0].endswith(f"/ann/quality/commit/{quality.refs['main']}")
    card = ModelCard(files["README.md"].decode())
    assert card.data.model_name == "quality" and card.data.eval_results[0].metric_value == 0.5512
    assert 'model="ann/quality"' in card.text and "measured on 101 faces: faces of a gate." in card.text
    names = set(pipe.files[pipe.refs["main"]])
    assert {"pipeline.py", "fr_model/model.safetensors", "unet/diffusion_pytorch_model.safetensors"} <= names
    # For DiffusionPipeline.from_pretrained; it is not in the folder itself.
    assert "fr_model/diffiqa_hf.models.mobilefacenet.modeling_mobilefacenet.py" in names


def test_loading_with_and_without_a_token_and_offline(hub, local, tmp_path):
    values = {"pipelines": str(ROOT / "pipelines" / "diffiqa")}
    result = hub.run(LOAD, tmp_path / "ann", "token-of-ann", **values)
    close = {"rtol": 1e-5, "atol": 1e-6}
    same = {"pipeline": "pipe", "custom": "pipe", "custom file": "pipe", "custom folder": "pipe"}
    same |= {"pipeline again": "pipe", "private pipeline": "pipe", "private, custom": "pipe", "model": "quality"}
    same |= {"revision": "other", "task": "quality", "task, revision": "other", "private": "fr"}
    same |= {"pipeline, revision": "other_pipe", "custom, revision": "other_pipe", "private task": "quality"}
    for name, folder in same.items():
        assert isinstance(result[name], list), (name, result[name])
        np.testing.assert_allclose(result[name], local[folder], **close, err_msg=name)
    assert abs(local["quality"][0] - local["other"][0]) > 0.1 and abs(local["pipe"][0] - local["other_pipe"][0]) > 1e-3
    # The calibration of the repository, however it is loaded: 30 of its 101 faces score lower.
    for name in ("percentiles", "task, percentile", "private percentiles"):
        assert result[name] == pytest.approx([30] * len(result[name]), abs=0.01), name
    assert "trust_remote_code" in result["untrusted"]
    assert result["half"] == "torch.float16" and result["processor"] == "FaceImageProcessor"
    assert "none is not a valid git identifier" in result["no revision"]

    # Nobody is logged in: what is public loads, what is private says that a token is missing.
    result = hub.run(LOAD, tmp_path / "nobody", **values)
    np.testing.assert_allclose(result["pipeline"], local["pipe"], **close)
    np.testing.assert_allclose(result["model"], local["quality"], **close)
    assert "hf auth login" in result["private"] and "ann/fr" in result["private"]
    assert "RepositoryNotFoundError" in result["private pipeline"] and "authenticated" in result["private pipeline"]
    assert "hf auth login" in result["private task"] and "ann/secret" in result["private task"]
    assert result["percentiles"] == pytest.approx([30, 30], abs=0.01)
    assert result["private percentiles"].startswith("OSError: ann/secret is not a local folder")

    # The Hub can't be reached, but the cache has been filled.
    requests = len(hub.requests)
    result = hub.run(LOAD, tmp_path / "ann", offline=True, **values)
    # Of a custom pipeline in a repository diffusers asks the Hub for the commit (`get_cached_module_file`, seen
    # in 0.42): offline it has to be a folder, or the class itself.
    asks = ("custom", "custom, revision", "custom file", "private, custom")
    for name in asks:
        assert result[name].startswith("OfflineModeIsEnabled"), (name, result[name])
    for name in same.keys() - set(asks):
        assert isinstance(result[name], list), (name, result[name])
        np.testing.assert_allclose(result[name], local[same[name]], **close, err_msg=name)
    for name in ("percentiles", "task, percentile", "private percentiles"):
        assert result[name] == pytest.approx([30] * len(result[name]), abs=0.01), name
    assert len(hub.requests) == requests


def test_token_as_an_argument(hub, local, tmp_path):
    code = (
        SCORES
        + """
attempt("pipeline", lambda: by_pipeline("ann/private", token="token-of-ann"))
attempt("model", lambda: by_fr_model("ann/fr", token="token-of-ann"))
attempt("of another", lambda: by_fr_model("ann/fr", token="token-of-bob", cache_dir=cache))
"""
    )
    result = hub.run(code, tmp_path / "home", cache=str(tmp_path / "cache"))
    np.testing.assert_allclose(result["pipeline"], local["pipe"], rtol=1e-5)
    np.testing.assert_allclose(result["model"], local["fr"], rtol=1e-4, atol=1e-6)
    assert "ann/fr is not a local folder and is not a valid model identifier" in result["of another"]


def test_pushes_that_the_hub_refuses(hub, made, tmp_path):
    folder = shutil.copytree(made / "quality", tmp_path / "quality")
    code = """
import os
from diffiqa_hf.hub import HubError, push_folder
result = []
for repo, options in (("ann/quality", {}), ("ann/quality", {"private": True}), ("bob/a b", {}), ("bob/quality", {})):
    for token in ("token-of-bob", "token-of-ann", "expired"):
        try:
            push_folder(folder, repo, token=token, **options)
            result.append("pushed")
        except HubError as error:
            result.append(str(error))
"""
    before = dict(hub.repositories["models", "ann/quality"].refs)
    result = hub.run(code, tmp_path / "home", folder=str(folder))
    assert all("\n" not in line for line in result)
    assert "403" in result[0] and result[1] == "pushed"
    assert "does not take the token" in result[2]
    assert "is there already, and public" in result[4]
    assert "Repo id must" in result[6]
    assert result[9] == "pushed" and "403" in result[10]
    after = hub.repositories["models", "ann/quality"]
    assert after.messages[-1].startswith("a face quality model") and after.refs["other"] == before["other"]


def test_what_was_changed_in_the_card_on_the_hub_stays(hub, made, tmp_path):
    """Pushed, changed in the web editor, and pushed again from a folder that knows nothing of it; labels as well."""
    code = """
import shutil
from diffiqa_hf.hub import push_folder
result = [push_folder(folder, repo, token="token-of-ann")[0] for folder, repo in pushes]
"""
    names = {"quality": ("models", "ann/edited"), "labels": ("datasets", "ann/edited-labels")}
    folders = {"quality": shutil.copytree(made / "quality", tmp_path / "quality"), "labels": tmp_path / "labels"}
    (tmp_path / "labels" / "data").mkdir(parents=True)
    pq.write_table(pa.table({"quality": [0.5]}), tmp_path / "labels" / "data" / "train-000000.parquet")
    shard = {"file": "data/train-000000.parquet", "rows": 1, "failed": 0}
    manifest = {"complete": True, "rows": 1, "failed": 0, "shards": [shard], "settings": {"method": "diffiqa-r"}}
    (tmp_path / "labels" / "manifest.json").write_text(json.dumps(manifest))
    pushes = [[str(folders[name]), repo] for name, (_, repo) in names.items()]
    hub.run(code, tmp_path / "home", pushes=pushes)
    for key in names.values():
        files = dict(hub.repositories[key].files[hub.repositories[key].refs["main"]])
        text = files["README.md"].decode()
        edited = text.replace("---\n", "---\nlanguage: en\nextra_gated_prompt: Ask me.\n", 1) + "\n## Ours\n\nMasks.\n"
        hub.repositories[key].commit("main", {**files, "README.md": edited.encode(), "notes.md": b"x"}, "by hand")
    hub.run(code, tmp_path / "home", pushes=pushes)
    for name, key in names.items():
        files = hub.repositories[key].files[hub.repositories[key].refs["main"]]
        text = files["README.md"].decode()
        assert "extra_gated_prompt: Ask me." in text and "language: en" in text and "## Ours\n\nMasks." in text
        assert files["notes.md"] == b"x" and "Masks" not in (folders[name] / "README.md").read_text()


def test_a_variant_counts_once(quality):
    record_training(quality, FACTS)
    before = (quality / "README.md").read_text()
    shutil.copy(quality / "model.safetensors", quality / "model.fp16.safetensors")
    record_training(quality, FACTS)
    assert " parameters" in before and (quality / "README.md").read_text() == before


def test_without_a_token_nothing_is_tried(made, tmp_path):
    folder = shutil.copytree(made / "quality", tmp_path / "quality")
    code = """
from diffiqa_hf.hub import HubError, push_folder
try:
    push_folder(folder, "ann/quality")
except HubError as error:
    result = str(error)
"""
    with LocalHub({}) as hub:
        assert hub.run(code, tmp_path, folder=str(folder)) == "no token for the Hub: `hf auth login`, or set HF_TOKEN"
        assert hub.run(code, tmp_path, offline=True, folder=str(folder)) == (
            "the Hub is switched off here (HF_HUB_OFFLINE)"
        )
        assert not hub.requests and not (folder / "README.md").exists()


def test_dry_run_writes_nothing(made):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    url, written, uploaded = push_folder(made / "pipe", "ann/pipe", dry_run=True)
    assert url is None and set(written) == {"README.md", "pipeline.py"}
    assert {"README.md", "model_index.json", "unet/config.json"} <= set(uploaded)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_saved_pipeline_of_transformers_needs_no_trust(made, tmp_path):
    from transformers import pipeline

    FaceImageProcessor().save_pretrained(shutil.copytree(made / "quality", tmp_path / "quality"))
    assess = pipeline("face-image-quality-assessment", model=str(tmp_path / "quality"))
    faces = [np.full((112, 112, 3), value, np.uint8) for value in (10, 200, 90)]
    scores = [entry["score"] for entry in assess(faces, batch_size=2)]
    assert [assess(face)["score"] for face in faces] == pytest.approx(scores, abs=1e-6)
    assess.save_pretrained(tmp_path / "saved")
    assert "custom_pipelines" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    assert not list((tmp_path / "saved").glob("*.py"))
    again = pipeline("face-image-quality-assessment", model=str(tmp_path / "saved"))
    assert again(faces[0])["score"] == pytest.approx(scores[0], abs=1e-6)
    with pytest.raises(TypeError, match="unknown arguments: top_k"):
        assess(faces[0], top_k=1)


# -- training scripts -------------------------------------------------------------------------------------------------


def test_a_run_that_is_asked_to_push_checks_its_token_first():
    args = argparse.Namespace(push_to_hub=True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        check_hub_arguments(args)
    check_hub_arguments(argparse.Namespace(push_to_hub=False))


@pytest.mark.slow
def test_training_scripts_push_labels_and_what_was_distilled_from_them(made, tmp_path):
    code = """
import sys
from pathlib import Path
sys.path.insert(0, tests)
from fixtures.scripts import load_script, run_anew
faces = str(Path(tests).parent / "examples" / "faces")
labels = ["--train_data_dir", faces, "--output_dir", out + "/labels", "--method_options", '{"num_repeats": 1}']
run_anew(load_script("label_quality").main, [*labels, "--push_to_hub", "--device", "cpu"])
run = ["--train_parquet", out + "/labels/data/train-000000.parquet", "--output_dir", out + "/student"]
run += ["--model_name_or_path", fr, "--max_train_steps", "2", "--train_batch_size", "4", "--validation_split", "label"]
run += ["--holdout_modulo", "3", "--validation_steps", "1", "--report_to", "none", "--training_data", "the examples"]
run_anew(load_script("train_diffiqa_r").main, [*run, "--push_to_hub", "--hub_model_id", "ann/tiny", "--hub_private"])
run = ["--train_data_dir", faces, "--output_dir", out + "/ddpm", "--fr_model", fr, "--max_train_steps", "1"]
run += ["--block_out_channels", "8", "8", "--train_batch_size", "2", "--gradient_accumulation_steps", "1"]
run_anew(load_script("train_ddpm").main, [*run, "--validation_steps", "0", "--report_to", "none", "--push_to_hub"])
result = None
"""
    values = {"tests": str(ROOT / "tests"), "out": str(tmp_path), "fr": str(made / "fr")}
    with LocalHub({"token-of-ann": "ann"}) as hub:
        hub.run(code, tmp_path / "home", "token-of-ann", **values)
        labels = hub.repositories["datasets", "ann/labels"]
        tiny, ddpm = hub.repositories["models", "ann/tiny"], hub.repositories["models", "ann/ddpm"]
    assert labels.private and tiny.private and not ddpm.private
    files = labels.files[labels.refs["main"]]
    assert "data/train-000000.parquet" in files and "manifest.json" in files
    assert DatasetCard(files["README.md"].decode()).data.configs[0]["data_files"] == "data/*.parquet"
    files = tiny.files[tiny.refs["main"]]
    card = ModelCard(files["README.md"].decode())
    assert "| the examples | " in card.text and "order of the labels" in card.text
    results = {result.metric_type: result for result in card.data.eval_results}
    low, high = results["mae"].metric_args["interval"]
    assert low <= results["mae"].metric_value <= high
    figures = json.loads(files["validation.json"])
    assert results["mae"].metric_value == pytest.approx(figures["mean_absolute_error"], rel=1e-4)
    assert "pipeline.py" in ddpm.files[ddpm.refs["main"]] and b"/" + b"work" not in files["training.json"]
