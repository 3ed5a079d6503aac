# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""EDC: the error-versus-discard characteristic, as a module of `evaluate`."""

import evaluate

from diffiqa_hf.evaluation import edc_curve
from diffiqa_hf.metrics.pairs import changed_protocol, pair_features


SCALARS = ("threshold", "fnmr", "fmr", "mated", "nonmated", "false_non_matches", "false_matches")

_DESCRIPTION = """
The error-versus-discard characteristic (EDC) of quality scores of faces: the false non-match rate of what is left
while the comparisons of lowest quality are discarded. It falls the faster, the better the scores foretell which
comparisons go wrong. `pauc` makes one number of it.
"""

_KWARGS_DESCRIPTION = """
Args:
    similarities (`list[float]`): Comparison score of each pair of images, higher is more alike.
    mated (`list[bool]`): Whether the two images show one person.
    qualities_a, qualities_b (`list[float]`): Quality of the first and of the second image, higher is better.
    protocol (`str`): `"default"`, `"diffiqa"`, `"schlett"` or `"cr-fiqa"`: how threshold, order and grid are defined
        (`diffiqa_hf.evaluation.PROTOCOLS`).
    fmr, threshold, starting_fnmr (`float`, *optional*): One of them replaces the operating point of the protocol: the
        false match rate, the similarity threshold, or the FNMR that the curve starts from.
    nan_quality (`str`, *optional*): `"raise"`, or `"lowest"`: who has no quality (NaN) leaves first, with a warning.
Returns:
    `dict`: `fractions`, `rates`, `error_counts`, `pair_counts` and `thresholds`, lists of equal length: the discard
    fractions, the FNMR at each, the errors and mated pairs left, and the similarity threshold; `best_fractions` and
    `best_rates`, a curve that no quality can pass on these pairs; and `threshold`, `fnmr`, `fmr`, `mated`,
    `nonmated`, `false_non_matches`, `false_matches`, of all pairs.
Examples:
    Five mated pairs, two of them below the threshold:

    >>> import evaluate
    >>> from diffiqa_hf.metrics import metrics_path
    >>> edc = evaluate.load(metrics_path("edc"))
    >>> results = edc.compute(
    ...     similarities=[0.1, 0.9, 0.2, 0.8, 0.9],
    ...     mated=[True] * 5,
    ...     qualities_a=[1, 2, 3, 4, 5],
    ...     qualities_b=[5, 5, 5, 5, 5],
    ...     threshold=0.5,
    ... )
    >>> for fraction, rate in zip(results["fractions"], results["rates"]):
    ...     print(round(float(fraction), 2), round(float(rate), 4))
    0.0 0.4
    0.2 0.25
    0.4 0.3333
    0.6 0.0
    0.8 0.0

    Equal qualities leave together:

    >>> results = edc.compute(
    ...     similarities=[0.1, 0.9, 0.2, 0.8, 0.9],
    ...     mated=[True] * 5,
    ...     qualities_a=[1, 1, 1, 4, 5],
    ...     qualities_b=[5, 5, 5, 5, 5],
    ...     threshold=0.5,
    ... )
    >>> [int(count) for count in results["pair_counts"]]
    [5, 2, 1]
"""

_CITATION = """\
@article{schlett2023considerations,
    title = {Considerations on the Evaluation of Biometric Quality Assessment Algorithms},
    author = {Schlett, Torsten and Rathgeb, Christian and Tapia, Juan and Busch, Christoph},
    journal = {arXiv preprint arXiv:2303.13294},
    year = {2023}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class EDC(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=pair_features(),
            reference_urls=["https://arxiv.org/abs/2303.13294"],
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
    ):
        protocol = changed_protocol(protocol, fmr, threshold, starting_fnmr, nan_quality)
        result = edc_curve(similarities, mated, (qualities_a, qualities_b), protocol)
        curves = ("fractions", "rates", "error_counts", "pair_counts", "thresholds", "best_fractions", "best_rates")
        numbers = {name: value for name, value in result.summary().items() if name in SCALARS}
        return {**{name: getattr(result, name).tolist() for name in curves}, **numbers}
