"""A method that extends another and shares its settings is a method of its own: in configs, trainings and results."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from model import contract, registry
from model.contract import FewShotMethod, Output, register
from model.ssp.ssp import SSP
from tests.helpers.scored import score
from tests.helpers.trained import train_meta
from util.config.compose import find_config
from util.config.read import from_dict, read_config, to_dict
from util.evaluate.evaluation import Evaluation
from util.evaluate.schema import RESULT, read_results
from util.report.results import row_name
from util.report.verify import DIFFERS, checks_of
from util.run.build import build_model
from util.run.run import Run
from util.weights import checkpoint

SHORT = {"epoch_length": 8, "validate_episodes": 2}
FAST = {"episodes": 2, "seeds": [0]}


@pytest.fixture
def subclass(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], type[FewShotMethod]]:
    """Return a function that registers a subclass of a method as ``<name>_sub``, without settings of its own."""
    monkeypatch.setattr(contract, "MODELS", registry.models())  # undone afterwards

    def make(name: str) -> type[FewShotMethod]:
        return register(f"{name}_sub")(type("Sub", (contract.MODELS[name],), {}))

    return make


@pytest.mark.parametrize("name", ["insid3", "ssp", "symnet"])
def test_a_config_keeps_the_name_of_a_subclass(subclass, name: str) -> None:
    """Its settings class is that of the method that it extends."""
    sub = subclass(name)
    config = read_config(find_config("split0", "mini", name), [f"model.name={name}_sub"])
    assert type(config.model) is registry.models()[name].Settings
    for again in (config, from_dict(to_dict(config), "a checkpoint")):
        assert registry.class_of(again.model) is sub
    assert to_dict(config)["model"]["name"] == f"{name}_sub"
    assert sub.title == f"{contract.MODELS[name].title} ({name}_sub)"


@pytest.mark.train
def test_a_registered_subclass_is_trained_and_tested(mini_yaml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "MODELS", registry.models())

    @register("ssp_dim")
    class Dim(SSP):
        def predict(self, maps, shots, episode) -> Output:
            output = super().predict(maps, shots, episode)
            output.losses = {f"dim_{name}": loss for name, loss in output.losses.items()}
            output.logits = 0.5 * output.logits.flip(1)
            return output

    path = mini_yaml("ssp", meta_stage=SHORT, test=FAST)
    config = read_config(path, ["model.name=ssp_dim", "run.name=dim"])
    assert type(build_model(config, text_width=0)) is Dim
    assert train_meta(config) == 0
    folder = Run(config).folder("meta")
    assert "method: SSP (ssp_dim), model.name ssp_dim, class Dim of" in "\n".join(
        (folder / "log.txt").read_text().splitlines()[:2]
    )
    losses = json.loads((folder / "metrics.json").read_text())["epochs"][0]["losses"]
    assert {name for name in losses if name.startswith("dim_")}
    assert checkpoint.read(folder / "best.pth").entries["config"]["model"]["name"] == "ssp_dim"
    score(config)
    plain = read_config(path, ["run.name=plain", f"test.checkpoint={folder / 'best.pth'}"])
    score(plain)
    check_results(*(Evaluation.of(each).folder / RESULT for each in (config, plain)))


def check_results(path: Path, of_plain: Path) -> None:
    """Check the results of a subclass, and of the method that it extends with its weights."""
    results = read_results([path, of_plain])
    assert (results[path]["model"], results[path]["method"]) == ("ssp_dim", "SSP (ssp_dim)")
    assert (results[of_plain]["model"], results[of_plain]["method"]) == ("ssp", "SSP")
    assert results[path]["trained_otherwise"] == []
    assert results[of_plain]["trained_otherwise"] == ["model.name = ssp_dim, now ssp"]
    assert row_name(results[path]).startswith("SSP (ssp_dim) ")
    assert results[path]["mean"]["final"] != results[of_plain]["mean"]["final"]
    assert DIFFERS not in {outcome for outcome, _ in checks_of(path, results[path]).values()}
