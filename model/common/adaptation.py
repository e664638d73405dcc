"""TaP: low-rank additions to an encoder that learn from the supports (Take a Peek, arXiv 2512.10521, sections 3 and 4).

Each support in turn plays the query of the others, and one step is taken on its mask. Unlike the published form, the
answer is that of the network after the last step, there is no dropout, and the loss teaches the query's features alone:
those of a support are as they were when it last was the query.
"""

import copy
import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from statistics import fmean
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from model.common.ops import in_float32, resize
from model.common.with_encoder import WithEncoder
from model.contract import FewShotModel
from model.encoders.encoder import Encoder
from model.encoders.features import Features
from model.episode import IGNORE, Episode, EpisodeOfOriginalSizes
from model.mismatch import ModelMismatch

ATTENTION = ("qkv", "q_proj", "v_proj", "query", "value")  # names of linear layers
MOST = 4  # supports of a class in one step

MaskedImage = tuple[Tensor, Tensor]  # (1, 3, H, W) float32 and (1, H, W) uint8: 0, the number of a class, IGNORE


class AdaptSettings(NamedTuple):
    """The length and the place of learning."""

    steps: int = 10  # 2 rounds of 5 supports
    lr: float = 1e-4
    rank: int = 64  # at most; also at most half of a layer's channels
    stages: int = 1  # the last ones of the encoder, which get additions

    def __str__(self) -> str:
        return f"TaP of {self.steps} steps r {self.rank} lr {self.lr:g} in {self.stages} stage{'s'[: self.stages - 1]}"


SETTINGS = AdaptSettings()


class NotLearnt(ModelMismatch):
    """The supports teach nothing, or the loss on them grew: the network predicts as it is."""


class LowRank(nn.Module):
    """W + alpha / r B A of a layer's weight W, where A has the layer's kernel and B is 1x1; A starts drawn, B as 0."""

    def __init__(self, weight: Tensor, rank: int, alpha: float, random: torch.Generator):
        super().__init__()
        start = (2 * torch.rand(rank, *weight.shape[1:], generator=random) - 1) * weight[0].numel() ** -0.5
        self.a = nn.Parameter(start.to(weight.device))
        self.b = nn.Parameter(torch.zeros(len(weight), rank, *[1] * (weight.ndim - 2), device=weight.device))
        self.scale = alpha / rank

    @in_float32
    def forward(self, weight: Tensor) -> Tensor:
        """Return the changed weight."""
        return weight + self.scale * (self.b.flatten(1) @ self.a.flatten(1)).view_as(weight)


def adaptable(network: FewShotModel, settings: AdaptSettings = SETTINGS) -> list[nn.Module]:
    """Return the layers of a network's encoder that get additions; ModelMismatch if none does, or nothing learns.

    They are 1x1 convolutions beside a larger one (of bottlenecks and inverted residuals), and the linear layers that
    give query and value of attention.
    """
    layers: list[nn.Module] = []
    encoder = getattr(network, "encoder", None)
    if isinstance(encoder, Encoder) and network.learns and not network.generalised:
        for name, layer in encoder.named_modules():
            is_adapted = _is_attention(name, layer) or _is_pointwise_of_block(encoder, name, layer)
            if is_adapted and encoder.stage_of(f"{name}.weight") > encoder.last_stage - settings.stages:
                layers.append(layer)
    if not layers:
        needed = "TaP needs a network that learns, and bottlenecks or attention in its encoder"
        raise ModelMismatch(f"{network.title}: no layer can be adapted; {needed}")
    return layers


def _is_attention(name: str, layer: nn.Module) -> bool:
    """Return whether a layer gives query and value of attention."""
    return isinstance(layer, nn.Linear) and name.rpartition(".")[2] in ATTENTION


def _is_pointwise_of_block(encoder: Encoder, name: str, layer: nn.Module) -> bool:
    """Return whether a layer is a 1x1 convolution beside a larger one."""
    if not isinstance(layer, nn.Conv2d) or layer.groups > 1 or max(layer.kernel_size) > 1:
        return False
    block = encoder.get_submodule(name.rpartition(".")[0])
    return any(isinstance(other, nn.Conv2d) and max(other.kernel_size) > 1 for other in block.children())


@in_float32
def focal(logits_1nhw: Tensor, label_1hw: Tensor) -> Tensor:
    """Return the focal loss (gamma 2) with class weights 1 / log(1.1 + share), the mean also over ignored pixels."""
    valid = label_1hw != IGNORE
    share_n = torch.bincount(label_1hw[valid].long(), minlength=logits_1nhw.shape[1]) / valid.numel()
    target = label_1hw.long() * valid
    log_p = logits_1nhw.log_softmax(1).gather(1, target[:, None])[:, 0]
    weight = valid / (1.1 + share_n[target]).log()
    return -(weight * (1 - log_p.exp()) ** 2 * log_p).mean()


