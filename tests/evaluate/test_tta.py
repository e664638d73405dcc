"""Several views of an episode by one network: their inverse and average, their cost, the sides that models take."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.contract import FewShotModel, Task
from model.episode import Episode, Output
from model.mismatch import ModelMismatch
from tests.evaluate.quick import lines
from util.config.read import read_config
from util.data.episodes import collate
from util.errors import UserError
from util.evaluate import refine
from util.evaluate.jobs import build_test_jobs
from util.evaluate.refine import refined
from util.evaluate.testing import test as score
from util.evaluate.tta import TestTimeAugmentation, WithEdges
from util.runtime.context import make_run_context
from util.runtime.data import trials
from util.runtime.processes import ProcessGroup

pytestmark = pytest.mark.train

SIDE = 9


class Bright(FewShotModel):
    """A toy whose foreground is where red is bright, as far as column ``columns``; it keeps the sizes it saw."""

    def __init__(self, columns: float = 1.0):
        super().__init__(None, Task(1, 1, SIDE, 0))
        self.columns, self.saw = columns, []

    def forward(self, episode: Episode) -> Output:
        red = episode.query[:, 0].clone()  # (B, H, W)
        self.saw.append(tuple(red.shape[-2:]))
        red[..., round(self.columns * red.shape[-1]) :] = -1
        logits = torch.stack([torch.zeros_like(red), red], dim=1)
        base = torch.cat([logits, 2 * logits[:, 1:]], dim=1)
        return Output(logits, base, maps={"red": red})


def drawn(query: Tensor) -> Episode:
    """Return one episode of a query (1, 3, H, W), which is its own support."""
    label, number = torch.zeros(query.shape[0], *query.shape[-2:], dtype=torch.uint8), torch.zeros(1).long()
    return Episode(query, label, query[:, None], label[:, None], number + 1, number, number)


def test_a_flip_is_undone_before_averaging() -> None:
    """A network that uses the left half alone predicts each half in one of two passes, averaged with background."""
    left, query = 4 / SIDE, torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    network = Bright(left)
    plain, output = network(drawn(query)), TestTimeAugmentation([network], [1.0], True, False)(drawn(query))
    assert torch.equal(output.maps["red"], plain.maps["red"]) and output.base_logits.shape == plain.base_logits.shape
    seen, unseen = query[:, 0].sigmoid(), torch.tensor(-1.0).sigmoid()
    expected = (seen + unseen) / 2
    expected[..., 4] = unseen  # the middle is in neither half
    assert torch.allclose(output.logits.exp()[:, 1], expected, atol=1e-6)


def test_scales_are_seen_and_brought_back() -> None:
    """Each network sees its own size, mirrored too; sides are aligned, so no pixel of a ramp is shifted."""
    ramp = torch.linspace(0, 1, SIDE).expand(1, 3, SIDE, SIDE)
    networks = [Bright(), Bright(), Bright()]
    output = TestTimeAugmentation(networks, [1.0, 17 / SIDE, 5 / SIDE], True, False)(drawn(ramp))
    assert [network.saw for network in networks] == [[(side, side)] * 2 for side in (9, 17, 5)]
    assert torch.allclose(output.logits.exp()[:, 1], ramp[:, 0].sigmoid(), atol=2e-3)


WORLD = ProcessGroup(0, 1, torch.device("cpu"))
QUICK = {"checkpoint": "none", "episodes": 4, "seeds": [0], "pictures": 0, "batch": 2}
EVERYTHING = ("test.flip=true", "test.scales=[1.5, 1.0]", "test.fuse=masks", "test.edges=true", "data.shot=2")


@pytest.fixture
def config(mini_yaml):
    """Return a function that gives a config over the tiny data set, with overrides."""

    def make(name: str = "prototype", *overrides: str, **sections: dict):
        base = f"mini_split0_{name}_resnet10.yaml".replace("_symnet", "")
        path = mini_yaml(base, **{"run": {"base_folder": None}, "test": QUICK} | sections)
        return read_config(path, list(overrides))

    return make


@pytest.mark.parametrize(("model", "protocol"), [("hdmnet", "symnet"), ("prototype", "ssp")])
def test_masks_of_two_supports_are_the_mean_of_two_one_shot_predictions(config, model: str, protocol: str) -> None:
    context = make_run_context(config(model, "data.shot=2"))
    job = build_test_jobs(context.config, WORLD, (protocol,))[0]
    data = trials(context, job.test.samplers[0], job.test.view, (job.test.scored_on,))
    jobs = build_test_jobs(config(model), WORLD, (protocol,))
    network = jobs[0].prepared.network.eval()
    numbers = [0] if data.one_by_one else [0, 1]
    both = collate([data[n] for n in numbers]).episode
    alone = []
    for k in range(2):
        one = [data[n].episode for n in numbers]
        for item in one:
            item.support, item.support_label = item.support[k : k + 1], item.support_label[k : k + 1]
        alone.append(network(collate(one)).logits.softmax(1))
    with torch.inference_mode():
        output = TestTimeAugmentation([network], [1.0], False, True)(both)
    assert torch.allclose(output.logits.exp(), (alone[0] + alone[1]) / 2, atol=1e-6)
    assert not torch.allclose(alone[0], alone[1], atol=1e-6)


@pytest.mark.parametrize(
    ("model", "options", "name"),
    [
        ("prototype", EVERYTHING, "symnet_flip_scales-1.5-1_masks_edges_quick"),
        ("hdmnet", EVERYTHING[:1] + EVERYTHING[4:], "symnet_flip_untrained_quick"),
    ],
)
def test_the_feature_cache_changes_no_count(
    config, tmp_path: Path, capfd, model: str, options: tuple, name: str
) -> None:
    own, folder = ("test.batch=1", "test.episodes=6", *options), tmp_path / f"runs/tiny/test_2shot/{name}"
    score(config(model, *own))
    expected = lines(folder)
    score(config(model, *own, "test.cache_gib=1"))
    assert lines(folder) == expected
    line = next(line for line in "".join(capfd.readouterr()).splitlines() if "images from the feature cache" in line)
    assert int(line.split("seed 0: ")[1].split(" images")[0]) > 0, line


@pytest.mark.parametrize(
    ("model", "size", "scales", "sides"), [("symnet", 33, "[1.0, 1.5]", "33, 49"), ("ssp", 65, "[0.75, 1.0]", "49, 65")]
)
def test_every_model_takes_all_of_it(config, model: str, size: int, scales: str, sides: str) -> None:
    own = {"data": {"size": size, "shot": 2}, "test": {**QUICK, "episodes": 2, "flip": True, "fuse": "masks"}}
    protocols = ["symnet", "ssp"] if model == "ssp" else ["symnet"]
    results = score(config(model, f"test.scales={scales}", **own), protocols)
    times = scales.strip("[]").replace(".0", "")
    ends = [f"letterbox {size} x {size}; seen at px {sides}", f"original sizes, nothing resized; seen times {times}"]
    assert [r["input"] for r in results] == ends[: len(results)]
    assert all(r["passes"] == 8 and r["episodes"] == 2 for r in results)
    assert ("base" in results[0]["mean"]) == (model == "symnet")


def test_edges_change_the_margin_of_each_class_and_keep_those_of_the_network(config) -> None:
    context = make_run_context(config("prototype", "test.batch=2"))
    job = build_test_jobs(context.config, WORLD, ("2way",))[0]
    data = trials(context, job.test.samplers[0], job.test.view, (job.test.scored_on,))
    ways = collate([data[0], data[1]]).ways
    network = job.prepared.network.eval()
    with torch.inference_mode():
        before, after = (n.forward_classes(ways).logits for n in (network, WithEdges(network)))
        assert torch.equal(WithEdges(network).forward_classes(ways).extra["network"], before)
    photo, margins = ways[0].query[1], (before[1, 1:] - before[1, :1]).numpy()
    expected = torch.from_numpy(refined(photo.byte().permute(1, 2, 0).numpy(), margins))
    assert torch.allclose(after[1, 1:] - after[1, :1], expected, atol=1e-5)
    assert len(expected) == 2 and not torch.allclose(expected, torch.from_numpy(margins), atol=1e-2)


@pytest.mark.process
def test_edges_of_many_photos_are_the_same_from_processes_of_their_own(monkeypatch) -> None:
    random = np.random.default_rng(0)
    photos = list(random.integers(0, 255, (refine.MANY, 30, 40, 3), np.uint8))
    margins = list(random.standard_normal((refine.MANY, 1, 30, 40), np.float32))
    monkeypatch.setattr(refine, "usable_cores", lambda: refine.MANY)
    monkeypatch.setattr(refine, "MOST_PROCESSES", 1)
    found = refine.refined_photos(photos, margins)
    assert refine._processes.cache_info().currsize == 1
    for moved, photo, margin in zip(found, photos, margins, strict=True):
        np.testing.assert_array_equal(moved, refined(photo, margin))


def test_presence_scores_are_of_the_network_without_edges(config, tmp_path: Path) -> None:
    for own in ((), ("test.edges=true",)):
        score(config("prototype", *own), ["presence"])
    before, after = (lines(tmp_path / f"runs/tiny/test/{name}_quick") for name in ("presence", "presence_edges"))
    assert [e["presence"] for e in before] == [e["presence"] for e in after]
    assert [e["outputs"]["final"] for e in before] != [e["outputs"]["final"] for e in after]


def test_adaptation_of_each_episode_is_said_in_the_result(config, tmp_path: Path) -> None:
    own = "model.encoder.backbone=timm/test_efficientnet", "test.adapt=encoder", "test.episodes=2"
    result = score(config("pocket", *own, "data.shot=3"))[0]
    (words,) = result["averaged"]
    assert "TaP" in words and lines(tmp_path / f"runs/tiny/test_3shot/symnet_{words.replace(' ', '-')}_untrained_quick")
    for other in ("test.flip=true", "run.compile=true", "data.shot=1"):
        with pytest.raises(UserError, match=r"test\.adapt"):
            score(config("pocket", *own, "data.shot=2", other))
    with pytest.raises(ModelMismatch, match="no layer"):
        score(config("prototype", *own[1:], "data.shot=2"))
