"""A method without an encoder is chosen by its name, whatever NET says."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from model import contract
from model.contract import FewShotMethod, ModelSettings
from tests.helpers.paths import REPOSITORY
from tests.helpers.read import config_of
from util.config import compose, parts
from util.config.compose import find_config
from util.config.read import read_config
from util.files.errors import UserError
from util.run.build import build_model
from util.weights.encoders import start_encoders


class Toy(FewShotMethod):
    """A method of one layer."""

    title = "Toy"
    Settings = ModelSettings

    def __init__(self, settings: Any, task: Any) -> None:
        super().__init__(settings, task)
        self.layer = nn.Conv2d(3, 2, 1)


def test_a_method_without_encoder_is_chosen_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(f"base: {REPOSITORY}/config/default.yaml\nmodel: {{name: toy}}\ndata: {{text: none}}\n")
    monkeypatch.setitem(contract.METHODS, "toy", Toy)
    for module in (compose, parts):
        monkeypatch.setattr(module, "method_names", lambda: ["toy"])
        monkeypatch.setattr(module, "method_file", lambda _: path)
    for net in (None, "resnet10"):  # an encoder is one of other methods
        source = find_config("split0", "mini", "toy", net)
        assert str(source) == "split0 mini --model toy" and source.name == "mini_split0_toy"
    config = read_config(source, ["meta_stage.batch=4"])
    assert config.model.encoder is None and start_encoders(config, build_model(config, text_width=0))[0] == ""
    with pytest.raises(UserError, match="NET resnet0: unknown key 'model"):
        config_of("split0", "mini", "toy", "resnet0")