def learn(network: FewShotModel, steps: Iterable[tuple[Sequence[Episode], Tensor]], lr: float) -> Iterator[float]:
    """Take a step of AdamW on each episode, or on classes that compete, and yield its loss before the step.

    ``steps`` have the label (1, H, W) of the query: 0, i for the i-th class, ``IGNORE``.
    """
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr)
    for episodes, label in steps:
        loss = focal(resize(network.forward_classes(episodes).logits, label.shape[-2:]), label)
        if not loss.requires_grad:
            raise ModelMismatch(
                f"{network.title}: no gradient of its logits reaches the encoder, which cannot be adapted"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def fit(
    network: FewShotModel, ways: Sequence[Episode], settings: AdaptSettings = SETTINGS, seed: int = 0
) -> FewShotModel:
    """Return a copy of a network whose encoder is adapted to supports; the network itself stays as it is.

    ``ways`` has one episode (B = 1) for each class, with its supports; its query is not used.

    Raises:
        ModelMismatch: the network cannot be adapted.
        NotLearnt: no photo of object and background is beside another of its class, or the loss grew.
    """
    with torch.inference_mode(False), torch.enable_grad():
        adapted = cast(WithEncoder, copy.deepcopy(network).requires_grad_(False).eval())
        adapted.adapting = True
        photos = photos_of(ways)
        layers = adaptable(adapted, settings)
        random = torch.Generator().manual_seed(seed)
        for layer in layers:
            weight = cast(Tensor, layer.weight)
            rank = min(settings.rank, min(weight.shape[:2]) // 2)
            parametrize.register_parametrization(layer, "weight", LowRank(weight, rank, rank, random))
        losses: list[float] = []
        for loss in learn(adapted, _steps(adapted, ways, photos, settings.steps), settings.lr):
            losses.append(loss)
            if not fmean(losses[-len(photos) :]) <= 2 * fmean(losses[: len(photos)]):  # also if it is no number
                raise NotLearnt(f"{network.title}: the loss on the supports grew, step {len(losses)}")
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight")  # the sum becomes the weight
        adapted.adapting = False
    return adapted


def photos_of(ways: Sequence[Episode]) -> list[MaskedImage]:
    """Return the photos of all classes' supports, each once, in the order of their digests."""
    photos: dict[bytes, MaskedImage] = {}
    for number, way in enumerate(ways, 1):
        for image, label in way.shots(0):
            digest = hashlib.sha256(image.float().cpu().numpy().tobytes()).digest()
            classes = photos[digest][1] if digest in photos else torch.zeros_like(label[None])
            classes = classes.masked_fill((label == IGNORE) & (classes == 0), IGNORE)
            classes = classes.masked_fill(label == 1, number)
            photos[digest] = image[None].float().clone(), classes
    return [photos[digest] for digest in sorted(photos)]


def _steps(
    network: WithEncoder, ways: Sequence[Episode], photos: list[MaskedImage], count: int
) -> Iterator[tuple[list[Episode], Tensor]]:
    """Yield episodes whose queries are the photos in turn, one for each class that another photo shows, and a label."""
    supports = SupportPhotos(network, photos)
    turns = supports.queries(len(ways))
    if not turns:
        raise NotLearnt("TaP needs two supports of a class, and background beside the object in one of them")
    for step in range(count):
        place = turns[step % len(turns)]
        others = supports.others(place, lap=step // len(turns))
        query, label = photos[place]
        query_features = network.encode_query(replace(ways[0], query=query, cached_query=None))
        target = torch.where(label == IGNORE, label, 0)
        episodes: list[Episode] = []
        for number, way in enumerate(ways, 1):
            shots = supports.shots(number, others)
            if not shots:
                target[label == number] = IGNORE
                continue
            way = replace(way, query=query, query_label=label, query_base_label=None, cached_query=[query_features])
            episodes.append(supports.put_into(way, number, shots))
            target[label == number] = len(episodes)
        yield episodes, target
        supports.refresh(place, len(ways), query_features)


class SupportPhotos:
    """The photos of all classes as supports of each other, with the features that are known of them."""

    def __init__(self, network: WithEncoder, photos: list[MaskedImage]):
        self.network = network
        self.photos = photos
        self.classes = [set(label.unique().tolist()) for _, label in photos]  # of each photo; 0 is background
        self.shots_taken = network.shots_of(network.state_dict())  # of a network of a fixed number of shots
        self._features: dict[tuple[int, int], Features] = {}  # of a photo as a support of a class

    def queries(self, ways: int) -> list[int]:
        """Return the photos that show background, and a class that another photo shows too."""
        counts = Counter(number for classes in self.classes for number in classes)
        shared = {number for number in range(1, ways + 1) if counts[number] > 1}
        return [i for i, classes in enumerate(self.classes) if 0 in classes and classes & shared]

    def others(self, place: int, lap: int) -> deque[int]:
        """Return all photos but one, from the next one on; each lap begins one later."""
        others = deque([*range(place + 1, len(self.photos)), *range(place)])
        others.rotate(-lap)
        return others

    def shots(self, number: int, others: Iterable[int]) -> list[int]:
        """Return those of other photos that serve as supports of a class, as many as the network takes."""
        shots = [i for i in others if number in self.classes[i]][:MOST]
        if not shots:
            return []
        return list(islice(cycle(shots), self.shots_taken or len(shots)))

    def put_into(self, way: Episode, number: int, shots: list[int]) -> Episode:
        """Return an episode of a class with these photos as its supports."""
        images = [self.photos[i][0] for i in shots]
        labels = []
        for i in shots:
            label = self.photos[i][1]
            labels.append(torch.where(label == IGNORE, label, (label == number).to(label.dtype)))
        for i, image, label in zip(shots, images, labels):
            if (i, number) not in self._features:
                self._features[i, number] = self.network.cache_support(image[None], label[None])
        features = [self._features[i, number].rows(slice(None)) for i in shots]  # without what a model adds
        joint: Any = list if isinstance(way, EpisodeOfOriginalSizes) else partial(torch.stack, dim=1)
        return replace(way, support=joint(images), support_label=joint(labels), cached_support=features)

    def refresh(self, place: int, ways: int, features: Features) -> None:
        """Take the features that a photo had as a query; features of masked supports are computed again."""
        for number in range(1, ways + 1):
            if self.network.masks_supports:
                self._features.pop((place, number), None)
            else:
                self._features[place, number] = features.each(Tensor.detach)
