"""Tests of reading configs: inheritance and overrides."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cli.configs import MINI, read_text, refusal, write_config
from tests.paths import REPOSITORY
from util.config.read import read_config


def test_sections_are_merged_key_by_key_and_lists_replaced(tmp_path: Path) -> None:
    write_config(
        tmp_path, "meta_stage: {augment: {scale: [0.5, 2.0], rotate: 3}}\ntest: {seeds: [1, 2, 3]}\n", "low.yaml"
    )
    path = write_config(tmp_path, "meta_stage: {augment: {rotate: 4}}\ntest: {seeds: [9]}\n", base=Path("low.yaml"))
    config = read_config(path)
    assert (config.meta_stage.augment.scale, config.meta_stage.augment.rotate) == ([0.5, 2.0], 4)
    assert config.test.seeds == [9]


def test_bases_are_sought_beside_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    write_config(tmp_path, "data: {shot: 4}\n", "top.yaml")
    write_config(tmp_path / "deep", "data: {fold: 2}\n", "middle.yaml", base=Path("../top.yaml"))
    path = write_config(tmp_path / "deep/er", "", base=Path("../middle.yaml"))
    monkeypatch.chdir(REPOSITORY)
    config = read_config(path)
    assert (config.data.shot, config.data.fold) == (4, 2)


def test_the_dataclasses_are_the_one_home_of_defaults() -> None:
    """``default.yaml`` names sections and sets no value."""
    content = yaml.safe_load((REPOSITORY / "config/default.yaml").read_text())
    assert content.pop("base") == "protocols.yaml"
    assert list(leaves(content)) == [] and content["meta_stage"] == content["base_stage"]


def leaves(content: dict) -> Iterator[object]:
    for value in content.values():
        yield from leaves(value) if isinstance(value, dict) else [value]


def test_overrides_win_over_files_and_later_ones_over_earlier(tmp_path: Path) -> None:
    overrides = ["data.fold=2", "meta_stage.augment.scale=[0.5, 1.5]", "data.fold=3", "test.seeds=[4]", "run.name=x=y"]
    overrides += ["meta_stage.augment={blur_probability: 0.25}", "data.name=2024-12-24"]
    config = read_text(tmp_path, "data: {fold: 1, shot: 5}\n", overrides)
    assert (config.data.fold, config.data.shot, config.test.seeds) == (3, 5, [4])
    assert (config.meta_stage.augment.scale, config.meta_stage.augment.blur_probability) == ([0.5, 1.5], 0.25)
    assert (config.run.name, config.data.name) == ("x=y", "2024-12-24")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("data.sise=97", ("unknown key 'data.sise'", "did you mean 'size'?")),
        ("data.size.x=97", ("data.size", "a whole number")),
        ("data=3", ("data = 3 must be a section",)),
        ("base=other.yaml", ("unknown key 'base'",)),
        ("test.protocol=symnett", ("did you mean 'symnet'?",)),
        ("test.seeds=[1", ("flow sequence",)),
        ("test={seeds: [1], seeds: [2]}", ("key 'seeds' is written twice",)),
    ],
)
def test_wrong_override_is_named(text: str, parts: tuple[str, ...]) -> None:
    message = refusal(MINI, [text])
    assert message.startswith(f"--set {text}: ")
    assert all(part in message for part in parts), message
