"""Optimisers: every kind that a config may name is there, what it keeps is counted, and rates follow the schedule."""

import pytest
import torch

from model.contract import ParamGroup
from util.config.settings import OptimizerSettings
from util.loop.optim import SCHEDULES, build_optimizers, clip_gradients, load_optimizers, set_learning_rates
from util.loop.optimizer_kinds import OPTIMIZERS


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimiser_keeps_as_many_tensors_as_are_counted(kind: str) -> None:
    weight = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = build_optimizers([ParamGroup("all", [weight])], {"main": OptimizerSettings(kind=kind)})["main"]
    weight.sum().backward()
    optimizer.step()
    kept = [value for value in optimizer.state[weight].values() if value.shape == weight.shape]
    assert len(kept) == OPTIMIZERS[kind].moments


@pytest.mark.parametrize(
    ("name", "factors"),
    [("cosine", [1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0]), ("step", [1, 1, 0.1, 0.1, 0.01, 0.01, 0.01])],
)
def test_a_schedule_is_half_a_wave_from_the_rate_to_nothing_or_two_steps(name: str, factors: list[float]) -> None:
    steps = len(factors) - 1
    assert [SCHEDULES[name](step, steps, ()) for step in range(steps + 1)] == pytest.approx(factors)


def test_the_gradients_of_an_optimiser_are_clipped_together() -> None:
    weights = {name: torch.nn.Parameter(torch.ones(1)) for name in ("first", "second", "free")}
    rules = {"clipped": OptimizerSettings(clip=0.1), "free": OptimizerSettings()}
    of_group = {"first": "clipped", "second": "clipped", "free": "free"}
    groups = [ParamGroup(name, [weights[name]], optimizer=optimizer) for name, optimizer in of_group.items()]
    optimizers = build_optimizers(groups, rules)
    for weight, gradient in zip(weights.values(), (3.0, 4.0, 5.0), strict=True):
        weight.grad = torch.tensor([gradient])
    clip_gradients(optimizers, rules)
    assert [weight.grad.item() for weight in weights.values()] == pytest.approx([0.06, 0.08, 5], rel=1e-4)


def test_a_groups_rate_is_its_factor_times_the_schedules() -> None:
    groups = [
        ParamGroup(name, [torch.nn.Parameter(torch.ones(1))], factor) for name, factor in {"a": 1, "b": 10}.items()
    ]
    settings = {"main": OptimizerSettings(lr=0.5, schedule="poly")}
    optimizers = build_optimizers(groups, settings)
    for step, left in enumerate((0.75, 0.5, 0.25, 0)):
        set_learning_rates(optimizers, settings, step, 4)
        expected = 0.5 * left**0.9
        assert [group["lr"] for group in optimizers["main"].param_groups] == [expected, 10 * expected]


def test_a_loaded_state_has_momenta_of_the_file_and_settings_of_the_config() -> None:
    def built(rate: float, decay: float, factor: float, momentum: float) -> dict[str, torch.optim.Optimizer]:
        weight = torch.nn.Parameter(torch.ones(1))
        rules = {"main": OptimizerSettings(kind="sgd", lr=rate, weight_decay=decay)}
        optimizers = build_optimizers([ParamGroup("all", [weight], factor)], rules)
        optimizers["main"].state[weight]["momentum_buffer"] = torch.tensor([momentum])
        return optimizers

    saved, optimizers = built(0.5, 0.1, 2, momentum=3), built(0.25, 0.01, 10, momentum=0)
    load_optimizers(optimizers, {"main": saved["main"].state_dict()})
    (group,) = optimizers["main"].param_groups
    assert (group["lr"], group["weight_decay"], group["factor"]) == (2.5, 0.01, 10)
    assert optimizers["main"].state[group["params"][0]]["momentum_buffer"].item() == 3
