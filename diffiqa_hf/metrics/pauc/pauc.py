# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""pAUC: partial area under the error-versus-discard characteristic, as a module of `evaluate`."""

import evaluate

from diffiqa_hf.evaluation import edc_curve
from diffiqa_hf.metrics.pairs import changed_protocol, pair_features


_DESCRIPTION = """
The partial area under the error-versus-discard characteristic (EDC): how well quality scores of faces foretell which
comparisons go wrong. The false non-match rate is followed while the comparisons of lowest quality are discarded, up to
a limit; the area is divided by the rate at the start and by the limit, so that at a fixed threshold 1 is as good as
discarding at random.
"""

_KWARGS_DESCRIPTION = """
Args:
    similarities (`list[float]`): Comparison score of each pair of images, higher is more alike.
    mated (`list[bool]`): Whether the two images show one person.
    qualities_a, qualities_b (`list[float]`): Quality of the first and of the second image, higher is better.
    protocol (`str`): `"default"`, `"diffiqa"`, `"schlett"` or `"cr-fiqa"`: how threshold, order, grid and area are
        defined (`diffiqa_hf.evaluation.PROTOCOLS`).
    fmr, threshold, starting_fnmr (`float`, *optional*): One of them replaces the operating point of the protocol: the
        false match rate, the similarity threshold, or the FNMR that the curve starts from.
    nan_quality (`str`, *optional*): `"raise"`, or `"lowest"`: who has no quality (NaN) leaves first, with a warning.
    limits (`list[float]`, *optional*): Discard fractions up to which the area is taken, instead of the protocol's.
Returns:
    `dict`: For each limit L `pauc@L` (lower is better), `floor@L` (which no score can pass on these pairs),
    `random@L` (that of discarding at random: 1, unless the threshold is recomputed or the protocol divides by less),
    `share@L` (the part reached of the gain to the floor, 0 at a pAUC of 1) and `random_share@L` (the share of
    discarding at random); and `threshold`, `fnmr`, `fmr`,
    `mated`, `nonmated`, `false_non_matches`, `false_matches`, of all pairs.
Examples:
    Ten mated pairs, two of them below the threshold; the method finds one of the two at once:

    >>> import evaluate
    >>> from diffiqa_hf.metrics import metrics_path
    >>> pauc = evaluate.load(metrics_path("pauc"))
    >>> results = pauc.compute(
    ...     similarities=[0.1, 0.9, 0.2, 0.8, 0.9, 0.8, 0.7, 0.9, 0.6, 0.8],
    ...     mated=[True] * 10,
    ...     qualities_a=[1, 9, 3, 2, 5, 6, 7, 8, 9, 10],
    ...     qualities_b=[4, 9, 6, 9, 9, 8, 7, 8, 9, 10],
    ...     threshold=0.5,
    ...     limits=[0.3],
    ... )
    >>> print(round(results["pauc@0.3"], 4), round(results["floor@0.3"], 4), round(results["share@0.3"], 4))
    0.7269 0.5185 0.5673
    >>> results["fnmr"], results["false_non_matches"]
    (0.2, 2)

    The threshold of a false match rate, on the non-mated pairs; quality that says nothing has a pAUC of 1:

    >>> results = pauc.compute(
    ...     similarities=[0.1, 0.9, 0.8, 0.7, 0.5, 0.3, 0.2, 0.1],
    ...     mated=[True, True, True, True, False, False, False, False],
    ...     qualities_a=[1] * 8,
    ...     qualities_b=[1] * 8,
    ...     fmr=0.25,
    ...     limits=[0.5],
    ... )
    >>> results["pauc@0.5"], results["share@0.5"], results["fmr"]
    (1.0, 0.0, 0.25)
"""

_CITATION = """\
@inproceedings{babnik2023diffiqa,
    title = {{DifFIQA}: Face Image Quality Assessment Using Denoising Diffusion Probabilistic Models},
    author = {Babnik, {\\v{Z}}iga and Peer, Peter and {\\v{S}}truc, Vitomir},
    booktitle = {IEEE International Joint Conference on Biometrics (IJCB)},
    year = {2023}
}
@article{schlett2023considerations,
    title = {Considerations on the Evaluation of Biometric Quality Assessment Algorithms},
    author = {Schlett, Torsten and Rathgeb, Christian and Tapia, Juan and Busch, Christoph},
    journal = {arXiv preprint arXiv:2303.13294},
    year = {2023}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class PAUC(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=pair_features(),
            reference_urls=["https://arxiv.org/abs/2305.05768", "https://arxiv.org/abs/2303.13294"],
        )

    def _compute(
        self,
        similarities,
        mated,
        qualities_a,
        qualities_b,
        protocol="default",
        fmr=None,
        threshold=None,
        starting_fnmr=None,
        nan_quality=None,
        limits=None,
    ):
        changes = {} if limits is None else {"limits": tuple(limits)}
        protocol = changed_protocol(protocol, fmr, threshold, starting_fnmr, nan_quality, **changes)
        results = edc_curve(similarities, mated, (qualities_a, qualities_b), protocol).summary()
        results.pop("reachable")
        by_limit = {name: results.pop(name) for name in ("pauc", "floor", "random", "share", "random_share")}
        areas = {f"{name}@{limit:g}": value for name, of in by_limit.items() for limit, value in of.items()}
        return {**areas, **results}
