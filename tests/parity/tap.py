"""TaP: the network that the measured cases define, adapted by the project's own additions, loss and steps."""

import itertools

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.adaptation import LowRank, learn
from model.contract import FewShotModel, Task
from model.episode import Episode, Output

SMALL, STRIDES = 1e-6, {"block1": 2, "block2": 1}


class Prototypes(FewShotModel):
    """Prototypes on a stem and two bottlenecks of frozen weights with additions."""

    def __init__(self, inputs: dict[str, np.ndarray]):
        super().__init__(None, Task(1, 1, 1, 0))
        given = {
            name: torch.from_numpy(array) for name, array in inputs.items() if name.startswith(("weight.", "lora_A."))
        }
        self.w, self.scale, self.low = given, float(inputs["scale"]), nn.ModuleDict()
        rank, alpha = int(inputs["rank"]), float(inputs["alpha"])
        for name in (name.removeprefix("lora_A.") for name in inputs if name.startswith("lora_A.")):
            self.low[name.replace(".", " ")] = low = LowRank(
                given[f"weight.{name}.weight"], rank, alpha, torch.Generator()
            )
            low.a = nn.Parameter(given[f"lora_A.{name}"].clone())

    def conv_norm(self, x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        weight, key = self.w[f"weight.{conv}.weight"], conv.replace(".", " ")
        weight = self.low[key](weight) if key in self.low else weight
        x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2)
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.w[f"weight.{norm}.{name}"] for name in names))

    def forward(self, episode: Episode) -> Output:
        x, label = torch.cat([episode.query, episode.support[0]]), episode.support_label[0]
        x = self.conv_norm(x, "stem", "stem_bn", 2).relu()
        for block, stride in STRIDES.items():
            y = self.conv_norm(x, f"{block}.conv1", f"{block}.bn1").relu()
            y = self.conv_norm(y, f"{block}.conv2", f"{block}.bn2", stride).relu()
            y = self.conv_norm(y, f"{block}.conv3", f"{block}.bn3")
            x = (y + self.conv_norm(x, f"{block}.down", f"{block}.down_bn", stride)).relu()
        cosines = []
        for mask in (label == 0, label == 1):
            share = F.interpolate(mask.float()[:, None], x.shape[-2:], mode="bilinear")
            prototype = (x[1:] * share).sum((0, 2, 3)) / (share.sum() + SMALL)
            cosines.append(F.cosine_similarity(x[:1], prototype[None, :, None, None], dim=1, eps=SMALL))
        logits = self.scale * torch.stack(cosines, dim=1)
        return Output(F.interpolate(logits, episode.query.shape[-2:], mode="bilinear"))


def tap_case(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return all outputs of a measured case, by the names of its file."""
    network, one = Prototypes(inputs).eval(), torch.ones(1).long()
    images, labels = (torch.from_numpy(inputs[name]) for name in ("images", "labels"))

    def episode(query: int, shots: list[int]) -> Episode:
        return Episode(images[[query]], labels[[query]], images[shots][None], labels[shots][None], one, one, one)

    shots = [*range(1, len(images))]
    tasks = []  # each support as the query of the others, a single one of itself
    for shot in shots:
        others = [other for other in shots if other != shot] or [shot]
        tasks.append(([episode(shot, others)], labels[[shot]]))
    steps = learn(network, itertools.cycle(tasks), float(inputs["lr"]))
    logits, losses = [], []
    for _ in range(int(inputs["rounds"])):
        logits.append(network(episode(0, shots)).logits[0].detach().numpy())
        losses.append([next(steps) for _ in tasks])
    out = {"logits_start": np.stack(logits), "losses": np.array(losses, np.float32)}
    out["logits_end"] = network(episode(0, shots)).logits[0].detach().numpy()
    for key, low in network.low.items():
        out |= {f"lora_{n}.{key.replace(' ', '.')}": x.detach().numpy() for n, x in (("A", low.a), ("B", low.b))}
    return out
