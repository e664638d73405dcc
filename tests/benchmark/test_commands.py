"""The command ``python -m util.benchmark`` on a small network: cases, numbers and mistakes."""

import re
import sys

import pytest
import torch

from model.encoders.settings import EncoderSettings, build_encoder
from util.benchmark import command
from util.files.errors import UserError

SMALL = ("--set", "run.device=cpu", "--set", "data.size=65")


def _run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    monkeypatch.setenv("NET", "resnet18")
    command()


@pytest.mark.benchmark
@pytest.mark.process
def test_an_evaluation_and_a_training_step_are_measured(monkeypatch, capsys, tmp_path) -> None:
    file = tmp_path / "encoder.pth"
    torch.save(build_encoder(EncoderSettings("resnet18", "plain")).state_dict(), file)
    _run(monkeypatch, "--models", "ssp", "--shot", "2", *SMALL, "--set", f"model.encoder.weights={file}")
    conditions, *lines = capsys.readouterr().out.splitlines()
    assert "cores" in conditions
    for line, case in zip(lines, ("2-shot evaluation, batch 1", "1-shot training, batch 4"), strict=True):
        milliseconds, mib, weights = re.fullmatch(
            rf"SSP \w+, 65 px, {case}: (.+) ms, (.+) MiB above .*; (.+)", line
        ).groups()
        assert float(milliseconds) > 0
        assert float(mib) >= 0
        assert f"weights of {file}, complete" in weights


@pytest.mark.parametrize(
    ("says", "words"),
    {"symnet": "--models symet", "data.size": "--models dcama --set data.size=65", "--shot": "--shot 0"}.items(),
)
def test_mistakes_are_refused(says: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=says):
        _run(monkeypatch, *words.split())
