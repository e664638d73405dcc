"""Several views of an episode by one network: their inverse and average, their cost, the sides that models take."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.contract import FewShotModel, Task
from model.episode import Episode, Output
from model.mismatch import ModelMismatch
from tests.evaluate.quick import lines
from tests.helpers.close import close
from util.config.read import read_config
from util.data.episodes import TrialDataset, collate
from util.errors import UserError
from util.evaluate import refine
from util.evaluate.jobs import TestJob, build_test_jobs
from util.evaluate.refine import refined
from util.evaluate.testing import test as score
from util.evaluate.tta import TestTimeAugmentation, WithEdges
from util.runtime.data import trials
from util.runtime.processes import ProcessGroup

pytestmark = pytest.mark.train

SIDE = 9


class Bright(FewShotModel):
    """A toy whose foreground is where red is bright, as far as a share ``columns``; it keeps its queries' sizes."""

    def __init__(self, columns: float = 1.0):
        super().__init__(None, Task(1, 1, SIDE, 0))
        self.columns = columns
        self.sizes = []

    def forward(self, episode: Episode) -> Output:
        red = episode.query[:, 0].clone()  # (B, H, W)
        self.sizes.append(tuple(red.shape[-2:]))
        red[..., round(self.columns * red.shape[-1]) :] = -1
        logits = torch.stack([torch.zeros_like(red), red], dim=1)
        base = torch.cat([logits, 2 * logits[:, 1:]], dim=1)
        return Output(logits, base, maps={"red": red})


def drawn(query: Tensor) -> Episode:
    """Return one episode of a query (1, 3, H, W), which is its own support."""
    label = torch.zeros(query.shape[0], *query.shape[-2:], dtype=torch.uint8)
    number = torch.zeros(1).long()
    return Episode(
        query=query,
        query_label=label,
        support=query[:, None],
        support_label=label[:, None],
        class_id=number + 1,
        base_id=number,
        number=number,
    )


def test_a_flip_is_undone_before_averaging() -> None:
    """A network that uses the left half alone predicts each half in one of two passes, averaged with background."""
    query = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    network = Bright(columns=4 / SIDE)
    plain = network(drawn(query))
    output = TestTimeAugmentation([network], [1.0], flip=True, by_support=False)(drawn(query))
    assert close(output.maps["red"], plain.maps["red"])
    assert output.base_logits.shape == plain.base_logits.shape
    inside = query[:, 0].sigmoid()
    outside = torch.tensor(-1.0).sigmoid()
    expected = (inside + outside) / 2
    expected[..., 4] = outside  # the middle is in neither half
    assert torch.allclose(output.logits.exp()[:, 1], expected, atol=1e-6)


def test_logits_of_scales_are_resized_to_the_query() -> None:
    """Each network gets its size, mirrored too; sides are aligned, so no pixel of a ramp is shifted."""
    ramp = torch.linspace(0, 1, SIDE).expand(1, 3, SIDE, SIDE)
    networks = [Bright(), Bright(), Bright()]
    averaged = TestTimeAugmentation(networks, [1.0, 17 / SIDE, 5 / SIDE], flip=True, by_support=False)
    output = averaged(drawn(ramp))
    assert [network.sizes for network in networks] == [[(side, side)] * 2 for side in (9, 17, 5)]
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
    data = trials_of(build_test_jobs(config(model, "data.shot=2"), WORLD, (protocol,))[0])
    (job,) = build_test_jobs(config(model), WORLD, (protocol,))
    network = job.prepared.network.eval()
    numbers = [0] if data.one_by_one else [0, 1]
    both = collate([data[n] for n in numbers]).episode
    first = one_shot_prediction(network, data, numbers, support=0)
    second = one_shot_prediction(network, data, numbers, support=1)
    with torch.inference_mode():
        output = TestTimeAugmentation([network], [1.0], flip=False, by_support=True)(both)
    assert torch.allclose(output.logits.exp(), (first + second) / 2, atol=1e-6)
    assert not torch.allclose(first, second, atol=1e-6)


def trials_of(job: TestJob) -> TrialDataset:
    """Return the episodes of a job's first seed."""
    test = job.test
    return trials(test.context, test.samplers[0], test.view, (test.scored_on,))


def one_shot_prediction(network: FewShotModel, data: TrialDataset, numbers: list[int], support: int) -> Tensor:
    """Return a network's probabilities for episodes by one of their supports."""
    episodes = [data[n].episode for n in numbers]
    for episode in episodes:
        episode.support = episode.support[support : support + 1]
        episode.support_label = episode.support_label[support : support + 1]
    return network(collate(episodes)).logits.softmax(1)


