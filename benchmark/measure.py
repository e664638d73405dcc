"""One measured case: a method at one size in evaluation or training; its seconds, or its peak memory."""

from __future__ import annotations

import contextlib
import copy
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from model.common.ops import normalise
from model.contract import FewShotModel
from model.encoders.resnet import ResNetEncoder
from model.episode import Episode
from model.registry import class_of
from util.cli import configure_process
from util.config.settings import Config
from util.run.device import pick_device
from util.run.network import build_model

EVALUATION, TRAINING = "evaluation", "training"
MIB = 2**20
TEXT_WIDTH = 300  # of word2vec
NORM_WEIGHT = 0.5  # of batch norms; with 1 the maps of random residual networks grow from block to block

Run = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A method with its config, in episodes or training steps of a batch; ``repeats`` are the rounds of ``seconds``."""

    name: str
    config: Config
    stage: str
    batch: int
    device: str
    threads: int
    repeats: int

    def __str__(self) -> str:
        data, backbone = self.config.data, self.config.model.backbone() or ""
        return f"{self.name} {backbone}, {data.size} px, {data.shot}-shot {self.stage}, batch {self.batch}"

    def prepare(self) -> tuple[FewShotModel, Episode, Run]:
        """Set this process up as a command does, and return network, episodes and one pass over them."""
        configure_process(self.stage == TRAINING)
        torch.set_num_threads(self.threads)
        device, reads_text = pick_device(self.device), class_of(self.config.model).reads_text
        network = build_model(self.config, TEXT_WIDTH if reads_text else 0).eval().to(device)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.weight, NORM_WEIGHT)
        episode = _episode(self.config.data.size, self.config.data.shot, self.batch).to(device)

        def step() -> None:
            network.train()
            sum(network(episode).losses.values(), torch.zeros((), device=device)).backward()
            network.zero_grad(set_to_none=True)
            network.eval()

        return network, episode, step if self.stage == TRAINING else torch.inference_mode()(lambda: network(episode))


def seconds(case: Case) -> dict[str, float]:
    """Return seconds and units of an episode, the median over rounds in which all take turns.

    A unit is one image through the method's encoder, a residual one as torchvision computes it: convolution, norm and
    ReLU one after the other. ``encoder_units`` is the same image through the encoder as it is.
    """
    network, episode, run = case.prepare()
    image, runs = normalise(episode.query[:1]), {"episode": run}
    encoder = getattr(network, "encoder", None)
    if encoder is not None:
        plain = copy.deepcopy(encoder).to(memory_format=torch.contiguous_format)
        runs["encoder"] = torch.inference_mode()(lambda: encoder(image))
        runs["unit"] = torch.inference_mode()(lambda: _plain(plain, image))
    for each in runs.values():
        each()
    took: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(case.repeats):
        for name, each in runs.items():
            took[name].append(_timed(each))
    unit = took.get("unit", [float("nan")] * case.repeats)
    return {
        "seconds": median(took["episode"]) / case.batch,
        "units": median(a / b for a, b in zip(took["episode"], unit)) / case.batch,
        "unit_seconds": median(unit),
        "encoder_units": median(a / b for a, b in zip(took.get("encoder", unit), unit)),
    }


def peak_memory(case: Case) -> dict[str, float]:
    """Return the peak of a pass in MiB above network and episodes, and the whole: of the process, on a GPU of torch."""
    _, episode, run = case.prepare()
    on_gpu = episode.query.is_cuda
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
    before = torch.cuda.memory_allocated() / MIB if on_gpu else _status("VmRSS")
    run()
    peak = torch.cuda.max_memory_allocated() / MIB if on_gpu else _status("VmHWM")
    return {"mib": peak - before, "peak_mib": peak}


def _timed(run: Run) -> float:
    """Return the seconds of a call, until the device has finished."""
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _plain(encoder: nn.Module, image: Tensor) -> object:
    """Return the last stage's map, of a residual network by torchvision's own blocks; others are plain already."""
    if not isinstance(encoder, ResNetEncoder):
        return encoder(image)
    for i in range(encoder.last_stage + 1):
        image = encoder.stage(i)(image)
    return image


def _status(name: str) -> float:
    """Return a value of /proc/self/status in MiB; where there is none, the peak."""
    file = Path("/proc/self/status")
    if not file.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return int(next(line for line in file.read_text().splitlines() if line.startswith(name)).split()[1]) / 2**10


def _episode(size: int, shots: int, batch: int) -> Episode:
    """Return B episodes of noise with a brighter rectangle as the object of each image."""
    random = torch.Generator().manual_seed(0)
    label = torch.zeros(batch, shots + 1, size, size, dtype=torch.uint8)
    label[..., size // 4 : size // 2, size // 4 : 3 * size // 4] = 1
    images = torch.randint(0, 128, (batch, shots + 1, 3, size, size), dtype=torch.uint8, generator=random)
    images += 100 * label.unsqueeze(2)
    one = torch.ones(batch, dtype=torch.int64)
    return Episode(
        query=images[:, 0],
        query_label=label[:, 0],
        support=images[:, 1:],
        support_label=label[:, 1:],
        class_id=one,
        base_id=one,
        number=torch.arange(batch),
        query_base_label=label[:, 0].clone(),
        text=torch.randn(batch, TEXT_WIDTH, generator=random),
    )
