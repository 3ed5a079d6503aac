# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""A card for each method: what a person has to know before using it or comparing with it. Read without torch."""

import importlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class MethodCard:
    """
    What there is to know of a method.

    Args:
        name (`str`): What [`load_method`] and the command line call it.
        title (`str`): What its authors call it.
        paper (`str`): Where it was published.
        kind (`str`): As DifFIQA's paper files the methods: `"analytical"` (changes or probes the face; nothing learned
            the score), `"regression"` (a network that was trained to give the score), `"model-based"` (an FR model
            that was trained to give the score along with its embeddings), or `"baseline"`.
        formula (`str`): The score, as it is computed here.
        takes, needs (`tuple[str, ...]`): Which of `weights` and `fr_model` [`load_method`] accepts, and which of them
            have to be given.
        needs_one_of (`tuple[str, ...]`): Options of which one has to be given.
        input (`str`): What the network works on. Canonical faces become that inside of it.
        raw_range (`str`): Of the method's own number.
        lower_is_better (`bool`): Whether the method's own number runs the other way; the score is then its negative.
        determinism (`str`): What the score depends on besides the pixels.
        code_license, weights_license (`str`): As the authors state them.
        weights_source (`str`): Where users get weights.
        checked_against (`str`): How we know that it is right.
        training (`tuple[str, ...]`): First the script, and its recipe, that makes such weights; then what of it is not
            the authors', because they leave it open or for another reason. Empty where there is nothing to train.
        notes (`tuple[str, ...]`): Known traps, choices and differences from the authors' code.
        options (`tuple[str, ...]`): What [`load_method`] takes by name besides.
        method (`str`): `"module:class"` in this package.
        dialect (`str`, *optional*): How `diffiqa_hf.conversion` calls the published files.
        networks (`tuple[str, ...]`): Classes that weights of the method can be of; any FR model where empty.
        head (`str`, *optional*): The quality head of those that come with several: `"linear"` or `"mlp"`.
    """

    name: str
    title: str
    paper: str
    kind: str
    formula: str
    takes: tuple[str, ...]
    input: str
    raw_range: str
    determinism: str
    code_license: str
    weights_license: str
    weights_source: str
    checked_against: str
    method: str
    needs: tuple[str, ...] = ()
    needs_one_of: tuple[str, ...] = ()
    lower_is_better: bool = False
    training: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    dialect: str | None = None
    networks: tuple[str, ...] = ()
    head: str | None = None

    @property
    def needed(self) -> tuple[str, ...]:
        """What has to be given."""
        return (*self.needs, *([" or ".join(self.needs_one_of)] if self.needs_one_of else []))

    @property
    def optional(self) -> tuple[str, ...]:
        """What can be given besides, options apart."""
        return tuple(name for name in self.takes if name not in self.needs)

    @property
    def direction(self) -> str:
        """The method's own direction, and what was done about it."""
        if self.lower_is_better:
            return "its own number is lower for better images; the score is the negative of it, so higher is better"
        return "higher is better, as in the original"

    @property
    def speed(self) -> str | None:
        """As `benchmarks/methods.py` measured it; `None` until it has."""
        return _speeds().get(self.name)

    def load_class(self) -> type:
        """Imports the class of the method, and torch with it."""
        module, _, name = self.method.partition(":")
        return getattr(importlib.import_module(f".{module}", __package__), name)

    def rows(self) -> list[tuple[str, str]]:
        """The card as pairs of a heading and a text, for whoever renders it."""
        needed = [*self.needed, *(f"{name} (optional)" for name in self.optional)]
        rows = [
            ("method", f"{self.name}: {self.title}"),
            ("paper", self.paper),
            ("kind", self.kind),
            ("score", self.formula),
            ("direction", self.direction),
            ("raw range", self.raw_range),
            ("needs", ", ".join(needed)),
            ("options", ", ".join(self.options) or "none"),
            ("input", self.input),
            ("determinism", self.determinism),
            ("licence of the code", self.code_license),
            ("licence of weights", self.weights_license),
            ("weights", self.weights_source),
            ("checked against", self.checked_against),
            ("speed", self.speed or "not measured yet"),
        ]
        if self.training:
            rows.append(("training", "; ".join(self.training)))
        return rows + [("note", note) for note in self.notes]


@cache
def _speeds() -> dict[str, str]:
    return json.loads(Path(__file__).with_name("speeds.json").read_text(encoding="utf-8"))


