"""The linear decoder equals its layers one after the other; correlation distillation follows its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.hdmnet.correlation_distillation import correlation_distillation, true_distribution
from model.hdmnet.decoder import FixedNorm, LinearBlock, LinearDecoder
from tests.model.varied import vary_norms


def _varied(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return vary_norms(network)


def _layer_by_layer(block: LinearBlock, x: Tensor) -> Tensor:
    for conv, norm in ((block.enter, block.enter_norm), (block.mix, block.mix_norm), (block.leave, block.leave_norm)):
        x = conv(x)
        if norm is not None:
            x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    return x


@pytest.mark.parametrize(("out", "last_norm"), [(8, True), (2, False)])
def test_a_block_and_its_gradients_equal_its_layers(out: int, last_norm: bool) -> None:
    block = _varied(LinearBlock(8, out, last_norm))
    toward, x = torch.randn(2, out, 5, 6), torch.randn(2, 8, 5, 6)
    results = []
    for form in (block, lambda x: _layer_by_layer(block, x)):
        block.zero_grad()
        own = x.clone().requires_grad_()
        given = form(own)
        (given * toward).sum().backward()
        results.append([given.detach(), own.grad, *(p.grad.clone() for p in block.parameters())])
    for ours, slow in zip(*results, strict=True):
        torch.testing.assert_close(ours, slow, atol=2e-5 * slow.abs().max().item(), rtol=0)


def test_fixed_norms_are_the_same_in_training_and_survive_a_conversion_for_several_gpus() -> None:
    norm, x = _varied(FixedNorm(4)), torch.randn(3, 4, 2, 2)
    before = {k: v.clone() for k, v in norm.state_dict().items()}
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(norm)).train()
    assert torch.equal(converted(x), norm.eval()(x))
    assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())
    assert {n for n, _ in norm.named_parameters()} == {"weight", "bias"}


def test_the_decoder_goes_from_coarse_to_fine_without_aligned_corners() -> None:
    decoder = _varied(LinearDecoder(4, 3))
    levels = [torch.randn(1, 4, n, n) for n in (7, 4, 2)]
    x = F.relu(_layer_by_layer(decoder.refine[2], levels[2]))
    for i in (1, 0):
        x = F.interpolate(x, size=levels[i].shape[-2:], mode="bilinear", align_corners=False)
        x = x + F.relu(_layer_by_layer(decoder.refine[i], levels[i] + x))
    torch.testing.assert_close(decoder(levels), _layer_by_layer(decoder.head, x), atol=1e-4, rtol=1e-4)


# --- correlation distillation ----------------------------------------------------------------------------------------


def test_the_mask_teaches_cells_that_see_foreground_alone_and_all_where_none_does() -> None:
    label = torch.zeros(3, 9, 9, dtype=torch.uint8)
    label[0, :5, :5] = 1
    label[1, 4, 4] = 1
    label[2] = 1
    label[2, 7, 7] = 255
    given = true_distribution(label, (3, 3)).view(3, 3, 3)  # cells read pixels 1, 4 and 7 of each axis
    corner = torch.zeros(3, 3)
    corner[:2, :2] = 1 / 4
    centre, rest = torch.zeros(3, 3), torch.full((3, 3), 1 / 8)
    centre[1, 1], rest[2, 2] = 1, 0
    torch.testing.assert_close(given, torch.stack([corner, centre, rest]))
    torch.testing.assert_close(true_distribution(torch.zeros_like(label[:1]), (3, 3)), torch.full((1, 9), 1 / 9))


def test_distillation_is_the_mean_divergence_and_teachers_do_not_learn() -> None:
    torch.manual_seed(1)
    label = torch.zeros(1, 16, 16, dtype=torch.uint8)
    label[:, 4:, 4:] = 1
    maps = [torch.randn(1, n, n, requires_grad=True) for n in (8, 4, 2)]
    loss = correlation_distillation(maps, label)
    teachers = [F.interpolate(m.detach()[None], size=(n, n), mode="bilinear") for m, n in ((maps[1], 8), (maps[2], 4))]
    teachers = [t.flatten().softmax(0).numpy() for t in teachers] + [true_distribution(label, (2, 2))[0].numpy()]
    want = 0.0
    for teacher, student in zip(teachers, maps):
        own = student.detach().flatten().softmax(0).numpy()
        want += (teacher * (np.log(teacher + 1e-12) - np.log(own + 1e-12))).sum()
    assert loss.item() == pytest.approx(want / 3, rel=1e-5)
    loss.backward()
    own = maps[1].flatten().softmax(0)
    torch.testing.assert_close(maps[1].grad.flatten(), (own.detach() - torch.from_numpy(teachers[1])) / 3)
