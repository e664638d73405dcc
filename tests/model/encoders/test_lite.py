"""EfficientNet-Lite, written out: names, maps and parts are those of timm's network of the same name."""

import pytest
import torch

from model.encoders.lite import LiteEncoder
from model.encoders.timm_encoder import NET, TimmEncoder
from model.encoders.variant import DILATIONS, EncoderVariant
from model.tensors.mask import Mask
from tests.model.varied import vary_norms

CASES = [("lite0", 4, 8, False), ("lite0.in1k", 3, 16, True), ("lite2", 4, 32, True)]


@pytest.mark.parametrize(("size", "last_stage", "output_stride", "any_width"), CASES)
@torch.no_grad()
def test_lite_equals_the_network_of_timm(size: str, last_stage: int, output_stride: int, any_width: bool) -> None:
    stages = range(1, last_stage + 1)
    variant = EncoderVariant(dilation=DILATIONS[output_stride], intermediate=dict.fromkeys(stages), any_width=any_width)
    arguments = (f"timm/tf_efficientnet_{size}", "plain", last_stage, variant)
    theirs, ours = TimmEncoder(*arguments).eval(), LiteEncoder(*arguments).eval()
    vary_norms(theirs)
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())

    image = torch.randn(1, 3, 65, 97)
    maps, expected = ours(image, intermediate=True), theirs(image, intermediate=True)
    torch.testing.assert_close(maps.stage, expected.stage)
    torch.testing.assert_close(maps.intermediate, expected.intermediate)
    mask = Mask(torch.randint(0, 2, (1, 65, 97)))
    masked, expected = (encoder.forward_masked(image, mask, last_stage - 1) for encoder in (ours, theirs))
    for stage in (last_stage - 1, last_stage):
        torch.testing.assert_close(masked.stage[stage], expected.stage[stage])

    for name in ("licence", "pretraining", "channels", "intermediate_counts"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert all(ours.widths(i) == theirs.widths(i) for i in stages)
    names = [NET + name for name in ours.net.state_dict()]
    assert [ours.stage_of(name) for name in names] == [theirs.stage_of(name) for name in names]
    for part, their_part in zip(ours.stages(), theirs.stages(), strict=True):
        assert sum(p.numel() for p in part.parameters()) == sum(p.numel() for p in their_part.parameters())