_CANONICAL = "112x112 on the ArcFace template, RGB, [-1, 1]"
_OF_THE_FR_MODEL = "what the FR model takes: canonical faces (112x112 on the ArcFace template) by its configuration"
_FR_LICENSE = "those of the FR model"
_FR_SOURCE = "any FR model: the small one in this package, a folder made by `diffiqa convert`, or a published file"
_DETERMINISTIC = "none: the same pixels give the same score"
_SEEDED = "seed: the random numbers of a face are made of the seed and its pixels alone, whatever batch it is in"
_PROBING = {
    "takes": ("fr_model",),
    "input": _OF_THE_FR_MODEL,
    "weights_license": _FR_LICENSE,
    "weights_source": _FR_SOURCE,
}
_REGRESSION = {
    "kind": "regression",
    "takes": ("weights",),
    "needs": ("weights",),
    "determinism": _DETERMINISTIC,
    "method": "regression:QualityModelMethod",
}
_IRESNET_HEAD = ("IResNetForFaceQuality", "MobileFaceNetForFaceQuality")
_ON_LFW = "of LFW with a MobileFaceNet trained on CASIA-WebFace (benchmarks/bug_effects.py)"
_OUR_CLIPPING = "the norm of the gradient is clipped at 5, theirs is not clipped"
_TRAP_COLOUR = "faces go in as RGB; a file written as BGR by other tools gives other scores without any error"

