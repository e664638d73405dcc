"""Norms of networks that several GPUs train: those that learn are converted, and give the same in one process."""

import copy
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.multiprocessing import start_processes
from torch.nn.modules.batchnorm import _BatchNorm

from model.encoders.registry import build
from tests.helpers.narrow import NARROW
from util.loop.network import prepare_network, synchronise_norms
from util.loop.processes import ProcessGroup


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize(
    "backbone", (NARROW, *(f"timm/test_{name}" for name in ("efficientnet", "resnet", "convnext", "vit")))
)
def test_an_encoder_is_the_same_whether_its_norms_learn_or_not(backbone: str, learns: bool) -> None:
    torch.manual_seed(0)
    network, x = build(backbone).requires_grad_(False), torch.randn(2, 3, 65, 65)
    for norm in network.modules():
        if isinstance(norm, _BatchNorm):
            norm.running_mean.uniform_(-0.1, 0.1)
            norm.running_var.uniform_(0.5, 2)
            if not learns:  # frozen parts stay in evaluation
                norm.eval().train = lambda mode=True: None
    synchronised = copy.deepcopy(network)
    synchronise_norms(synchronised)
    norms = [module for module in synchronised.modules() if isinstance(module, _BatchNorm)]
    assert all(isinstance(norm, nn.SyncBatchNorm) == learns for norm in norms)
    for mode in (False, True, False):
        given = synchronised.train(mode)(x).stage
        for stage, want in network.train(mode)(x).stage.items():
            torch.testing.assert_close(given[stage], want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))


def _a_network(device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 3)).to(device)


def _gradients(learner: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the gradients of a loss that is a mean over images, by the names of parameters without a wrapper's."""
    learner.train()(images).square().mean().backward()
    return {name.removeprefix("module."): p.grad.cpu() for name, p in learner.named_parameters()}


def _write_gradients_of_a_share(rank: int, folder: Path, images: torch.Tensor, device: torch.device) -> None:
    """Be one of two processes on one GPU, which NCCL does not serve; write the gradients, which both exchange."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    prepared = prepare_network(_a_network(device), device, trained_by=ProcessGroup(rank, 2, device))
    torch.save(_gradients(prepared.learner, images.chunk(2)[rank].to(device)), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.process
def test_two_processes_have_the_whole_batchs_gradients(device: str, tmp_path: Path) -> None:
    """Norms whose statistics were of each process's images alone would give others."""
    if device == "cpu" or not torch.version.cuda or not torch._C._cuda_getDeviceCount():
        pytest.skip("needs a GPU: the CPU has no synchronised norms")
    place = torch.device(device, 0)
    images = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    images[2:] += 3  # the halves differ, so their statistics do
    expected = _gradients(_a_network(place), images.to(place))
    start_processes(_write_gradients_of_a_share, (tmp_path, images, place), nprocs=2, start_method="spawn")
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected, rtol=1e-4, atol=1e-6)
