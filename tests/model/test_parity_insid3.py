"""INSID3 on the measured cases, which begin after the encoder, gives the numbers of the published implementation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parity_check import INSID3, cases, deviations

STEMS = [stem for model, stem in cases() if model == INSID3]


@pytest.mark.parity
@pytest.mark.parametrize("stem", STEMS)
def test_measured_case_is_reproduced(shared: Path, stem: str, device: str) -> None:
    assert [found for found in deviations(INSID3, stem, device) if not found.within] == []


def test_measured_cases_are_all_there(shared: Path) -> None:
    assert {"cnn_1shot", "vit_5shot", "cnn_2shot_rect", "cnn_3shot_smallmask", "cnn_1shot_nocandidate"} <= set(STEMS)
