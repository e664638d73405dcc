"""The contract's tests on the device that ``--device`` names."""

import pytest
import torch

from tests.model import contract_cases


@pytest.fixture
def on_device(device: str) -> None:
    """Let the contract's models and episodes be on the device."""
    contract_cases.device = torch.device(device)
