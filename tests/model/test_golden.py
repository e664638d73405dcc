"""Every method's numbers beside golden files: outputs, losses and gradients of small networks with drawn weights,
of the meta stage and of the base stage.

``python -m tests.model.test_golden METHOD ...`` writes their files anew: only where numbers are meant to change.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model.contract import FewShotModel
from model.encoders.residual import SMALL
from model.episode import Episode, LabelledImages
from tests.helpers.narrow import NARROW
from tests.model.seeded import seeded_model, takes
from tests.model.small import WITH_ENCODER, drawn_episode, without_dropout
from util.evaluate.evaluate import scored_outputs

FOLDER = Path(__file__).parents[1] / "golden"
ENCODERS = {"hdmnet": SMALL}  # multiplies the scene's distance, whose rounding shows where channels are few
CASES = [(name, ENCODERS.get(name, NARROW)) for name in WITH_ENCODER if takes(name, ENCODERS.get(name, NARROW))]
CASES += [("bam", "vgg16"), ("hsnet", "vgg16"), ("insid3", "timm/test_vit")]
CLOSE = 2e-3  # relative to the largest value of an array
BASE_GRADIENT = "base stage, gradient"
OF_BATCH_NORM = 2e-2  # the same of that gradient: batch norm over two images enlarges the rounding of a machine


def numbers(name: str, backbone: str, device: str) -> dict[str, np.ndarray]:
    """Return each output with one and two shots, and losses and norms of gradients where the method learns."""
    out: dict[str, np.ndarray] = {}
    for shots in (1, 2):
        network = seeded_model(name, shots, backbone).to(device)
        episode = drawn_episode(name, shots, 2, size=network.task.size).to(device)
        with torch.no_grad():
            outputs = scored_outputs(network(episode))
        for key, logits in outputs.items():
            small = torch.nn.functional.adaptive_avg_pool2d(logits.float(), 12)
            out[f"{shots}-shot {key}"] = small.cpu().numpy().astype(np.float32)
    if network.learns:
        out |= _of_meta_stage(network, episode)
    if network.has_base_stage:
        out |= _of_base_stage(network, episode)
    return out


def _of_meta_stage(network: FewShotModel, episode: Episode) -> dict[str, np.ndarray]:
    """Return the losses of a training step, and the norm of the gradient of each group."""
    network.train()
    without_dropout(network)
    losses = network(episode).losses
    sum(losses.values()).backward()
    out = {f"loss {key}": np.float32(loss.item()) for key, loss in losses.items()}
    for group in network.param_groups():
        out[f"gradient {group.name}"] = _gradient_norm(group.params)
    return out


def _of_base_stage(network: FewShotModel, episode: Episode) -> dict[str, np.ndarray]:
    """Return the losses of a step of the base stage, and the norm of its gradient."""
    stage = network.base_stage().train()
    batch = LabelledImages(episode.query, (episode.query_label == 1).byte())
    losses = stage(batch).losses
    sum(losses.values()).backward()
    out = {f"base stage, {key}": np.float32(loss.item()) for key, loss in losses.items()}
    out[BASE_GRADIENT] = _gradient_norm([p for group in stage.param_groups() for p in group.params])
    return out


def _gradient_norm(parameters: list[torch.nn.Parameter]) -> np.ndarray:
    norms = [p.grad.norm() for p in parameters if p.grad is not None]
    return np.float32(torch.stack(norms).norm().item() if norms else 0.0)


def file_of(name: str, backbone: str) -> Path:
    return FOLDER / f"{name}_{backbone.replace('/', '_')}.npz"


@pytest.mark.parametrize("name, backbone", CASES)
def test_numbers_are_those_of_the_golden_file(name: str, backbone: str, device: str) -> None:
    torch.manual_seed(0)
    given = numbers(name, backbone, device)
    file, remedy = file_of(name, backbone), f"if that is meant: python -m tests.model.test_golden {name}"
    assert file.exists(), f"{file.name} is not there; {remedy}"
    with np.load(file) as golden:
        assert set(golden) == set(given), f"other numbers than in {file.name}; {remedy}"
        for key, want in golden.items():
            error = np.abs(given[key] - want).max()
            close = OF_BATCH_NORM if key == BASE_GRADIENT else CLOSE
            assert error <= close * max(np.abs(want).max(), 1e-3), f"{key}: {error} of {np.abs(want).max()}; {remedy}"


if __name__ == "__main__":
    for case in [case for case in CASES if case[0] in sys.argv[1:]]:
        torch.manual_seed(0)
        np.savez_compressed(file_of(*case), **numbers(*case, "cpu"))
