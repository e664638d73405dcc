"""A method that extends another and shares its settings keeps its name in configs; ``test_imports.py`` trains one."""

import pytest

from model import contract, registry
from model.contract import register
from util.config.compose import find_config
from util.config.read import from_dict, read_config, to_dict


@pytest.mark.parametrize("name", ["insid3", "ssp", "symnet"])
def test_a_config_keeps_the_name_of_a_subclass(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Its settings class is that of the method that it extends."""
    monkeypatch.setattr(contract, "MODELS", registry.models())  # undone afterwards
    sub = register(f"{name}_sub")(type("Sub", (contract.MODELS[name],), {}))
    config = read_config(find_config("split0", "mini", name), [f"model.name={name}_sub"])
    assert type(config.model) is registry.models()[name].Settings
    for again in (config, from_dict(to_dict(config), "a checkpoint")):
        assert registry.class_of(again.model) is sub
    assert to_dict(config)["model"]["name"] == f"{name}_sub"
    assert sub.title == f"{contract.MODELS[name].title} ({name}_sub)"