@pytest.mark.parametrize(
    ("model", "options", "name"),
    [
        ("prototype", EVERYTHING, "symnet_flip_scales-1.5-1_masks_edges_quick"),
        ("hdmnet", ("test.flip=true", "data.shot=2"), "symnet_flip_untrained_quick"),
    ],
)
def test_the_feature_cache_changes_no_count(
    config, tmp_path: Path, capfd, *, model: str, options: tuple, name: str
) -> None:
    overrides = ("test.batch=1", "test.episodes=6", *options)
    folder = tmp_path / f"runs/tiny/test_2shot/{name}"
    score(config(model, *overrides))
    expected = lines(folder)
    score(config(model, *overrides, "test.cache_gib=1"))
    assert lines(folder) == expected
    printed = "".join(capfd.readouterr())
    images_from_cache = re.search(r"seed 0: (\d+) images from the feature cache", printed)
    assert images_from_cache is not None
    assert int(images_from_cache[1]) > 0


LETTERBOX_33 = "letterbox 33 x 33; seen at px 33, 49"
LETTERBOX_65 = "letterbox 65 x 65; seen at px 49, 65"
ORIGINAL = "original sizes, nothing resized; seen times 0.75, 1"


@pytest.mark.parametrize(
    ("model", "size", "scales", "inputs"),
    [
        ("symnet", 33, "[1.0, 1.5]", {"symnet": LETTERBOX_33}),
        ("ssp", 65, "[0.75, 1.0]", {"symnet": LETTERBOX_65, "ssp": ORIGINAL}),
    ],
)
def test_every_model_takes_all_of_it(config, model: str, size: int, scales: str, inputs: dict) -> None:
    test = {**QUICK, "episodes": 2, "flip": True, "fuse": "masks"}
    sections = {"data": {"size": size, "shot": 2}, "test": test}
    results = score(config(model, f"test.scales={scales}", **sections), [*inputs])
    assert {result["protocol"]: result["input"] for result in results} == inputs
    assert {(result["passes"], result["episodes"]) for result in results} == {(8, 2)}
    assert ("base" in results[0]["mean"]) == (model == "symnet")


def test_edges_change_the_margin_of_each_class_and_keep_those_of_the_network(config) -> None:
    (job,) = build_test_jobs(config("prototype", "test.batch=2"), WORLD, ("2way",))
    data = trials_of(job)
    ways = collate([data[0], data[1]]).ways
    network = job.prepared.network.eval()
    with torch.inference_mode():
        before = network.forward_classes(ways).logits
        output = WithEdges(network).forward_classes(ways)
    assert close(output.extra["network"], before)
    photo = ways[0].query[1].byte().permute(1, 2, 0).numpy()
    margins = before[1, 1:] - before[1, :1]
    expected = torch.from_numpy(refined(photo, margins.numpy()))
    after = output.logits[1, 1:] - output.logits[1, :1]
    assert torch.allclose(after, expected, atol=1e-5)
    assert len(expected) == 2
    assert not torch.allclose(expected, margins, atol=1e-2)


@pytest.mark.process
def test_edges_of_many_photos_are_the_same_from_processes_of_their_own(monkeypatch) -> None:
    random = np.random.default_rng(0)
    photos = list(random.integers(0, 255, (refine.MANY, 30, 40, 3), np.uint8))
    margins = list(random.standard_normal((refine.MANY, 1, 30, 40), np.float32))
    monkeypatch.setattr(refine, "usable_cores", lambda: refine.MANY)
    monkeypatch.setattr(refine, "MOST_PROCESSES", 1)
    from_processes = refine.refined_photos(photos, margins)
    assert refine._processes.cache_info().currsize == 1
    for refined_margins, photo, margin in zip(from_processes, photos, margins, strict=True):
        assert close(refined_margins, refined(photo, margin))


def test_presence_scores_are_of_the_network_without_edges(config, tmp_path: Path) -> None:
    score(config("prototype"), ["presence"])
    score(config("prototype", "test.edges=true"), ["presence"])
    before = lines(tmp_path / "runs/tiny/test/presence_quick")
    after = lines(tmp_path / "runs/tiny/test/presence_edges_quick")
    assert close([episode["presence"] for episode in after], [episode["presence"] for episode in before])
    assert [episode["outputs"]["final"] for episode in before] != [episode["outputs"]["final"] for episode in after]


def test_adaptation_of_each_episode_is_said_in_the_result(config, tmp_path: Path) -> None:
    adapt = ("test.adapt=encoder", "test.episodes=2")
    encoder = "model.encoder.backbone=timm/test_efficientnet"
    (result,) = score(config("pocket", encoder, *adapt, "data.shot=3"))
    (words,) = result["averaged"]
    assert "TaP" in words
    assert lines(tmp_path / f"runs/tiny/test_3shot/symnet_{words.replace(' ', '-')}_untrained_quick")
    for other in ("test.flip=true", "run.compile=true", "data.shot=1"):
        with pytest.raises(UserError, match=r"test\.adapt"):
            score(config("pocket", encoder, *adapt, "data.shot=2", other))
    with pytest.raises(ModelMismatch, match="no layer"):
        score(config("prototype", *adapt, "data.shot=2"))
