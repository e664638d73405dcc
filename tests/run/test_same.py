"""Two configs differ in settings that decide the thing that is asked, and in none that decides less."""

import pytest

from model.decides import Decides
from tests.helpers.read import config_of
from util.config.read import to_dict
from util.config.same import deciding, differences

CHANGED = {  # by what they decide: settings, and other values of them
    Decides.NOTHING: {"run.folder": "x", "data.workers": 1, "test.checkpoint": "last", "meta_stage.validate_every": 2},
    Decides.SCORES: {"data.root": "x", "test.metrics": ["a"], "model.encoder.partial": True, "protocols.bam.ways": 2},
    Decides.WEIGHTS: {"run.seed": 1, "data.shot": 5, "model.aux_weight": 2.0, "meta_stage.optimizers.main.lr": 1.0},
    Decides.IDENTITY: {"data.fold": 1, "data.name": "x", "model.name": "ssp", "model.encoder.output_stride": 8},
}
NOW = to_dict(config_of("split0", "mini", "symnet", "resnet10"))


def changed(key: str, value: object, section: dict = NOW) -> dict:
    """Return the config, or a section of it, with another value of a setting."""
    name, _, rest = key.partition(".")
    return {**section, name: changed(rest, value, section[name]) if rest else value}


@pytest.mark.parametrize("decides", CHANGED)
def test_a_setting_differs_for_each_question_that_it_decides(decides: Decides) -> None:
    for key, value in CHANGED[decides].items():
        before = changed(key, value)
        for what in Decides:
            assert (key in differences(before, NOW, what)) == (decides >= what), (key, what)
        assert differences(before, NOW, Decides.NOTHING, skip=(key,)).keys() <= {key}


def test_what_a_config_lacks_is_no_difference_and_an_empty_section_neither() -> None:
    without_base = {key: value for key, value in NOW.items() if key != "base_stage"}
    assert not differences(without_base, NOW, Decides.NOTHING)
    assert not differences(NOW, without_base, Decides.IDENTITY)
    assert differences(NOW, without_base, Decides.WEIGHTS).keys() == {"base_stage"}
    assert not differences(
        {**NOW, "protocols": {"bam": {}}}, {"data": NOW["data"], "model": NOW["model"]}, Decides.IDENTITY
    )


def test_settings_of_a_method_that_is_not_known_decide_its_weights() -> None:
    settings = deciding(changed("model.name", "of_mylab"), Decides.WEIGHTS)["model"]
    assert settings["correlation"] == "pooled" and "weights" not in settings["encoder"]
