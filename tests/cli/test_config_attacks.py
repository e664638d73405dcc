"""Tests of configs that mean harm: names that leave their folder, endless chains, huge numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.configs import MINI, read_text, refusal, write_config
from util.config.read import from_dict, read_config, read_with_sources, to_dict
from util.config.sources import annotated
from util.engine.device import pick_device
from util.errors import UserError


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("run.name=../..", "run.name = '../..' must be a name"),
        ("run.name=/tmp/x", "must be a name"),
        ('run.name="a\\0b"', "must be a name"),
        ('run.name=" "', "must be a name"),
        ("data.name=../..", "data.name = '../..' must be a name"),
        (f"run.name={'x' * 300}", "must be a name"),
        ("run.seed=100000000000000000000000000", "run.seed = 100000000000000000000000000 is out of range"),
        (f"run.seed={'9' * 400}", "is out of range"),
        (f"run.seed={'9' * 5000}", "not a YAML value"),
        (f"meta_stage.save_minutes={'9' * 400}", "must be a number"),
        ("meta_stage.save_minutes=.inf", "is out of range"),
        ("meta_stage.save_minutes=.nan", "is out of range"),
        ("test.seeds=[99999999999999999999]", "is a number beyond"),
        ("test.seeds=[1, 2, 1]", "holds 1 twice"),
        ("data.size=1000000001", "between 33 and"),
        ("data.workers=100000", "between 0 and"),
        ("data.shot=1000000", "between 1 and"),
        ("data.classes=[a, b, a, c]", "names 'a' twice"),
        ('data.classes=["a\\nb", b, c, d]', "control characters"),
        ('data.classes=["", b, c, d]', "is empty"),
        ("data.classes=[&a [x, x], *a, *a]", "must be"),
        ("data.classes=" + "[" * 60 + "]" * 60, "levels deep"),
    ],
)
def test_values_that_mean_harm(override: str, part: str) -> None:
    message = refusal(MINI, [override])
    assert part in message and len(message) < 6000


def test_aliases_of_aliases_in_an_override() -> None:
    laughs = "[&a0 [x, x], " + ", ".join(f"&a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30)) + "]"
    assert "more than" in refusal(MINI, [f"data.classes={laughs}"])


def test_a_chain_of_many_bases(tmp_path: Path) -> None:
    for number in range(1500):
        (tmp_path / f"c{number}.yaml").write_text(f"base: c{number + 1}.yaml\n")
    assert "leads through more than 30 files" in refusal(tmp_path / "c0.yaml")


def test_a_base_named_twice_in_each_of_many_files(tmp_path: Path) -> None:
    for number in range(24):
        (tmp_path / f"d{number}.yaml").write_text(f"base: [d{number + 1}.yaml, ./d{number + 1}.yaml]\n")
    (tmp_path / "d24.yaml").write_text(f"base: {MINI}\n")
    assert read_config(tmp_path / "d0.yaml").data.name == "mini"


def test_a_base_that_is_missing_named_twice(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: [gone.yaml, gone.yaml]\n")
    assert "cannot read this config" in refusal(tmp_path / "a.yaml")


def test_a_config_that_is_too_large_is_not_parsed(tmp_path: Path) -> None:
    path = write_config(tmp_path, "# " + "x" * 5_000_000 + "\n")
    assert "the limit is" in refusal(path)


def test_an_override_with_a_line_break_adds_no_key(tmp_path: Path) -> None:
    """The written config names the override in a comment, whose second line would be a key."""
    text = annotated(*read_with_sources(MINI, ["data.text=names\n# run: x"]))
    (tmp_path / "a.yaml").write_text(text)
    assert "\n# run" not in text and read_config(tmp_path / "a.yaml").data.text == "names"


@pytest.mark.parametrize("name", ["meta", "xla", "cpu:99:1", "a\nb"])
def test_devices_that_hold_no_numbers(name: str) -> None:
    with pytest.raises(UserError, match=r"run\.device"):
        pick_device(name)


def test_a_config_from_a_checkpoint_is_checked_like_a_file(tmp_path: Path) -> None:
    content = to_dict(read_text(tmp_path, ""))
    assert to_dict(from_dict(content, "a.pth")) == content
    content["run"]["name"] = "../../elsewhere"
    with pytest.raises(UserError, match=r"a.pth: run.name = '../../elsewhere' must be a name"):
        from_dict(content, "a.pth")
