# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch

from diffiqa_hf.models import MobileFaceNetConfig, MobileFaceNetForFaceQuality, MobileFaceNetModel
from diffiqa_hf.training.deepening import deepen


STAGES = [[8, 8, 1, 2], [16, 12, 2, 2], [16, 12, 1, 2]]


@pytest.mark.parametrize("kind", [MobileFaceNetModel, MobileFaceNetForFaceQuality])
def test_a_deeper_network_gives_what_it_gave_and_learns_in_all_blocks(kind):
    torch.manual_seed(0)
    config = MobileFaceNetConfig(stem_width=8, stem_groups=8, stages=STAGES, feature_width=16, embedding_size=8)
    model = kind(config)
    faces = torch.randn(4, 3, 112, 112)
    with torch.no_grad():  # running statistics that are not 0 and 1
        model.train()(faces)
    deeper = deepen(model.eval(), [1, 2, 0]).eval()
    assert deeper.config.stages == [[8, 8, 2, 2], [16, 12, 4, 2], [16, 12, 1, 2]]
    assert model.config.stages == STAGES
    with torch.inference_mode():
        before, after = (found(faces)[0].numpy() for found in (model, deeper))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * np.abs(before).max())
    deeper.train()(faces)[0].square().sum().backward()
    # The blocks' last scale moves in the first step, and the rest of them from the second on.
    scales = [value.grad for name, value in deeper.named_parameters() if name.endswith("project.norm.weight")]
    assert len(scales) == 7 and all(grad.abs().max() > 0 for grad in scales)


def test_what_does_not_fit_the_stages_is_refused():
    model = MobileFaceNetModel(
        MobileFaceNetConfig(stem_width=8, stem_groups=8, stages=STAGES, feature_width=16, embedding_size=8)
    )
    with pytest.raises(ValueError, match="3 numbers of blocks"):
        deepen(model, [1, 2])
