"""A sixth model is one file and one YAML: it trains, tests, and gets all that it declares; nothing else is touched."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import model
from model import contract, registry
from tests.helpers.paths import REPOSITORY
from tests.helpers.read import config_of, json_of
from tests.helpers.scored import score
from tests.helpers.trained import train_meta
from util.config import compose
from util.config.compose import find_config
from util.config.read import read_config
from util.config.settings import Config
from util.files.errors import UserError
from util.run.build import build_model
from util.run.run import Run
from util.train.observers import Patience
from util.weights import checkpoint
from util.weights.encoders import start_encoders

CODE = '''
"""A toy: two pixel-wise layers, weighed by the supports' mean colour."""

from dataclasses import dataclass

import torch
from torch import nn

from model.contract import FewShotMethod, ModelSettings, Output, ParamGroup, register
from model.parts.loss import cross_entropy
from model.tensors.ops import foreground_mask, normalise


@dataclass
class Settings(ModelSettings):
    width: int = 4


@register("toy")
class Toy(FewShotMethod):
    Settings, title, size_rule, shots_share_weights = Settings, "Toy", (4, 1), True

    def __init__(self, settings, task):
        super().__init__(settings, task)
        self.still, self.first = nn.BatchNorm2d(3), nn.Conv2d(3, settings.width, 1)
        self.last = nn.Conv2d(settings.width + 3, 2, 1)
        self.freeze()

    def frozen(self):
        yield self.still

    def param_groups(self):
        first = ParamGroup("first", list(self.first.parameters()), factor=0.5)
        return [first, ParamGroup("last", list(self.last.parameters()), optimizer="other")]

    def forward(self, episode):
        mask, support = foreground_mask(episode.support_label), normalise(episode.support)
        colour = (mask * support).sum((1, 3, 4)) / (mask.sum((1, 3, 4)) + 1)  # (B, 3)
        query = self.still(normalise(episode.query))
        colours = colour[:, :, None, None].expand_as(query)
        output = Output(self.last(torch.cat([self.first(query).relu(), colours], 1)).float())
        if self.training:
            output.losses = {"main": cross_entropy(output.logits, episode.query_label)}
        return output
'''
SETTINGS = """
base: {mini}
model: {{name: toy, width: 6}}
data: {{root: {root}, cache: {cache}, text: none, size: 33, min_pixels: 100}}
run: {{folder: {runs}, name: toy, device: cpu}}
meta_stage:
  epochs: 2
  epoch_length: 8
  batch: 4
  validate_episodes: 2
  optimizers: {{main: {{lr: 0.1}}, other: {{kind: adamw, lr: 0.01}}}}
test: {{episodes: 2, seeds: [0]}}
"""


@pytest.fixture
def toy(tmp_path: Path, mini_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put the toy's file beside the package's own and return the path of its YAML."""
    (tmp_path / "toy.py").write_text(textwrap.dedent(CODE))
    registry.methods()  # all of the package
    monkeypatch.setattr(model, "__path__", [*model.__path__, str(tmp_path)])
    mini = tmp_path / "mini.yaml"
    bases = [str(REPOSITORY / "config" / name) for name in ("default.yaml", "mini/mini.yaml")]
    mini.write_text(yaml.safe_dump({"base": bases}))
    path = tmp_path / "toy.yaml"
    folders = {"root": mini_root, "cache": tmp_path / "cache", "runs": tmp_path / "runs", "mini": mini}
    path.write_text(SETTINGS.format(**folders))
    yield path
    sys.modules.pop("model.toy", None)
    contract.METHODS.pop("toy", None)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(folder / "last.pth").entries["weights"]


def test_a_method_without_encoder_is_chosen_by_its_name(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "method_names", lambda: ["toy"])
    monkeypatch.setattr(compose, "method_file", lambda _: toy)
    for net in (None, "resnet10"):  # an encoder is one of other methods
        source = find_config("split0", "mini", "toy", net)
        assert str(source) == "split0 mini --model toy" and source.name == "mini_split0_toy"
    config = read_config(source)
    assert config.model.encoder is None and start_encoders(config, build_model(config, text_width=0))[0] == ""
    with pytest.raises(UserError, match="NET resnet0: unknown key 'model"):
        config_of("split0", "mini", "toy", "resnet0")


@pytest.mark.train
def test_a_model_of_one_file_and_one_yaml_trains_resumes_and_is_tested(toy: Path, monkeypatch) -> None:
    """In fp16, whose scale a checkpoint keeps, with two optimisers; it dies after an epoch."""
    config = read_config(toy, ["run.precision=fp16"])
    before = build_model(config, text_width=0).state_dict()
    assert train_meta(config) == 0
    folder = Run(config).folder("meta")
    unbroken = weights_of(folder)
    unchanged = {name for name, tensor in unbroken.items() if torch.equal(tensor, before[name])}
    assert unchanged == {name for name in unbroken if name.startswith("still")}
    die_after_an_epoch(config, monkeypatch)
    assert train_meta(config, resume=True) == 0
    torch.testing.assert_close(weights_of(folder), unbroken, rtol=0, atol=0)
    assert json_of(folder / "metrics.json")["finished"]
    (result,) = score(config)
    assert (result["model"], result["backbone"]) == ("toy", None) and result["mean"]["final"]["miou"] >= 0


def die_after_an_epoch(config: Config, monkeypatch) -> None:
    """Train anew to the end of the first epoch, whose checkpoint holds the state of the optimisers."""
    with monkeypatch.context() as patched:
        patched.setattr(Patience, "ends", lambda self, training: training.progress.step == 2 and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_meta(config, overwrite=True)
    content = checkpoint.read(Run(config).folder("meta") / "last.pth").entries
    assert content["optimizers"]["main"]["state"] and content["optimizers"]["other"]["state"]
    assert content["scaler"]["scale"] > 1
