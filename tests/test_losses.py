# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The losses against their papers' formulas, written once more: in NumPy, float64, face by face and class by class, with
angles instead of trigonometric identities, and with the published constants as numbers.
"""

import math

import numpy as np
import pytest
import torch
from fixtures.close import assert_close
from torch.func import functional_call

from diffiqa_hf.losses import (
    AdaFaceLoss,
    ArcFaceLoss,
    CosFaceLoss,
    CRFIQALoss,
    CurricularFaceLoss,
    MagFaceLoss,
    MarginLoss,
    sample_classes,
)
from diffiqa_hf.losses.margin import add_angle_monotonic


LOSSES = {
    "arcface": ArcFaceLoss,
    "cosface": CosFaceLoss,
    "adaface": AdaFaceLoss,
    "curricularface": CurricularFaceLoss,
    "magface": MagFaceLoss,
}
CLASSES, SIZE, BATCH = 7, 5, 6


def batch(seed: int, norm: float = 20.0, near: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, centres and labels in float64; with `near`, the embeddings lean to their own centres."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((CLASSES, SIZE))
    labels = rng.integers(CLASSES, size=BATCH)
    unit = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    embeddings = rng.standard_normal((BATCH, SIZE)) + near * unit[labels]
    embeddings *= norm * rng.uniform(0.7, 1.4, (BATCH, 1)) / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings, centres, labels


def angles(embeddings: np.ndarray, centres: np.ndarray) -> np.ndarray:
    theta = np.empty((len(embeddings), len(centres)))
    for i, x in enumerate(embeddings):
        for j, w in enumerate(centres):
            theta[i, j] = math.acos(float(x @ w) / (np.linalg.norm(x) * np.linalg.norm(w)))
    return theta


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for row, label in zip(64 * logits, labels, strict=True):
        total += row.max() + math.log(np.exp(row - row.max()).sum()) - row[label]
    return total / len(labels)


def arcface(theta: float, margin: float) -> float:
    return math.cos(theta + margin) if theta + margin < math.pi else math.cos(theta) - margin * math.sin(margin)


def expected_loss(name: str, embeddings: np.ndarray, centres: np.ndarray, labels: np.ndarray, state: dict) -> float:
    """The loss of one step of training; `state` holds the running statistics and is brought up to date."""
    theta, norms = angles(embeddings, centres), np.linalg.norm(embeddings, axis=1)
    logits, extra = np.cos(theta), 0.0
    if name == "adaface":
        clipped = np.clip(norms, 0.001, 100)
        state["mean"] = 0.01 * clipped.mean() + 0.99 * state.get("mean", 20.0)
        state["std"] = 0.01 * clipped.std(ddof=1) + 0.99 * state.get("std", 100.0)
    if name == "curricularface":
        own = np.mean([math.cos(theta[i, y]) for i, y in enumerate(labels)])
        state["t"] = 0.01 * own + 0.99 * state.get("t", 0.0)
    for i, y in enumerate(labels):
        if name == "arcface":
            logits[i, y] = arcface(theta[i, y], 0.5)
        elif name == "cosface":
            logits[i, y] = math.cos(theta[i, y]) - 0.35
        elif name == "adaface":
            z = min(1, max(-1, 0.333 * (clipped[i] - state["mean"]) / (state["std"] + 1e-3)))
            angle = min(math.pi - 1e-3, max(1e-3, theta[i, y] - 0.4 * z))
            logits[i, y] = math.cos(angle) - (0.4 + 0.4 * z)
        elif name == "curricularface":
            for j in range(len(centres)):
                if j != y and math.cos(theta[i, y] + 0.5) < math.cos(theta[i, j]):
                    logits[i, j] = math.cos(theta[i, j]) * (state["t"] + math.cos(theta[i, j]))
            logits[i, y] = arcface(theta[i, y], 0.5)
        elif name == "magface":
            a = min(110, max(10, norms[i]))
            if theta[i, y] < math.pi / 2:
                logits[i, y] = math.cos(theta[i, y] + 0.45 + (0.8 - 0.45) / (110 - 10) * (a - 10))
            extra += 35 * (1 / a + a / 110**2) / len(labels)
    return cross_entropy(logits, labels) + extra


def make(name: str, centres: np.ndarray, dtype=torch.float64, **kwargs) -> MarginLoss:
    loss = LOSSES[name](len(centres), centres.shape[1], **kwargs).to(dtype)
    with torch.no_grad():
        loss.weight.copy_(torch.from_numpy(centres))
    return loss


# -- the formulas -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("near", [0.0, 3.0])
@pytest.mark.parametrize("norm", [20.0, 4.0, 150.0])  # 4 and 150: beyond what AdaFace and MagFace let through
def test_the_paper_s_formula(name, near, norm):
    for seed in range(4):
        embeddings, centres, labels = batch(seed, norm, near)
        expected = expected_loss(name, embeddings, centres, labels, {})
        for dtype, tolerance in ((torch.float64, 1e-7), (torch.float32, 1e-5)):
            loss = make(name, centres, dtype)(torch.from_numpy(embeddings).to(dtype), torch.from_numpy(labels))
            assert loss.dtype == dtype and loss.shape == ()
            assert loss.item() == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("name", LOSSES)
def test_an_embedding_opposite_to_its_centre(name):
    # 3.0 and 2.8 are beyond pi - 0.5 = 2.64; 2.0 is not, but beyond pi / 2.
    theta = np.array([3.0, 2.8, 2.0])
    embeddings = 20 * np.stack([np.cos(theta), np.sin(theta)], 1)
    # The third centre is at 2.9 from the first face, less similar than cos(3.0 + 0.5) but more than its replacement.
    centres, labels = np.array([[1.0, 0.0], [0.3, 1.0], [np.cos(0.1), np.sin(0.1)]]), np.zeros(3, int)
    loss = make(name, centres)(torch.from_numpy(embeddings), torch.from_numpy(labels))
    assert loss.item() == pytest.approx(expected_loss(name, embeddings, centres, labels, {}), rel=1e-7)


def test_margins_beyond_pi_and_easy_margins_by_hand():
    cosine = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64).cos()
    hard = add_angle_monotonic(cosine, 0.5)
    assert hard.tolist() == pytest.approx([math.cos(3) - 0.5 * math.sin(0.5), math.cos(2.5), math.cos(1.5)])
    easy = add_angle_monotonic(cosine, 0.5, easy_margin=True)
    assert easy.tolist() == pytest.approx([math.cos(3), math.cos(2), math.cos(1.5)])
    # What the replacement is for: the farther from the centre, the smaller.
    falling = add_angle_monotonic(torch.linspace(0, math.pi, 500, dtype=torch.float64).cos(), 0.5)
    assert (falling.diff() < 0).all()
    labels, embeddings = torch.tensor([0, 0, 0]), torch.stack([cosine, (1 - cosine**2).sqrt()], 1)
    centres = np.eye(2)
    losses = [make("arcface", centres, easy_margin=easy)(embeddings, labels).item() for easy in (False, True)]
    logits = 64 * torch.stack([torch.stack([hard, easy]), embeddings[:, 1].expand(2, 3)], 2)
    assert losses == pytest.approx([(row.logsumexp(1) - row[:, 0]).mean().item() for row in logits])


def test_magface_with_a_hard_margin():
    embeddings, centres, labels = batch(0, 60.0)
    loss = make("magface", centres, easy_margin=False, lambda_g=0.0)
    theta, norms = angles(embeddings, centres), np.linalg.norm(embeddings, axis=1)
    logits = np.cos(theta)
    for i, y in enumerate(labels):
        logits[i, y] = arcface(theta[i, y], 0.45 + 0.0035 * (norms[i] - 10))
    actual = loss(torch.from_numpy(embeddings), torch.from_numpy(labels)).item()
    assert actual == pytest.approx(cross_entropy(logits, labels), rel=1e-7)


def test_magface_s_regularizer_falls_up_to_the_greatest_norm():
    loss = MagFaceLoss(3, 2)
    values = [loss.regularizer(torch.tensor([a])).item() for a in (5.0, 10.0, 50.0, 109.0, 110.0, 200.0)]
    assert values[0] == values[1] > values[2] > values[3] > values[4] == values[5]
    assert values[4] == pytest.approx(2 / 110)
    # Clamped norms have no gradient, the others are lengthened.
    norms = torch.tensor([5.0, 50.0, 200.0], requires_grad=True)
    loss.regularizer(norms).backward()
    assert norms.grad[0] == norms.grad[2] == 0 > norms.grad[1]


# -- running statistics -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adaface", "curricularface"])
def test_statistics_over_several_steps(name):
    centres, state = batch(0)[1], {}
    loss = make(name, centres)
    for step in range(6):
        embeddings, _, labels = batch(step, norm=10.0 + 5 * step, near=1.0)
        inputs = torch.from_numpy(embeddings), torch.from_numpy(labels)
        if step == 3:
            # A checkpoint in the middle, and a look at held-out faces, which moves nothing.
            saved = {key: value.clone() for key, value in loss.state_dict().items()}
            loss.eval()(*inputs)
            assert all(torch.equal(saved[key], value) for key, value in loss.state_dict().items())
            loss = LOSSES[name](CLASSES, SIZE).double()
            loss.load_state_dict(saved)
        assert loss(*inputs).item() == pytest.approx(expected_loss(name, embeddings, centres, labels, state), rel=1e-6)
    buffers = {"adaface": {"batch_mean": "mean", "batch_std": "std"}, "curricularface": {"t": "t"}}[name]
    assert {key: value.item() for key, value in loss.named_buffers()} == pytest.approx(
        {key: state[other] for key, other in buffers.items()}
    )


def test_one_face_has_no_spread():
    embeddings, centres, labels = batch(0)
    loss = make("adaface", centres)
    value = loss(torch.from_numpy(embeddings[:1]), torch.from_numpy(labels[:1]))
    assert value.isfinite() and loss.batch_mean == 20 and loss.batch_std == 100


def test_adaface_s_margin_by_quality():
    """Of faces at the same angle, the longer embedding has the smaller angular and the greater additive margin."""
    loss = AdaFaceLoss(2, 2, h=1e9).double().eval()  # so that z is -1, 0 and 1
    norms = torch.tensor([15.0, 20.0, 25.0], dtype=torch.float64)
    cosine = torch.full((3, 2), 0.5, dtype=torch.float64)
    out = loss.margin_cosines(cosine, torch.tensor([0, 0, 0]), norms)
    third = math.pi / 3
    assert out[:, 0].tolist() == pytest.approx([math.cos(third + 0.4), 0.5 - 0.4, math.cos(third - 0.4) - 0.8])
    assert out[:, 1].tolist() == pytest.approx([0.5] * 3)


def statistics_of_a_part(process: int, processes: int, address: str, results) -> None:
    """Four steps of AdaFace and CurricularFace on a part of each batch, beside other processes with the others."""
    torch.set_num_threads(1)  # a forked process has no pool of threads
    torch.distributed.init_process_group("gloo", init_method=address, rank=process, world_size=processes)
    for name in ("adaface", "curricularface"):
        loss = make(name, batch(0)[1])
        for step in range(4):
            embeddings, _, labels = batch(step, norm=10.0 + 5 * step, near=1.0)
            part = slice(0, 2) if process == 0 else slice(2, None)  # not as many on each
            loss(torch.from_numpy(embeddings[part]), torch.from_numpy(labels[part]))
        results.put((process, name, {key: value.item() for key, value in loss.named_buffers()}))
    torch.distributed.destroy_process_group()


def test_statistics_are_those_of_all_processes(tmp_path):
    context = torch.multiprocessing.get_context("fork")
    results = context.Queue()
    address = f"file://{tmp_path / 'meeting'}"
    processes = [context.Process(target=statistics_of_a_part, args=(i, 2, address, results)) for i in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in range(4)]
    for process in processes:
        process.join()
    for name in ("adaface", "curricularface"):
        loss = make(name, batch(0)[1])
        for step in range(4):
            embeddings, _, labels = batch(step, norm=10.0 + 5 * step, near=1.0)
            loss(torch.from_numpy(embeddings), torch.from_numpy(labels))
        alone = {key: value.item() for key, value in loss.named_buffers()}
        theirs = [buffers for _, other, buffers in found if other == name]
        assert len(theirs) == 2 and theirs[0] == theirs[1] == pytest.approx(alone, rel=1e-5)


# -- lengths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adaface", "magface"])
def test_unit_embeddings_are_refused_where_lengths_count(name):
    embeddings, centres, labels = (torch.from_numpy(array) for array in batch(0))
    loss = make(name, centres.numpy())
    with pytest.raises(ValueError, match="learns from the lengths of the embeddings, and these are all 1"):
        loss(torch.nn.functional.normalize(embeddings), labels)
    assert loss(embeddings, labels).isfinite()
    make("arcface", centres.numpy())(torch.nn.functional.normalize(embeddings), labels)


@pytest.mark.parametrize("name", LOSSES)
def test_centres_start_as_their_authors_do(name):
    torch.manual_seed(0)
    loss = LOSSES[name](500, 64)
    norms = loss.weight.norm(dim=1)
    if name in ("adaface", "magface"):
        torch.testing.assert_close(norms, torch.ones(500))
        # In all directions: the mean of the squares is the same for each coordinate.
        torch.testing.assert_close(loss.weight.square().mean(0), torch.full((64,), 1 / 64), rtol=0.3, atol=0)
    else:
        assert loss.weight.std().item() == pytest.approx(0.01, rel=0.02)


# -- CR-FIQA ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "margins"), [("paper", (0.5, 0.0)), ("official", (0.5, 0.0)), ("paper", (0.0, 0.4))]
)
def test_crfiqa_s_formula(ratio, margins):
    embeddings, centres, labels = batch(1, near=2.0)
    scores = np.array([0.1, 0.9, 0.4, 2.0, -3.0, 1.0])
    theta = angles(embeddings, centres)
    targets, quality, logits = [], 0.0, np.cos(theta)
    for i, y in enumerate(labels):
        ccs, nnccs = math.cos(theta[i, y]), max(math.cos(theta[i, j]) for j in range(CLASSES) if j != y)
        targets.append(ccs / (nnccs + 1 + 1e-9) if ratio == "paper" else ccs / max(nnccs, -1e-12))
        gap = abs(scores[i] - targets[-1])
        quality += (gap**2 / (2 * 0.5) if gap < 0.5 else gap - 0.5 * 0.5) / BATCH
        logits[i, y] = math.cos(theta[i, y] + margins[0]) - margins[1]
    margin, cosine_margin = margins
    loss = CRFIQALoss(CLASSES, SIZE, margin=margin, cosine_margin=cosine_margin, certainty_ratio=ratio).double()
    loss.weight.data.copy_(torch.from_numpy(centres))
    out = loss(torch.from_numpy(embeddings), torch.from_numpy(labels), torch.from_numpy(scores))
    assert out.targets.tolist() == pytest.approx(targets, rel=1e-7)
    assert out.quality_loss.item() == pytest.approx(quality, rel=1e-7)
    assert out.recognition_loss.item() == pytest.approx(cross_entropy(logits, labels), rel=1e-7)
    assert out.loss.item() == pytest.approx(cross_entropy(logits, labels) + 10 * quality, rel=1e-7)


def test_crfiqa_s_official_ratio_is_kept_from_falling_below_zero():
    cosine = torch.tensor([[0.5, -0.2, -0.3]], dtype=torch.float64)
    own = torch.tensor([0])
    assert CRFIQALoss(3, 2).targets(cosine, own).item() == pytest.approx(0.5 / 0.8)
    assert CRFIQALoss(3, 2, certainty_ratio="official").targets(cosine, own).item() == pytest.approx(-0.5e12)
    # All others exactly opposite, in float32: a large number, not infinity.
    assert CRFIQALoss(2, 2).targets(torch.tensor([[1.0, -1.0]]), own).item() == pytest.approx(1e9, rel=1e-4)


def test_crfiqa_s_targets_have_no_gradient():
    embeddings, centres, labels = (torch.from_numpy(x) for x in batch(2))
    loss = CRFIQALoss(CLASSES, SIZE).double()
    embeddings.requires_grad_()
    scores = torch.zeros(BATCH, dtype=torch.float64, requires_grad=True)
    out = loss(embeddings, labels, scores)
    assert not out.targets.requires_grad
    grads = torch.autograd.grad(out.quality_loss, (embeddings, loss.weight, scores), allow_unused=True)
    assert grads[0] is None and grads[1] is None and grads[2].abs().sum() > 0


# -- gradients and numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_gradcheck(name):
    embeddings, centres, labels = (torch.from_numpy(x) for x in batch(3, near=1.5))
    # No margin from the norms in AdaFace: by design no gradient flows through them, and the check would miss it.
    kwargs = {"adaface": {"h": 0.0}, "curricularface": {}}.get(name, {})
    loss = make(name, centres.numpy(), scale=4.0, **kwargs).eval()

    def call(embeddings, weight):
        return functional_call(loss, {"weight": weight}, (embeddings, labels))

    assert torch.autograd.gradcheck(call, (embeddings.requires_grad_(), centres.requires_grad_()))


def test_gradcheck_of_crfiqa():
    embeddings, centres, labels = (torch.from_numpy(x) for x in batch(3, near=1.5))
    loss = CRFIQALoss(CLASSES, SIZE, scale=4.0).double()
    scores = torch.linspace(-1, 2, BATCH, dtype=torch.float64)

    def recognition(embeddings, weight):
        return functional_call(loss, {"weight": weight}, (embeddings, labels, scores)).recognition_loss

    def quality(scores):
        return loss(embeddings, labels, scores).quality_loss

    assert torch.autograd.gradcheck(recognition, (embeddings.requires_grad_(), centres.requires_grad_()))
    assert torch.autograd.gradcheck(quality, (scores.requires_grad_(),))


def test_adaface_s_norms_have_no_gradient():
    embeddings, centres, labels = (torch.from_numpy(x) for x in batch(3, near=1.5))
    loss = make("adaface", centres.numpy())
    loss(embeddings.requires_grad_(), labels).backward()
    # The gradient is at right angles to the embedding: its length does not matter.
    along = (embeddings.grad * embeddings).sum(1)
    assert along.abs().max() < 1e-12 < embeddings.grad.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_finite_at_the_ends_of_the_cosine(name, dtype):
    # Exactly on the own centre, exactly opposite to it, and a hair off either; the second centre is opposite.
    centres = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0]])
    rows = [[20.0, 0, 0], [-20.0, 0, 0], [20.0, 1e-6, 0], [-20.0, 0, 1e-6]]
    embeddings = torch.tensor(rows, dtype=dtype, requires_grad=True)
    loss = make(name, centres, dtype)
    value = loss(embeddings, torch.tensor([0, 0, 0, 0]))
    value.backward()
    assert value.isfinite()
    assert embeddings.grad.isfinite().all() and loss.weight.grad.isfinite().all()
    assert embeddings.grad.abs().max() < 1e3


def test_exact_at_the_end_of_the_cosine():
    loss = make("arcface", np.eye(2), torch.float32)
    own = loss.margin_cosines(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), torch.ones(1))[0, 0]
    assert own.item() == pytest.approx(math.cos(0.5), rel=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_computed_in_single(name, dtype):
    embeddings, centres, labels = (torch.from_numpy(x) for x in batch(4))
    embeddings = embeddings.to(dtype)
    single = make(name, centres.numpy(), torch.float32)(embeddings.float(), labels)
    half = embeddings.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = make(name, centres.numpy(), torch.float32)(half, labels)
    assert value.dtype == torch.float32
    assert_close(value, single)
    value.backward()
    assert half.grad.dtype == dtype and half.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_classes_become_told_apart(name):
    torch.manual_seed(0)
    labels = torch.arange(4).repeat(3)
    embeddings = (20 * torch.nn.functional.normalize(torch.randn(12, 8))).requires_grad_()
    loss = LOSSES[name](4, 8)
    optimizer = torch.optim.SGD([embeddings, loss.weight], lr=0.05, momentum=0.9)
    first = loss(embeddings, labels).item()
    for _ in range(300):
        optimizer.zero_grad()
        loss(embeddings, labels).backward()
        optimizer.step()
    last = loss.eval()(embeddings, labels).item()
    assert last < 0.3 * first
    cosine, _, _ = loss.cosines(embeddings, labels)
    assert torch.equal(cosine.argmax(1), labels)


# -- sampled classes --------------------------------------------------------------------------------------------------


def test_sampled_classes():
    labels = torch.tensor([17, 3, 3, 99])
    generator = torch.Generator().manual_seed(5)
    first, second = (sample_classes(labels, 100, 0.29, generator) for _ in range(2))
    for classes in (first, second):
        assert len(classes) == 29 and torch.equal(classes, classes.unique()) and {3, 17, 99} <= {*classes.tolist()}
        assert classes.max() < 100
    assert not torch.equal(first, second)
    assert torch.equal(first, sample_classes(labels, 100, 0.29, torch.Generator().manual_seed(5)))
    # More people in the batch than the fraction: they alone.
    assert sample_classes(labels, 100, 0.01).tolist() == [3, 17, 99]
    # Over many draws every other class has the same chance.
    counts = torch.zeros(100)
    for _ in range(2000):
        counts[sample_classes(labels, 100, 0.29, generator)] += 1
    others = counts[[i for i in range(100) if i not in (3, 17, 99)]] / 2000
    assert (others - 26 / 97).abs().max() < 0.05


@pytest.mark.parametrize("name", LOSSES)
def test_a_sampled_loss_is_the_loss_over_the_chosen_classes(name):
    rng = np.random.default_rng(6)
    centres, embeddings = rng.standard_normal((40, SIZE)), 20 * rng.standard_normal((BATCH, SIZE))
    labels = np.array([30, 2, 2, 39, 11, 0])
    loss = make(name, centres, sample_rate=0.3)
    inputs = torch.from_numpy(embeddings), torch.from_numpy(labels)
    actual = loss(*inputs, generator=torch.Generator().manual_seed(1))
    chosen = sample_classes(inputs[1], 40, 0.3, torch.Generator().manual_seed(1)).numpy()
    expected = expected_loss(name, embeddings, centres[chosen], np.searchsorted(chosen, labels), {})
    assert actual.item() == pytest.approx(expected, rel=1e-7)
    actual.backward()
    touched = loss.weight.grad.abs().sum(1) > 0
    assert set(touched.nonzero()[:, 0].tolist()) <= set(chosen.tolist())
    # Judging takes all classes.
    whole = make(name, centres).eval()
    whole.load_state_dict(loss.state_dict())
    assert_close(loss.eval()(*inputs), whole(*inputs))


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (torch.zeros(2, 4), torch.tensor([0, 1]), r"shape \(N, 5\)"),
        (torch.ones(2, 5), torch.tensor([0]), "2 whole numbers"),
        (torch.ones(2, 5), torch.tensor([0.0, 1.0]), "2 whole numbers"),
        (torch.ones(2, 5), torch.tensor([0, 7]), "from 0 to 6, got 0 to 7"),
        (torch.ones(2, 5), torch.tensor([-1, 0]), "from 0 to 6, got -1 to 0"),
        (torch.ones(0, 5), torch.tensor([], dtype=torch.int64), "empty"),
    ],
)
def test_bad_batches_are_refused(embeddings, labels, message):
    with pytest.raises(ValueError, match=message):
        ArcFaceLoss(CLASSES, SIZE, sample_rate=0.5)(embeddings, labels)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="sample_rate"):
        CosFaceLoss(3, 2, sample_rate=0.0)
    with pytest.raises(ValueError, match="2 classes"):
        CosFaceLoss(1, 2)
    with pytest.raises(ValueError, match="l_a < u_a"):
        MagFaceLoss(3, 2, l_a=110, u_a=10)
    with pytest.raises(ValueError, match="'paper' or 'official'"):
        CRFIQALoss(3, 2, certainty_ratio="mine")
    with pytest.raises(ValueError, match="scores"):
        CRFIQALoss(3, 2)(torch.ones(2, 2), torch.tensor([0, 1]), torch.zeros(2, 1))
