"""Passes of networks over noise: what they cost, counted on tensors without memory, and how fast this machine is."""

import math
import time
import weakref
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet50

from model.common.fixed_shapes import fixed_shapes
from model.contract import Trainable
from model.episode import Episode, LabelledImages
from model.registry import class_of
from util.checkpoints.space import Stored
from util.config.settings import Config
from util.data.words.text import NAME_VECTOR_WIDTH
from util.run.device import CUDA, autocast, resolved
from util.run.network import build_model

UNIT_SIDE, UNIT_FLOPS, HOUR = 224, 8.18e9, 3600  # ResNet-50's, a multiplication and an addition being two
META = torch.device("meta")  # of tensors without memory


class Cost(NamedTuple):
    """The cost of a pass: operations of an image or episode, NaN if not known; the bytes of a process; checkpoints."""

    flops: float
    memory: int
    stored: Stored


@dataclass(frozen=True)
class Case:
    """A pass of a network, or of its base stage, over a batch: a training step without the optimiser, or an evaluation.

    Attributes:
        config: with ``data.size`` as the side of the images.
    """

    config: Config
    batch: int
    base: bool
    trains: bool

    def __str__(self) -> str:
        config, what = self.config, "base stage " if self.base else ""
        size, kind = config.data.size, "training" if self.trains else "evaluation"
        name = f"{class_of(config.model).title} {config.model.backbone() or ''}"
        return f"{name}, {size} px, {config.data.shot}-shot {what}{kind}, batch {self.batch}"

    def network(self, device: torch.device) -> Trainable:
        """Return the network on a device, with random weights, in evaluation."""
        model = build_model(self.config, NAME_VECTOR_WIDTH if class_of(self.config.model).reads_text else 0)
        return (model.base_stage() if self.base else model).eval().to(device)

    def episodes(self, device: torch.device) -> Episode:
        """Return a batch of noise with a brighter rectangle as the object of each image, on a device."""
        random, data = torch.Generator().manual_seed(0), self.config.data
        size, shape = data.size, (self.batch, data.shot + 1)
        label = torch.zeros(*shape, size, size, dtype=torch.uint8)
        label[..., size // 4 : size // 2, size // 4 : 3 * size // 4] = 1
        images = torch.randint(0, 128, (*shape, 3, size, size), dtype=torch.uint8, generator=random)
        images += 100 * label.unsqueeze(2)
        one = torch.ones(self.batch, dtype=torch.int64)
        return Episode(
            query=images[:, 0],
            query_label=label[:, 0],
            support=images[:, 1:],
            support_label=label[:, 1:],
            class_id=one,
            base_id=one,
            number=torch.arange(self.batch),
            query_base_label=label[:, 0].clone(),
            text=torch.randn(self.batch, NAME_VECTOR_WIDTH, generator=random),
        ).to(device)

    def run(self, network: Trainable, episodes: Episode) -> None:
        """Do the pass."""
        with nullcontext() if self.trains else torch.inference_mode():
            seen = LabelledImages(episodes.query, episodes.query_label) if self.base else episodes
            losses = network.train(self.trains)(seen).losses
            if self.trains:
                sum(losses.values(), torch.zeros(())).backward()

    def counted(self) -> Cost:
        """Return what the pass takes, with shapes that do not depend on values."""
        live, flops, episodes = LiveBytes(), FlopCounterMode(display=False), self.episodes(META)
        with META, fixed_shapes():
            network = self.network(META)
            with flops, live:
                self.run(network, episodes)
        stage = self.config.base_stage if self.base else None
        kept = Stored.of(network, stage or self.config.meta_stage)
        memory = kept.weights + live.peak + kept.beside * self.trains
        return Cost(flops.get_total_flops() / self.batch, memory, kept)


class LiveBytes(TorchDispatchMode):
    """A mode that counts the bytes of the tensors that are made in it, and the most that are alive at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known = set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and id(storage := tensor.untyped_storage()) not in self.known:
                self.known.add(id(storage))
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, id(storage), storage.nbytes())
        return out

    def _freed(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


class Machine:
    """The costs of cases, and the speed of a GPU of this machine or of its processor, each found once.

    Args:
        speed: of the machine that hours are of: images of 224 px a second through ResNet-50; None: of this one.
        precision: ``run.precision``; passes are in float32 for another machine, whose bf16 is not this one's.
    """

    def __init__(self, device: torch.device, speed: float | None, precision: str):
        self.device, self.gpu = device, device.type == CUDA
        self.precision = "float32" if speed else resolved(precision, device)
        self.threads = 1 if self.gpu else torch.get_num_threads()
        unit = self._rate(resnet50(), UNIT_SIDE)
        self.speed = speed or unit / UNIT_FLOPS
        self._times = self.speed * UNIT_FLOPS / unit  # as fast as this machine
        self._rates, self._costs = dict[str, float](), dict[str, Cost]()

    def cost(self, case: Case) -> Cost:
        """Return what a case takes; nothing is known of a network that asks for the values of tensors."""
        if (key := repr((case.config.model, str(case)))) not in self._costs:
            self._costs[key] = Cost(math.nan, 0, Stored(0, 0))
            with suppress(NotImplementedError, RuntimeError):
                self._costs[key] = case.counted()
        return self._costs[key]

    def hours(self, case: Case, number: float) -> float:
        """Return the hours that so many images or episodes of a case take, at the rate of its encoder."""
        if not number or math.isnan(self.cost(case).flops):
            return self.cost(case).flops if number else 0.0
        if (key := repr(case.config.model.encoder)) not in self._rates:
            network: Any = build_model(case.config, NAME_VECTOR_WIDTH)
            self._rates[key] = self._rate(network.encoder, case.config.data.size) * self._times
        return self.cost(case).flops * number / self._rates[key] / HOUR

    def _rate(self, network: nn.Module, side: int) -> float:
        """Return the operations of a network that are done in a second.

        The processor counts the time that it works for one thread of this process, which other work does not lengthen.
        """
        counter, images = FlopCounterMode(display=False), torch.zeros(32 if self.gpu else 1, 3, side, side)
        network, images = network.eval().to(self.device), images.to(self.device)
        clock, took = time.perf_counter if self.gpu else time.process_time, list[float]()
        torch.set_num_threads(1)
        with torch.inference_mode(), autocast(self.device, self.precision):
            with counter:
                network(images)
            for _ in range(2):
                started = clock()
                network(images)
                if self.gpu:
                    torch.cuda.synchronize()
                took.append(clock() - started)
        torch.set_num_threads(self.threads)
        return self.threads * counter.get_total_flops() / min(took)