CARDS: tuple[MethodCard, ...] = (
    MethodCard(
        name="diffiqa",
        title="DifFIQA",
        paper="Babnik, Peer and Štruc, DifFIQA: Face Image Quality Assessment Using Denoising Diffusion Probabilistic "
        "Models, IJCB 2023",
        kind="analytical",
        formula="mean over n draws of five cosine similarities to the embedding of the face: noisy, restored, "
        "mirrored, mirrored and noisy, mirrored and restored (Eq. 7)",
        takes=("weights", "fr_model"),
        input=_CANONICAL,
        raw_range="[-1, 1]",
        determinism=_SEEDED,
        code_license="MIT",
        weights_license="of the authors' UNet none is stated; the weights in this package are for research (its "
        "model card)",
        weights_source="the small pipeline in this package, one of your own training (`training/train_ddpm.py`), or "
        "the authors' model.pt of https://github.com/LSIbabnikz/DifFIQA, converted",
        checked_against="the authors' UNet and sampler on synthetic weights (tests/test_pipeline_parity.py)",
        notes=(
            "where the paper and the authors' code differ, the pipeline's configuration says which is followed "
            "(`preset='paper'` or `'official'`)",
            "`batch_size` counts noisy copies here, not faces",
            "the authors' code adds the noise of index t and restores as from t - 1 (the preset `'official'`): with "
            "the pipeline in this package, on 12 example faces, the scores move by .0008 on average, at most .0018, "
            "where another seed moves them by .004, and the order is the same; with t = 5 and n = 1, on 6 faces, by "
            ".0003 on average, in the same order (benchmarks/bug_effects.py)",
            "it runs the UNet at time 0 twice, which changes nothing but rounding (8e-6 of the score, "
            "benchmarks/results/diffiqa_end_to_end.md) and costs a sixth of the UNet's time",
            "it scores with the raw weights of the UNet, the paper with the averaged ones (EMA); both are in the "
            "authors' file, which was not at hand, so the effect is not measured",
        ),
        training=(
            "`training/train_ddpm.py`",
            "the options are those of the authors' code; the UNet2DModel and its width are ours (theirs has 143 M "
            "parameters: `--unet_config`)",
            "the paper names neither the schedule of the noise (in their code: cosine) nor the faces (CelebA)",
        ),
        options=(
            "preset",
            "num_timesteps",
            "num_inference_steps",
            "num_repeats",
            "use_flip",
            "use_forward",
            "use_backward",
        ),
        method="diffiqa:DifFIQAMethod",
    ),
    MethodCard(
        name="diffiqa-r",
        title="DifFIQA(R)",
        paper="Babnik, Peer and Štruc, DifFIQA, IJCB 2023, section 3.6",
        formula="one linear layer on the embedding of an FR network, trained on the scores of DifFIQA",
        input=_CANONICAL,
        raw_range="about [0, 1], not confined to it: the labels were scaled to [0, 1], the output is linear",
        code_license="MIT",
        weights_license="the network in this package is for research only (its model card); of the authors' none is "
        "stated, and its backbone began as insightface's, which is for non-commercial research only",
        weights_source="the small network in this package, diffiqa(r).pth, linked by "
        "https://github.com/LSIbabnikz/DifFIQA, or your own training (`training/train_diffiqa_r.py`)",
        checked_against="the authors' network on synthetic weights (fixture diffiqa_r_iresnet100 in "
        "tests/models/test_face_quality.py); the published weights were not at hand",
        dialect="diffiqa-r",
        networks=_IRESNET_HEAD,
        training=(
            "`training/train_diffiqa_r.py --preset diffiqa-r`",
            "the options are those of the authors' code, but the constants that scale the labels are taken from the "
            "faces trained on alone",
        ),
        head="linear",
        **(_REGRESSION | {"needs": ()}),
    ),
    MethodCard(
        name="ediffiqa",
        title="eDifFIQA (T, S, M, L)",
        paper="Babnik, Peer and Štruc, eDifFIQA: Towards Efficient Face Image Quality Assessment Based on Denoising "
        "Diffusion Probabilistic Models, IEEE TBIOM 2024",
        formula="two linear layers with GELU between on the embedding of an FR network, trained on scores of DifFIQA "
        "that were moved towards the similarity to the centre of the identity",
        input=_CANONICAL,
        raw_range="about [0, 1], not confined to it",
        code_license="none stated",
        weights_license="none stated by the repository; CC-BY-4.0 for the copies of M on the Hub and of T in OpenCV's "
        "zoo",
        weights_source="linked by https://github.com/LSIbabnikz/eDifFIQA",
        checked_against="the authors' networks T and S on synthetic weights (fixtures ediffiqa_* in "
        "tests/models/test_face_quality.py); the published weights were not at hand",
        notes=("T scales its embedding to unit length before the head, S, M and L do not; the configuration knows",),
        training=(
            "`training/train_diffiqa_r.py --preset ediffiqa`",
            "the options are those of the authors' code, but the constants that scale the labels are taken from the "
            "faces trained on alone",
            "the labels are DifFIQA's, by `training/label_quality.py` and a pipeline of one's own",
        ),
        dialect="ediffiqa",
        networks=_IRESNET_HEAD,
        head="mlp",
        **_REGRESSION,
    ),
    MethodCard(
        name="cr-fiqa",
        title="CR-FIQA (S, L)",
        paper="Boutros, Fang, Klemt, Fu and Damer, CR-FIQA: Face Image Quality Assessment by Learning Sample Relative "
        "Classifiability, CVPR 2023",
        formula="one linear layer on the embedding of an FR network, trained with it on the ratio of the similarity "
        "to the own class centre and to the nearest other one",
        input=_CANONICAL,
        raw_range="unbounded",
        code_license="CC BY-NC 4.0",
        weights_license="CC BY-NC 4.0",
        weights_source="181952backbone.pth (L) and 32572backbone.pth (S), linked by https://github.com/fdbtrs/CR-FIQA",
        checked_against="the authors' networks S and L on synthetic weights (fixtures crfiqa_* in "
        "tests/models/test_face_quality.py); the published weights were not at hand",
        notes=(
            _TRAP_COLOUR,
            "the authors' README says RGB, but their recipe for LFW-like sets writes BGR files and passes "
            "`--color_channel BGR`, and the one for XQLFW writes BGR files without it; RGB is what goes in here",
            "it is the FR network itself that was trained: on the benchmark of that network it is at home",
            "the authors' code trains on CCS / NNCCS, the paper on CCS / (NNCCS + 1 + eps), as here "
            "(`certainty_ratio='official'` does the other): on 400 faces of 76 people "
            f"{_ON_LFW}, the people's mean embeddings being the class centres, the Spearman correlation of the two is "
            ".76; theirs lie between 1.5 and 6.8, the paper's between .35 and .78",
        ),
        training=(
            "`training/train_quality.py --recipe cr-fiqa`",
            "the options are those of the authors' config.py for MS1MV2 (L); for CASIA-WebFace (S) it has 34 epochs",
            "the norm of the gradient is clipped at 5 as in their code, but together with the class centres, which "
            "they leave out",
            "their backbone has a dropout of .4, ours none unless `--model_config` says so",
        ),
        dialect="cr-fiqa",
        networks=_IRESNET_HEAD,
        head="linear",
        **(_REGRESSION | {"kind": "model-based"}),
    ),
    MethodCard(
        name="sdd-fiqa",
        title="SDD-FIQA",
        paper="Ou et al., SDD-FIQA: Unsupervised Face Image Quality Assessment with Similarity Distribution Distance, "
        "CVPR 2021",
        formula="PReLU and one linear layer on the last feature map of an IR-50 network, trained on the Wasserstein "
        "distance between mated and non-mated similarities",
        input=_CANONICAL,
        raw_range="about 0 to 100",
        code_license="Tencent's own (License.txt of the repository)",
        weights_license="Tencent's own (License.txt of the repository)",
        weights_source="the IR-50 on Google Drive, linked by quality/README.md of https://github.com/Tencent/TFace",
        checked_against="the authors' network on synthetic weights (fixture sddfiqa_r50 in "
        "tests/models/test_face_quality.py); the published weights were not at hand",
        notes=(
            _TRAP_COLOUR,
            "the authors' code scales the labels of each of the 12 rounds to 0 .. 100 and averages then, here the "
            f"averages are scaled: on 400 faces {_ON_LFW} the order is the same (Spearman 1.0000), and the labels "
            "differ by 1.0 on average, at most 1.9, where their standard deviation is 17",
        ),
        training=(
            "`training/train_quality.py --recipe sdd-fiqa`",
            "the options are those of the authors' train_config.py, which is set to a MobileFaceNet; here it is the "
            "published IR-50",
            "theirs starts from an FR model: `--model_name_or_path` does that, without it the network is new",
            "Adam's eps is torch's 1e-8, theirs 1e-6",
            _OUR_CLIPPING,
        ),
        dialect="sdd-fiqa",
        networks=("SDDFIQAForFaceQuality",),
        **_REGRESSION,
    ),
    MethodCard(
        name="lightqnet",
        title="LightQNet (dm025, dm050, dm100)",
        paper="Chen, Yi and Lv, LightQNet: Lightweight Deep Face Quality Assessment for Risk-Controlled Face "
        "Recognition, IEEE Signal Processing Letters 2021",
        formula="sigmoid of one linear layer on the mean of the last feature map of a minimalistic MobileNetV3-Small",
        input="96x96 of the same crop, RGB, (x - 128) / 128; other sizes are resized",
        raw_range="(0, 1); the published weights gave .52 to .65 on 16 faces of LFW",
        code_license="MIT",
        weights_license="MIT",
        weights_source="lightqnet-dm100.pb, -dm050.pb and -dm025.pb in https://github.com/KaenChan/lightqnet; "
        "`weights` takes such a file as it is",
        checked_against="the scores of the three published graphs on 16 faces of LFW, to 2e-7 "
        "(tests/methods/test_lightqnet.py, where the files are there), and the graph in NumPy and float64",
        notes=(
            "trained on RGB; the authors' demo feeds BGR, which is not copied here: on 200 faces of LFW it moves the "
            "scores of dm100 by .006 on average, at most .071, where their standard deviation is .018 (Spearman "
            ".91; benchmarks/bug_effects.py)",
            "in the training code the minimum is of two columns, the second not transposed, so that each pair has its "
            "first face's score and the loss no minimum at all: of one free number for each of 400 faces "
            f"{_ON_LFW} those with the least of that loss and of the paper's differ by .035 on average (standard "
            "deviation .16) with a Spearman correlation of .82, and the paper's loss is .248 at the former, .231 at "
            "the latter",
            "the authors align by three points to a square of 160 pixels; those points are the ArcFace template's "
            "(eyes and the middle of the mouth), so the crop is the same at another size",
        ),
        training=(
            "`training/train_quality.py --recipe lightqnet`",
            "rate, steps, batch, lambda = 10, s, m and soft labels are the paper's; the authors' training code has "
            "lambda = 20, hard labels and 48,000 steps of 100 faces, 2 a person",
            "the paper leaves the width of the branch open: 256 is that of their code",
            _OUR_CLIPPING,
        ),
        networks=("LightQNetForFaceQuality",),
        dialect="lightqnet",
        **{**_REGRESSION, "method": "lightqnet:LightQNetMethod"},
    ),
    MethodCard(
        name="pfe",
        title="PFE",
        paper="Shi and Jain, Probabilistic Face Embeddings, ICCV 2019",
        kind="model-based",
        formula="minus the harmonic mean, over the dimensions of the embedding, of the variances that a module of two "
        "layers gives for it; it reads what the last layer of the FR network reads",
        takes=("weights",),
        needs=("weights",),
        input="112x96, the middle of the face on the ArcFace template, RGB, (x - 127.5) / 128; on another FR network "
        "what that takes",
        raw_range="above 0; an untrained module gives exp(-7) = .0009, and the scale of a trained one is that of its "
        "FR network",
        lower_is_better=True,
        determinism=_DETERMINISTIC,
        code_license="MIT",
        weights_license="MIT (none is stated for the files apart from the code)",
        weights_source="the two 64-CNN PFE models, linked by https://github.com/seasonSH/Probabilistic-Face-Embeddings"
        " (unpacked, `weights` takes the .index file; the .data file has to lie beside it), or your own training "
        "(`training/train_quality.py`)",
        checked_against="SphereNet, module and score in NumPy and float64 from a checkpoint in TensorFlow's format "
        "that the test writes (tests/conversion/test_pfe.py, tests/methods/test_formulas_more.py); the published "
        "files were not at hand, and the names of their tensors were read off the authors' code",
        notes=(
            "the authors give no score for one image: their paper speaks of the harmonic mean of the uncertainty, and "
            "others report that, its inverse or its negative; with the variance, as here, and with its root the order "
            "of faces can differ",
            "what the authors call alpha and gamma in the file are the scale and the shift, which their code calls "
            "gamma and beta",
            "the loss in the authors' code is twice that of the paper less a constant (no half); "
            "`mutual_likelihood_loss` is the paper's",
            "the uncertainty belongs to the embedding that it was trained on: it is no quality for another FR model",
        ),
        training=(
            "`training/train_quality.py --recipe pfe`",
            "the options are those of the authors' config/sphere64_msarcface.py, rate and weight decay converted, "
            "because their loss is twice the paper's",
            "the module is on the FR model that is given, theirs on a SphereNet-64",
            _OUR_CLIPPING,
        ),
        networks=("PFEForFaceQuality",),
        dialect="pfe",
        method="pfe:PFEMethod",
    ),
    MethodCard(
        name="pcnet",
        title="PCNet",
        paper="Xie, Byrne and Zisserman, Inducing Predictive Uncertainty Estimation for Face Recognition, BMVC 2020",
        formula="sigmoid of one linear layer on the mean of the last feature map of an 18-layer residual network, "
        "trained so that the lower one of two faces of a person is their cosine similarity",
        input="96x96 of the same crop, RGB, (x - 127.5) / 128; other sizes are resized",
        raw_range="(0, 1)",
        code_license="none published",
        weights_license="none published",
        weights_source="none published: your own training (`training/train_quality.py`)",
        checked_against="network and loss in NumPy and float64 (tests/methods/test_formulas_more.py); nothing is "
        "published to compare with, so results are to be named re-trained",
        notes=(
            "what the paper says of its network beyond a light ResNet was not at hand: trunk, input size and the "
            "sigmoid are those of the ResNet-18 in https://github.com/KaenChan/lightqnet-train, which normalises the "
            "last layer as well; that is left out here",
            "lightqnet-train's version of the loss takes the first face's score of each pair for the lower one (see "
            f"lightqnet): of one free number for each of 400 faces {_ON_LFW} those with the least of that loss and of "
            "the paper's differ by .054 on average (standard deviation .13) with a Spearman correlation of .87, and "
            "the paper's loss is .0059 at the former, .0035 at the latter",
            "the similarities that it learns are of one FR model, and with them what it calls quality",
        ),
        training=(
            "`training/train_quality.py --recipe pcnet`",
            "the paper's own settings were not at hand: rate, steps and batch are those of lightqnet-train's "
            "configuration of PCNet's loss, which trains a MobileNetV3-Small, taught by a branch on the FR model "
            "(weight 20)",
            "the ResNet-18 alone, without a teacher, is ours; LightQNet's paper has PCNet as a ResNet-18 in its table "
            "of times",
            _OUR_CLIPPING,
        ),
        networks=("PCNetForFaceQuality",),
        **{**_REGRESSION, "method": "pcnet:PCNetMethod"},
    ),
    MethodCard(
        name="faceqnet",
        title="FaceQnet (v0, v1)",
        paper="Hernandez-Ortega et al., FaceQnet: Quality Assessment for Face Recognition based on Deep Learning, ICB "
        "2019 (v0); Biometric Quality: Review and Application to Face Recognition with FaceQnet, 2020 (v1)",
        formula="dense layers on the mean of the last feature map of a ResNet-50 trained on VGGFace2, clipped to "
        "[0, 1]; labels are FaceNet's similarities to an ICAO-compliant image of the person",
        input="224x224, BGR, 0 to 255, nothing subtracted; other sizes are resized",
        raw_range="[0, 1] by clipping; the term `unclipped` has the number before",
        code_license="none stated; the authors allow non-profit research only (issue 11 of the repository)",
        weights_license="none stated; the authors allow non-profit research only (issue 11 of the repository)",
        weights_source="FaceQnet.h5 (v0) and FaceQnet_v1.h5, released at https://github.com/uam-biometrics/FaceQnet; "
        "`weights` takes such a file as it is (with h5py: `pip install 'diffiqa-hf[keras]'`)",
        checked_against="the network in NumPy and float64 from a Keras file that the test writes "
        "(tests/conversion/test_faceqnet.py); the published files were not at hand: the trunk's names are those of "
        "Keras' VGGFace2 ResNet-50, head, activations and epsilon are read off the file",
        notes=(
            "pixels go in as OpenCV reads them, BGR from 0 to 255: RGB, or a mean subtracted as VGGFace2's own "
            "network has it, gives other numbers without any error",
            "it was trained on loose crops (MTCNN's box); the authors ask for such, here it gets the tighter ArcFace "
            "crop, as in DifFIQA's paper",
            "all faces clipped to 0 or to 1 are tied",
            "the training code is not public (issue 7 of the repository)",
            "to compare with: https://github.com/javier-hernandezo/FaceQnet has the authors' scores of 15,131 crops "
            "of LFW (src/scores_quality_LFW.txt; the crops are MTCNN's, the version of FaceQnet is not said), and of "
            "VGGFace2, BioSecure and CyberExtruder; those of LFW are in docs/results/lfw",
        ),
        training=(
            "`training/train_quality.py --recipe faceqnet`",
            "the paper fine-tunes a ResNet-50 trained on VGGFace2: `--model_name_or_path` with keras-vggface's file, "
            "and `--freeze_backbone` for the dense layers alone; without it the network is new",
            "optimiser, rate, batch, epochs, loss (mean squared error), the widths of the head and the clipping of "
            "the gradient's norm at 5 are ours",
            "the paper chooses the reference of each person by a framework (BioLab-ICAO) that is not public: "
            "`--reference_column` takes a choice, without it the face nearest the person's mean embedding is taken",
            "the similarities are those of the FR model that is given, the paper's are FaceNet's",
        ),
        dialect="faceqnet",
        networks=("FaceQnetForFaceQuality",),
        **{**_REGRESSION, "method": "faceqnet:FaceQnetMethod"},
    ),
    MethodCard(
        name="faceqgen",
        title="FaceQgen",
        paper="Hernandez-Ortega, Fierrez, Serna and Morales, FaceQgen: Semi-Supervised Deep Learning for Face Image "
        "Quality Assessment, FG 2021",
        formula="structural similarity of the face and the one that a generator makes of it, trained to give the "
        "person's image of high quality; with `measure` minus their mean squared difference, or the probability that "
        "the discriminator gives the restored face",
        input=_CANONICAL,
        raw_range="ssim [-1, 1], mse [-1, 0] with its sign turned, discriminator (0, 1)",
        code_license="none published",
        weights_license="none published",
        weights_source="none published (the model that https://github.com/javier-hernandezo/FaceQgen links is "
        "FaceQnet v0): your own training (`training/train_quality.py`)",
        checked_against="structural similarity and the other two measures in NumPy and float64 "
        "(tests/methods/test_formulas_more.py); nothing is published to compare with, so results are to be named "
        "re-trained",
        notes=(
            "the authors' repository holds FaceQnet's script and link and no GAN, so there is no converter",
            "what the paper says of the networks, the weights of the losses and what the discriminator is shown was "
            "not at hand: generator and discriminator are those of pix2pix, the latter shown the restored face alone",
            "DifFIQA's paper gives it and FaceQnet the same running time to four digits, so the numbers there may not "
            "be of a GAN",
        ),
        training=(
            "`training/train_quality.py --recipe faceqgen`",
            "by its abstract it is trained from scratch on SCface, with one image of high quality for each person",
            "networks, losses, their weights, optimiser and rate are pix2pix's; batch, epochs and the clipping of the "
            "gradient's norm at 5 are ours",
            "`--reference_column` says which images are of high quality; without it the face nearest the person's "
            "mean embedding is taken",
        ),
        networks=("FaceQgenForFaceQuality",),
        options=("measure",),
        **{**_REGRESSION, "kind": "analytical", "method": "faceqgen:FaceQgen"},
    ),
    MethodCard(
        name="clib-fiqa",
        title="CLIB-FIQA",
        paper="Ou, Li, Wang and Kwong, CLIB-FIQA: Face Image Quality Assessment with Confidence Calibration, CVPR "
        "2024",
        formula="expected quality, .1, .3, .5, .7 or .9, under CLIP's probabilities of 360 sentences that name blur, "
        "occlusion, pose, expression, illumination and quality of the face",
        input="224x224 of the same crop, RGB, CLIP's mean and standard deviation; other sizes are resized",
        raw_range="[.1, .9]",
        code_license="MIT",
        weights_license="MIT (none is stated for the file apart from the code)",
        weights_source="CLIB-FIQA_R50.pth, linked by https://github.com/oufuzhao/CLIB-FIQA; `weights` takes it as it "
        "is, and CLIP's own RN50.pt is not needed",
        checked_against="both encoders in NumPy and float64 on synthetic weights in the file's names "
        "(tests/conversion/test_clib_fiqa.py); the published file was not at hand",
        notes=(
            "the sentences never change, so a converted network holds what the text encoder gives for them in place "
            "of that encoder",
            "the authors' code runs in float16 and counts on CUDA; here it is float32",
            "the authors' script fills tensors that the file lacks with CLIP's without a word; here they are an error",
            "the terms are the probabilities of a clear, unobstructed, frontal face with typical expression and "
            "normal lighting",
        ),
        training=(
            "none in this package",
            "the authors' takes CLIP's RN50 and labels of five properties of each face beside those of quality",
        ),
        dialect="clib-fiqa",
        networks=("CLIBFIQAForFaceQuality",),
        **{**_REGRESSION, "method": "clib_fiqa:CLIBFIQA"},
    ),
    MethodCard(
        name="magface",
        title="MagFace",
        paper="Meng, Zhao, Huang and Zhou, MagFace: A Universal Representation for Face Recognition and Quality "
        "Assessment, CVPR 2021",
        kind="model-based",
        formula="L2 norm of the embedding of an FR network that was trained with MagFace's loss",
        takes=("weights",),
        needs=("weights",),
        input="112x112 on the ArcFace template, BGR, [0, 1] (the network's configuration does that)",
        raw_range="above 0; 10 to 110 in training",
        determinism=_DETERMINISTIC,
        code_license="Apache-2.0",
        weights_license="Apache-2.0",
        weights_source="magface_epoch_00025.pth (iresnet100), linked by https://github.com/IrvingMeng/MagFace",
        checked_against="the authors' networks on synthetic weights (fixtures magface_* in tests/models); the "
        "published weights were not at hand",
        notes=(
            "norms of different networks can't be compared",
            "the published network reads BGR in [0, 1]: converted with another dialect's settings it gives numbers "
            "that look right and are not",
            "OFIQ, the reference software of ISO/IEC 29794-5, has an IResNet-50 of it and gives "
            "round(100 sigmoid((norm - 23) / 2.6))",
        ),
        training=(
            "`training/train_quality.py --recipe magface`",
            "the options are those of the authors' run.sh, which trains an IResNet-50; the default here is an "
            "IResNet-100 that reads RGB in [-1, 1] and has no dropout, and `--model_config` makes it theirs (BGR in "
            "[0, 1], a dropout of .4 of channels, eps 2e-5)",
            _OUR_CLIPPING,
        ),
        method="embedding_norm:EmbeddingNorm",
        dialect="magface",
    ),
    MethodCard(
        name="faceqan",
        title="FaceQAN",
        paper="Babnik, Peer and Štruc, FaceQAN: Face Image Quality Assessment Through Adversarial Noise Exploration, "
        "ICPR 2022",
        kind="analytical",
        formula="((1 + mean S) / 2 * clip(1 - std S, 0, 1) * cos(face, mirrored face))^p, S being the l*k cosine "
        "similarities to the face along l steps of the basic iterative method from k random starts",
        raw_range="[0, 1] for all but faces whose mirror image has a negative similarity",
        determinism=_SEEDED,
        code_license="MIT",
        checked_against="a float64 rendering in NumPy with gradients by hand (tests/methods/test_formulas.py)",
        notes=(
            "eps is on the [0, 1] scale of the pixels, as in the authors' code; mean and (population) standard "
            "deviation are over all l*k similarities, of which the first k are of the random starts",
            "noisy pixels are clipped to [0, 1]; the authors' code clips to [-1, 1] although its images are in [0, 1] "
            f"(`clip=(-1, 1)` does that); on 16 faces {_ON_LFW} the scores differ by .0001 on average, at most .0005, "
            "where their standard deviation is .05 (Spearman correlation .997)",
            "to compare with: the authors' repository has its scores of all 13,233 images of XQLFW "
            "(src/evaluation/xqlfw_results.pkl)",
            "the authors' command line takes -k and -p and never passes them on, so its scores are those of k = 10, "
            "p = 5; with an even p a negative similarity would raise the score",
            "the result of the last step is never embedded, neither here nor there, so its gradient is not computed",
        ),
        options=("eps", "num_steps", "num_starts", "exponent", "clip"),
        method="faceqan:FaceQAN",
        **_PROBING,
    ),
    MethodCard(
        name="ser-fiq",
        title="SER-FIQ (on the FR model itself)",
        paper="Terhörst, Kolf, Damer, Kirchbuchner and Kuijper, SER-FIQ: Unsupervised Estimation of Face Image "
        "Quality Based on Stochastic Embedding Robustness, CVPR 2020",
        kind="analytical",
        formula="2 * sigmoid(-mean pairwise Euclidean distance of T unit embeddings made with dropout before the last "
        "layer); with `rescale` sigmoid(130 * (that - 0.88))",
        raw_range="(0, 1], in a narrow band: about .88 for the authors' network, .55 to .62 on 100 faces of LFW for a "
        "MobileFaceNet trained on CASIA-WebFace without dropout",
        determinism=_SEEDED,
        code_license="CC BY-NC-SA 4.0",
        checked_against="a float64 rendering in NumPy (tests/methods/test_formulas.py); the authors' MXNet network "
        "was not at hand",
        notes=(
            "the mean is over the T(T-1)/2 pairs, as in the authors' code; the paper divides by T^2/2, which changes "
            "the numbers and not the order",
            "values lie close together and that is no fault: `rescale` is the authors' stretching, with constants for "
            "their network alone",
            "`dropout` is .5 unless given: the probability of the FR model's own dropout module is not looked at. "
            "insightface's code for the authors' network has .4",
            "the authors' code (scikit-learn 0.24, in float64) and ser-fiq-pytorch (in float32) take distances by a "
            f"matrix product: on 100 faces {_ON_LFW} the scores are the same to 1e-7",
            "ser-fiq-pytorch averages over all T^2 places, of which T(T-1)/2 are filled: on these faces the scores "
            "are .20 higher on average, in the same order",
            "the authors' results are those of LResNet100E-IR with MTCNN's crops; with another FR model it is another "
            "variant and should be named so",
            "XQLFW was put together with SER-FIQ: results on it say nothing",
            "the part of the network before the dropout runs once a face",
        ),
        options=("num_passes", "dropout", "rescale", "layer"),
        method="ser_fiq:SERFIQ",
        **{
            **_PROBING,
            "weights_license": "those of the FR model; the authors' network is MIT by their "
            "download_link_license.txt, while insightface, whose it is, allows non-commercial research only",
            "weights_source": f"{_FR_SOURCE}; the authors' LResNet100E-IR on Google Drive, linked by "
            "https://github.com/pterhoer/FaceImageQuality (`diffiqa convert --from insightface-mxnet`)",
        },
    ),
    MethodCard(
        name="grafiqs",
        title="GraFIQs",
        paper="Kolf, Damer and Boutros, GraFIQs: Face Image Quality Assessment Using Gradient Magnitudes, CVPRW 2024",
        kind="analytical",
        formula="minus the sum of absolute gradients, at the pixels or at a block, of the mean squared difference "
        "between the statistics of the image and the running ones, over all 2d batch normalisations",
        raw_range="above 0, scale set by the FR model",
        lower_is_better=True,
        determinism=_DETERMINISTIC,
        code_license="CC BY-NC 4.0",
        checked_against="a float64 rendering in NumPy with gradients by hand (tests/methods/test_formulas.py)",
        notes=(
            "statistics are taken for each image by itself, so faces can share a batch; the authors run one at a time",
            "the variances are compared, as in the authors' code",
            "the authors give five scores, of the pixels and of the outputs of the four stages: `layer` is `'image'` "
            "or the name of a module, such as `'layer2'`; the paper's text, which may prefer one, was not at hand",
            "the authors' script reads with OpenCV and gives the network BGR unless `--bgr2rgb` is set; here it gets "
            f"what its configuration says: on 50 faces {_ON_LFW}, which reads RGB, BGR gives "
            "them another order (Spearman correlation .21), and the mean size of the scores grows by 8 %; with the FR "
            "model in this package on the 24 example faces the correlation is .81",
            "users report high scores of blank images (issue 3 of the authors' repository); on a MobileFaceNet a grey "
            "picture scored below all faces",
        ),
        options=("layer",),
        method="grafiqs:GraFIQs",
        **{
            **_PROBING,
            "weights_license": "those of the FR model; CC BY-NC 4.0 for the authors' (none is stated for the files "
            "apart from the code)",
            "weights_source": f"{_FR_SOURCE}; the authors' IResNet-50 and -100, linked by "
            "https://github.com/jankolf/GraFIQs",
        },
    ),
    MethodCard(
        name="froq",
        title="FROQ",
        paper="Babnik, Jain, Peer and Štruc, FROQ: Observing Face Recognition Models for Efficient Quality "
        "Assessment, IJCB 2025",
        kind="analytical",
        formula="mean over chosen layers of the L2 norm of what the FR model gives there; the layers are chosen once, "
        "greedily, by Spearman's correlation with the mean similarity to the mirrored, the noisy and the partly black "
        "face",
        raw_range="above 0, scale set by the FR model",
        determinism=_DETERMINISTIC,
        code_license="MIT",
        checked_against="norms, pseudo quality and choice of layers in NumPy and float64 "
        "(tests/methods/test_formulas_more.py); the authors' calibration set and the layers that they found were not "
        "at hand",
        notes=(
            "`layers` (names of modules) or `calibration` (images of all qualities, or a folder of them) has to be "
            "given; the authors take a part of Glint360K and AdaFace IR-101",
            "norms are not scaled before they are averaged, so the layers with the largest ones decide",
            "the authors' code gives modules that the model never runs (AdaFace's `body`) random numbers; here such "
            "modules, and those run more than once, are left out. One that wins a place among the candidates ends "
            f"their second pass with an error, else nothing changes: on 200 faces {_ON_LFW} the best of 200 such "
            "draws has a rank correlation of .17 with the quality (here the similarity to the mean of the person's "
            "other faces), the tenth candidate one of .46",
            "the authors' configuration gives AdaFace the channels in the order blue, red, green ([2, 0, 1]), while "
            "AdaFace reads BGR; here the FR model's own configuration is followed. With red and green "
            "exchanged like that the scores of these 200 faces have a Spearman correlation of .92 with ours",
            "the repository says a discard fraction of 0.3 in one place and 0.2 in the next",
        ),
        needs_one_of=("layers", "calibration"),
        options=("layers", "calibration", "num_candidates"),
        method="froq:FROQ",
        **_PROBING,
    ),
    MethodCard(
        name="embedding-norm",
        title="Norm of the embedding",
        paper="none: the plain baseline, as users ask for it (insightface issue 1075, AdaFace issue 166)",
        kind="baseline",
        formula="L2 norm of the embedding, before it is scaled to unit length where the FR model does that",
        raw_range="above 0, scale set by the FR model",
        determinism=_DETERMINISTIC,
        code_license="Apache-2.0 (this package)",
        checked_against="NumPy (tests/methods/test_formulas.py)",
        notes=("means little for FR models whose loss does not tie the norm to quality",),
        method="embedding_norm:EmbeddingNorm",
        **_PROBING,
    ),
)


def get_card(name: str) -> MethodCard:
    """
    The card of the method of that name.

    Raises:
        ValueError: There is none.
    """
    for card in CARDS:
        if card.name == name:
            return card
    raise ValueError(f"unknown method {name!r}; there are {', '.join(card.name for card in CARDS)}")


__all__ = ["CARDS", "MethodCard", "get_card"]
