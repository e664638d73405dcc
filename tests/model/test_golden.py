"""Every method's numbers beside golden files, of small networks with drawn weights: outputs, the values between them
and the images (priors, prototypes, correlations), and losses and gradients of the meta stage and of the base stage.

``python -m tests.model.test_golden CASE ...`` writes their files anew: only where numbers are meant to change.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.contract import FewShotMethod
from model.episode import Episode, LabelledImages, Output
from tests.helpers.narrow import NARROW
from tests.model import middle
from tests.model.seeded import seeded_model, takes
from tests.model.small import BACKBONES, WITH_ENCODER, drawn_episode, without_dropout
from util.loop.score import scored_outputs

FOLDER = Path(__file__).parents[1] / "golden"
CASES = [(name, BACKBONES.get(name, NARROW)) for name in WITH_ENCODER if takes(name, BACKBONES.get(name, NARROW))]
CASES += [("bam", "vgg16"), ("hsnet", "vgg16"), ("insid3", "timm/test_vit"), ("symnet_conv4d", NARROW)]
CASES += [("sansa", "sam2")]  # of tests/model/tiny.py
CHANGED = {"symnet_conv4d": ("symnet", {"correlation": "conv4d"})}  # case -> method, its settings
CLOSE = 2e-3  # relative to the largest value of an array
BASE_GRADIENT = "base stage, gradient"
CLOSE_WITH_BATCH_NORM = 2e-2  # the same of that gradient: batch norm over two images enlarges the rounding of a machine


def numbers(case: str, backbone: str, device: str) -> dict[str, np.ndarray]:
    """Return what a golden file holds of a method, of episodes with one and two shots."""
    name, changes = CHANGED.get(case, (case, {}))
    out = {}
    for shots in (1, 2):
        network = seeded_model(name, shots, backbone, changes=changes).to(device)
        episode = drawn_episode(name, shots, 2, size=network.task.size).to(device)
        with torch.no_grad(), middle.parts(network) as parts:
            output = network(episode)
        of_shots = _of_output(output)
        if shots == 1:  # with several, their number at a time depends on the device
            of_shots |= {f"{middle.PART} {part}": figures for part, figures in parts.items()}
            of_shots |= middle.kept(network, episode)
        out |= {f"{shots}-shot {key}": values for key, values in of_shots.items()}
    if network.learns:
        out |= _of_meta_stage(network, episode)
    if network.has_base_stage():
        out |= _of_base_stage(network, episode)
    return out


def _of_output(output: Output) -> dict[str, np.ndarray]:
    """Return the logits on small grids, and the figures of the maps."""
    small = {key: F.adaptive_avg_pool2d(logits.float(), 12) for key, logits in scored_outputs(output).items()}
    out = {key: logits.cpu().numpy().astype(np.float32) for key, logits in small.items()}
    for key, values in output.pictures.items():
        out[f"{middle.MAP} {key}"] = middle.figures_of_each([values])
    return out


def _of_meta_stage(network: FewShotMethod, episode: Episode) -> dict[str, np.ndarray]:
    """Return the losses of a training step, and the norm of the gradient of each group."""
    network.train()
    without_dropout(network)
    losses = network(episode).losses
    sum(losses.values()).backward()
    out = {f"loss {key}": np.float32(loss.item()) for key, loss in losses.items()}
    for group in network.param_groups():
        out[f"gradient {group.name}"] = _gradient_norm(group.params)
    return out


def _of_base_stage(network: FewShotMethod, episode: Episode) -> dict[str, np.ndarray]:
    """Return the losses of a step of the base stage, and the norm of its gradient."""
    stage = network.base_stage().train()
    losses = stage(LabelledImages(episode.query, (episode.query_label == 1).byte())).losses
    sum(losses.values()).backward()
    out = {f"base stage, {key}": np.float32(loss.item()) for key, loss in losses.items()}
    out[BASE_GRADIENT] = _gradient_norm([p for group in stage.param_groups() for p in group.params])
    return out


def _gradient_norm(parameters: list[torch.nn.Parameter]) -> np.ndarray:
    norms = [p.grad.norm() for p in parameters if p.grad is not None]
    return np.float32(torch.stack(norms).norm().item() if norms else 0.0)


def file_of(name: str, backbone: str) -> Path:
    return FOLDER / f"{name}_{backbone.replace('/', '_')}.npz"


def differences(given: dict[str, np.ndarray], golden: dict[str, np.ndarray]) -> list[str]:
    """Return what differs by more than rounding, in words."""
    found = []
    for key, want in golden.items():
        close = CLOSE_WITH_BATCH_NORM if key == BASE_GRADIENT else CLOSE
        rows = [(given[key], want)]
        if not {middle.KEPT, middle.PART, middle.MAP}.isdisjoint(key.split()):  # figures of each tensor by itself
            assert given[key].shape == want.shape, f"{key}: figures of {len(given[key])} tensors, not of {len(want)}"
            rows = [*zip(given[key], want)]
        for number, (values, wanted) in enumerate(rows):
            error = np.abs(values - wanted).max()
            largest = np.abs(wanted).max()
            if error > close * max(largest, 1e-3):
                found.append(f"{key}, {number}: {error:.3g} of {largest:.3g}")
    return found


@pytest.mark.parametrize("name, backbone", CASES)
def test_numbers_are_those_of_the_golden_file(name: str, backbone: str, device: str) -> None:
    torch.manual_seed(0)
    given = numbers(name, backbone, device)
    file, remedy = file_of(name, backbone), f"if that is meant: python -m tests.model.test_golden {name}"
    assert file.exists(), f"{file.name} is not there; {remedy}"
    with np.load(file) as golden:
        assert set(golden) == set(given), f"other numbers than in {file.name}; {remedy}"
        assert not differences(given, dict(golden)), remedy


if __name__ == "__main__":
    for case in [case for case in CASES if case[0] in sys.argv[1:]]:
        torch.manual_seed(0)
        np.savez_compressed(file_of(*case), **numbers(*case, "cpu"))
