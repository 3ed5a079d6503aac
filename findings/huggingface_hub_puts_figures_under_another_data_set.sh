#!/usr/bin/env bash
# huggingface_hub 2.4.0: a model card's EvalResults are grouped by task and by the data set's type, config, split and revision, not
# by its name, which is the one field that is required beside the type. Two results on sets of one type ("my-faces") with two names
# become one entry under the first name: the card on the Hub, and the card read back, say that both figures were measured on the
# first set. Nothing is raised or logged. A dataset_config of its own for each keeps them apart.
# Seen with Python 3.11 on x86-64.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check huggingface_hub==2.4.0 2>/dev/null
"$folder/venv/bin/python" - <<'P'
import huggingface_hub
from huggingface_hub import EvalResult, ModelCard, ModelCardData


def names_read_back(**of_each):
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="my-faces",
            dataset_name=name,
            metric_type="accuracy",
            metric_value=value,
            **{key: f"{start}{name}" for key, start in of_each.items()},
        )
        for name, value in (("by day", 0.9), ("by night", 0.4))
    ]
    card = ModelCard(f"---\n{ModelCardData(model_name='m', eval_results=results).to_yaml()}\n---\n# m\n")
    return [(result.dataset_name, result.metric_value) for result in card.data.eval_results]


found, apart = names_read_back(), names_read_back(dataset_config="")
print("huggingface_hub", huggingface_hub.__version__, "read back:", found, "with a config each:", apart)
assert found == [("by day", 0.9), ("by day", 0.4)], "the behaviour has changed"
assert apart == [("by day", 0.9), ("by night", 0.4)], "the behaviour has changed"
P
