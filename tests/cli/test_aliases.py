"""Settings that were renamed: files, overrides, checkpoints, results and manifests with the old spelling still load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.configs import MINI, read_text, refusal, write_config
from tests.report.conftest import result as drawn
from util.config import aliases
from util.config.aliases import modernise
from util.config.read import from_dict, read_config, to_dict
from util.data.manifest import read_manifest
from util.engine import checkpoint
from util.report.schema import read_result

# (old override, section and key of today, its value)
RENAMED = [
    ("meta_stage.average=0.99", "meta_stage.ema_decay", 0.99),
    ("base_stage.average=0.5", "base_stage.ema_decay", 0.5),
    ("meta_stage.input=squeeze", "meta_stage.input", "stretch"),
    ("meta_stage.supports=repeatable", "meta_stage.supports", "with_replacement"),
    ("meta_stage.augment.fit=squeeze", "meta_stage.augment.fit", "stretch"),
    ("model.object_weight=3", "model.foreground_weight", 3.0),
    ("protocols.symnet.query=walk", "protocols.symnet.query", "sequential"),
    ("protocols.symnet.supports=repeatable", "protocols.symnet.supports", "with_replacement"),
    ("protocols.hdmnet.input=squeeze", "protocols.hdmnet.input", "stretch"),
    ("protocols.symnet.input=canvas", "protocols.symnet.input", "letterbox"),
    ("protocols.symnet.scored_on=canvas", "protocols.symnet.scored_on", "letterbox"),
]


def value_of(content: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        content = content[part]
    return content


@pytest.mark.parametrize(("old", "key", "value"), RENAMED)
def test_an_old_spelling_means_the_new_setting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, old: str, key: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aliases, "_noticed", set())
    assert value_of(to_dict(read_config(MINI, [old])), key) == value
    (notice,) = [r.getMessage() for r in caplog.records if r.name == "symnet" and "now called" in r.getMessage()]
    assert notice.startswith(f"--set {old}: '") and "\n" not in notice
    dotted, _, written = old.partition("=")
    *sections, last = dotted.split(".")
    text = (
        "".join(f"{'  ' * i}{name}:\n" for i, name in enumerate(sections))
        + f"{'  ' * len(sections)}{last}: {written}\n"
    )
    assert value_of(to_dict(read_text(tmp_path, text)), key) == value
    assert f"run.yaml:{len(sections) + 2}: '" in caplog.records[-1].getMessage()


def test_each_notice_is_given_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aliases, "_noticed", set())
    for _ in range(2):
        read_config(MINI, ["meta_stage.average=0.9"])
    assert len(caplog.records) == 1


def test_the_later_of_two_spellings_wins(tmp_path: Path) -> None:
    low = write_config(tmp_path, "meta_stage: {average: 0.9}\n", "low.yaml")
    assert read_config(low, ["meta_stage.ema_decay=0.5"]).meta_stage.ema_decay == 0.5
    high = write_config(tmp_path, "meta_stage: {ema_decay: 0.5}\n", "high.yaml")
    assert read_config(high, ["meta_stage.average=0.9"]).meta_stage.ema_decay == 0.9


def test_both_spellings_in_one_place_are_refused(tmp_path: Path) -> None:
    message = refusal(write_config(tmp_path, "meta_stage: {average: 0.9, ema_decay: 0.5}\n"))
    assert "unknown key 'meta_stage.average'" in message


def old_config() -> dict[str, Any]:
    """Return a merged config as it was written before settings were renamed."""
    content = to_dict(read_config(MINI, ["meta_stage.ema_decay=0.9", "model.foreground_weight=2"]))
    for stage in ("base_stage", "meta_stage"):
        content[stage]["average"] = content[stage].pop("ema_decay")
    content["model"]["object_weight"] = content["model"].pop("foreground_weight")
    old = {"letterbox": "canvas", "stretch": "squeeze", "sequential": "walk", "with_replacement": "repeatable"}
    for entry in content["protocols"].values():
        entry |= {key: old.get(entry[key], entry[key]) for key in ("query", "supports", "input", "scored_on")}
    return content


def test_the_config_of_an_old_checkpoint_loads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, content = tmp_path / "old.pth", old_config()
    torch.save({"format": checkpoint.FORMAT, "stage": "meta", "config": content, "weights": {}}, path)
    loaded = checkpoint.read(path)["config"]
    wanted = to_dict(read_config(MINI, ["meta_stage.ema_decay=0.9", "model.foreground_weight=2"]))
    assert loaded == wanted and not checkpoint.changed_settings(loaded, wanted)
    assert to_dict(from_dict(content, "old.pth")) == wanted
    assert content == old_config() and not caplog.records  # nothing that could be edited, so nothing is said


def test_an_old_result_reads_as_a_new_one(tmp_path: Path) -> None:
    entry = {"query": "walk", "supports": "repeatable", "input": "canvas", "scored_on": "canvas"}
    facts = {"scored_on": "canvas", "input": "squeeze 400 x 400", "config": old_config(), "protocol_settings": entry}
    path = tmp_path / "result.json"
    path.write_text(json.dumps(drawn(**facts)))
    result = read_result(path)
    assert (result["scored_on"], result["input"]) == ("letterbox", "stretch 400 x 400")
    assert result["protocol_settings"] == {
        "query": "sequential",
        "supports": "with_replacement",
        "input": "letterbox",
        "scored_on": "letterbox",
        "list_file": None,  # pairs were made by the rule then
        "ways": 1,
        "absent": 0.0,
    }
    assert result["config"] == modernise(old_config()) and result["config"]["meta_stage"]["ema_decay"] == 0.9


def test_an_old_manifest_reads_as_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    rows = [{"manifest": "sym-net-manifest/1", "scored_on": "canvas"}, {"query": "a", "class": 1, "supports": ["b"]}]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert read_manifest(path).header["scored_on"] == "letterbox"


@pytest.mark.parametrize(
    "content", [{}, {"meta_stage": 3}, {"protocols": {"a": None}}, {"model": {"object_weight": []}}]
)
def test_damaged_content_is_left_to_its_reader(content: dict[str, Any]) -> None:
    assert isinstance(modernise(content), dict)
