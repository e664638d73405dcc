"""SCCAN's windows, alignment, calibrated attention and prior against their definitions, and its trained parameters."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.fusion import Fusion
from model.contract import Task
from model.encoders.settings import EncoderSettings, build_encoder
from model.sccan.patch_alignment import PatchAlignment
from model.sccan.pseudo_mask import PseudoMask
from model.sccan.sccan import ENCODER, SCCAN, SCCANSettings
from model.sccan.self_calibrated_attention import HEADS, CalibratedAttention
from model.sccan.window import SHIFT, WINDOW, from_windows, to_windows
from tests.model.small import small_model

CLOSE = {"atol": 1e-5, "rtol": 1e-4}
PUBLISHED_VALUES, IDLE_VALUES = 11_373_314, 394_752  # outside the encoder; of the last block's support branch
GRID = 2 * WINDOW


# --- windows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shifted", [False, True])
def test_windows_go_row_by_row_and_come_back(shifted: bool) -> None:
    x = torch.rand(2, GRID, GRID, 3)
    windows, edge = to_windows(x, shifted), SHIFT if shifted else 0
    side = (GRID + 2 * edge) // WINDOW
    assert windows.shape == (2, side**2, WINDOW**2, 3)
    for i in range(GRID):
        for j in range(GRID):
            row, column = i + edge, j + edge
            window = row // WINDOW * side + column // WINDOW
            assert torch.equal(windows[:, window, row % WINDOW * WINDOW + column % WINDOW], x[:, i, j])
    assert windows.sum() == pytest.approx(x.sum().item(), rel=1e-5)  # padding is zeros
    assert torch.equal(from_windows(windows, shifted), x)


# --- alignment -------------------------------------------------------------------------------------------------------


def test_alignment_takes_the_likest_window_with_foreground() -> None:
    torch.manual_seed(0)
    query, support = torch.randn(2, 6, 4, 5), torch.randn(2, 6, 4, 5)
    mask = torch.rand(2, 6, 4)
    mask[:, ::2] = 0
    mask[0, 5, 1:], mask[0, 5, 0] = 0, 1e-6  # a candidate as soon as its mask is not 0
    aligned = PatchAlignment()(query, support, mask)
    for b in range(2):
        prototypes = (support[b] * mask[b].unsqueeze(2)).sum(1) / (mask[b].sum(1, keepdim=True) + 5e-4)
        for i in range(6):
            cosine = F.cosine_similarity(query[b, i].mean(0, keepdim=True), prototypes)
            assert aligned[b, i] == max((1, 3, 5), key=lambda j: cosine[j].item())


def test_alignment_takes_the_lowest_of_equals_and_window_0_without_foreground() -> None:
    query, support = torch.randn(1, 3, 4, 5), torch.randn(1, 1, 4, 5).expand(1, 3, 4, 5)
    mask = torch.ones(1, 3, 4)
    mask[:, 0] = 0
    assert PatchAlignment()(query, support, mask).tolist() == [[1, 1, 1]]
    assert PatchAlignment()(query, support, torch.zeros(1, 3, 4)).tolist() == [[0, 0, 0]]


# --- attention and fusion --------------------------------------------------------------------------------------------


@torch.no_grad()
def test_calibrated_attention_is_one_softmax_over_dots_and_cosines() -> None:
    torch.manual_seed(0)
    width, windows, tokens = 2 * HEADS, 3, 4
    attend = CalibratedAttention(width)
    query, support = torch.randn(1, windows, tokens, width), torch.randn(1, windows, tokens, width)
    aligned = torch.tensor([[2, 0, 2]])
    given = attend(query, support, aligned)
    for n in range(windows):
        q = attend.query(query[0, n])
        own, other = attend.key_value(query[0, n]), attend.key_value(support[0, aligned[0, n]])
        for h in range(HEADS):
            part = slice(2 * h, 2 * h + 2)
            k, s = own[:, :width][:, part], other[:, :width][:, part]
            v = torch.cat([own[:, width:][:, part], other[:, width:][:, part]])
            dots = q[:, part] @ k.T / math.sqrt(2)
            weight = torch.cat([dots, F.cosine_similarity(q[:, None, part], s[None], dim=2)], dim=1).softmax(1)
            torch.testing.assert_close(given[0, n, :, part], weight @ v, **CLOSE)


@torch.no_grad()
def test_fusion_is_a_convolution_of_the_concatenation_with_the_prototype_everywhere() -> None:
    torch.manual_seed(0)
    fuse, feature, prototype, other = Fusion(), torch.randn(2, 256, 3, 3), torch.randn(2, 256), torch.rand(2, 1, 3, 3)
    everywhere = prototype[:, :, None, None].expand_as(feature)
    torch.testing.assert_close(
        fuse(feature, prototype, other), fuse.conv(torch.cat([feature, everywhere, other], dim=1)), **CLOSE
    )


# --- prior -----------------------------------------------------------------------------------------------------------


def _slow_prior(query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
    """Return the prior of one query and one shot, (G, G), in float64."""
    keys = F.interpolate(support[None].double(), mask.shape, mode="bilinear", align_corners=True)[0].flatten(1)
    q = query.double().flatten(1)
    cosine = (q.T @ keys) / (q.norm(dim=0)[:, None] * keys.norm(dim=0) + 1e-7)
    rough = (cosine.softmax(1) @ mask.double().flatten()).view(query.shape[1:])
    fine = (rough - rough.min()) / (rough.max() - rough.min() + 1e-7)
    return F.interpolate(fine[None, None], mask.shape, mode="bilinear", align_corners=True)[0, 0]


def test_prior_is_the_stretched_attention_to_the_mask_also_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    query, support = torch.randn(2, 6, 5, 5), torch.randn(2, 6, 5, 5)
    mask = (torch.rand(2, 1, 8, 8) > 0.6).float()
    given = PseudoMask()(query, support, mask)
    for b in range(2):
        want = _slow_prior(query[b], support[b], mask[b, 0])
        torch.testing.assert_close(given[b, 0].double(), want, atol=1e-4, rtol=0)
    monkeypatch.setattr("model.sccan.pseudo_mask.MAX_SCORES", 1)
    torch.testing.assert_close(PseudoMask()(query, support, mask), given, **CLOSE)


def test_an_empty_mask_gives_no_prior_and_no_support() -> None:
    query, support = torch.randn(1, 6, 5, 5), torch.randn(1, 6, 5, 5)
    assert (PseudoMask()(query, support, torch.zeros(1, 1, 8, 8)) == 0).all()
    empty = torch.zeros(1, 256, 8, 8)
    assert (Fusion()(empty, torch.zeros(1, 256), torch.zeros(1, 1, 8, 8)) == 0).all()


# --- trained parameters ----------------------------------------------------------------------------------------------


def test_published_values_are_there_and_the_idle_ones_do_not_learn() -> None:
    with torch.device("meta"):
        network = SCCAN(SCCANSettings(), Task(15, 1, 473, 0))
    outside = [(name, p) for name, p in network.named_parameters() if not name.startswith("encoder.")]
    assert sum(p.numel() for _, p in outside) == PUBLISHED_VALUES
    idle = {name: p for name, p in outside if not p.requires_grad}
    assert sum(p.numel() for p in idle.values()) == IDLE_VALUES
    assert all(name.startswith(("attend.blocks.7.attend_support", "attend.blocks.7.mlp_support")) for name in idle)
    convolutions, attention = network.param_groups()
    assert (convolutions.optimizer, attention.optimizer) == ("main", "attention")
    assert all(p.ndim in (1, 2) for p in attention.params) and len(attention.params) == 8 * 24 - 10 + 2


def test_its_encoder_dilates_as_torchvision_does() -> None:
    assert small_model("sccan", 1).encoder.variant == ENCODER
    encoder = build_encoder(EncoderSettings(backbone="resnet18"), variant=ENCODER)
    found = {s: [getattr(encoder, f"layer{s}")[i].conv1.dilation[0] for i in (0, 1)] for s in (2, 3, 4)}
    assert found == {2: [1, 1], 3: [1, 2], 4: [2, 4]}
