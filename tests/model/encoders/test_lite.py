"""EfficientNet-Lite, written out: names, maps and parts are those of timm's network of the same name."""

import pytest
import torch

from model.encoders.lite import LiteEncoder
from model.encoders.timm_encoder import NET, TimmEncoder
from model.encoders.variant import DILATIONS, EncoderVariant
from model.tensors.mask import Mask
from tests.model.varied import vary_norms

CASES = [("lite0", 4, 8, False), ("lite0.in1k", 3, 16, True), ("lite2", 4, 32, True)]
FACTS = ("licence", "pretraining", "channels", "intermediate_counts")


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
    mask = Mask(torch.randint(0, 2, (1, 65, 97)))
    given, wanted = ([], [])
    for encoder, seen in ((ours, given), (theirs, wanted)):
        maps = encoder(image, intermediate=True)
        masked = encoder.forward_masked(image, mask, last_stage - 1)
        seen += [maps.stage, maps.intermediate, masked.stage[last_stage - 1], masked.stage[last_stage]]
    torch.testing.assert_close(given, wanted)
    with torch.autocast("cpu", torch.bfloat16):  # a test keeps float32
        torch.testing.assert_close(ours(image).stage, wanted[0])

    names = [NET + name for name in ours.net.state_dict()]
    for ask in (
        lambda encoder: [getattr(encoder, name) for name in FACTS],
        lambda encoder: [*map(encoder.widths, stages)],
        lambda encoder: [*map(encoder.stage_of, names)],
        lambda encoder: [len([*part.parameters()]) for part in encoder.stages()],
    ):
        assert ask(ours) == ask(theirs)
