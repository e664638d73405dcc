"""Every method on every kind of encoder: a support passes through the same network as a query."""

import numpy as np
import pytest
import torch

from tests.model.seeded import seeded_model, takes
from tests.model.small import WITH_ENCODER
from tests.narrow import NARROW

ENCODERS = [
    *((NARROW, stem) for stem in ("deep", "plain")),
    *((name, "plain") for name in ("vgg16", "swin_b", "timm/test_efficientnet", "timm/test_resnet", "timm/test_vit")),
]
PAIRS = [(name, *encoder) for name in WITH_ENCODER for encoder in ENCODERS if takes(name, encoder[0])]
CLOSE = 1e-4  # relative to the largest value of a map


@pytest.mark.parametrize("name, backbone, stem", PAIRS)
@torch.no_grad()
def test_a_support_that_is_all_object_has_the_features_of_a_query(name: str, backbone: str, stem: str) -> None:
    network = seeded_model(name, 1, backbone, stem)
    image = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (1, 3, *[network.task.size] * 2)))
    support = network.cache_support(image[None], torch.ones(1, 1, *image.shape[-2:]))
    query, whole = network.cache_query(image), network.encoder(network.encoder.normalise(image), True)
    for given in (support, query):
        for stage, feature in given.stage.items():
            _assert_close(feature, whole.stage[stage], f"stage {stage}")
        for stage in given.intermediate.keys() & whole.intermediate.keys():
            for i, (one, other) in enumerate(zip(given.intermediate[stage], whole.intermediate[stage])):
                _assert_close(one, other, f"intermediate {stage}.{i}")
    assert support.stage and set(support.stage) == set(query.stage)


def _assert_close(given: torch.Tensor, want: torch.Tensor, name: str) -> None:
    assert want.std() > 0
    torch.testing.assert_close(given, want, rtol=0, atol=CLOSE * float(want.abs().max()), msg=name)
