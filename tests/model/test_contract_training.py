"""Every registered model keeps the contract in training: steps, frozen parts, groups, the base stage, precision."""

import pytest
import torch
from torch import distributed

from model.episode import LabelledImages
from tests.model import contract_cases
from tests.model.contract_cases import (
    BATCH,
    BIG_RATE,
    SHOTS,
    STEPS,
    chosen,
    episode_of,
    every_model,
    fresh_model,
    learns,
    loss_of,
    losses_of_training,
    state_of,
)
from tests.model.small import BASE_CLASSES, drawn_episode

pytestmark = pytest.mark.usefixtures("on_device")


@every_model
def test_a_step_changes_the_learnable_and_leaves_the_frozen(name: str) -> None:
    if not learns(name):
        return
    network = fresh_model(name).train()
    frozen = [module for part in network.frozen() for module in part.modules()]
    fixed = {id(p) for module in frozen for p in module.parameters()}
    kept = {id(module) for module in frozen}
    assert all(module.training == (id(module) not in kept) for module in network.modules())
    before = state_of(network)
    optimizer = torch.optim.SGD([p for g in network.param_groups() for p in g.params], lr=BIG_RATE)
    loss_of(network, episode_of(name)).backward()
    optimizer.step()
    after = network.state_dict()
    buffers = {f"{n}.{b}" for n, m in network.named_modules() if id(m) in kept for b, _ in m.named_buffers()}
    assert all(torch.equal(after[b], before[b]) for b in buffers & before.keys())
    for key, parameter in network.named_parameters():
        assert parameter.requires_grad == (id(parameter) not in fixed), key
        if id(parameter) in fixed:
            assert parameter.grad is None, key
            assert torch.equal(after[key], before[key]), key
        else:
            assert parameter.grad is not None, key
    changed = {key for key, _ in network.named_parameters() if not torch.equal(after[key], before[key])}
    learnable = {key: p for key, p in network.named_parameters() if p.requires_grad}
    silent = {key for key, p in learnable.items() if torch.equal(before[key] - BIG_RATE * p.grad, before[key])}
    assert changed == learnable.keys() - silent
    assert len(silent) <= len(learnable) // 20, silent  # a unit may be off by chance


@pytest.mark.train
@every_model
def test_a_few_steps_lower_the_loss(name: str) -> None:
    if not learns(name):
        return
    network, episode = fresh_model(name), episode_of(name)
    losses = losses_of_training(network, episode, STEPS)
    torch.manual_seed(0)
    with torch.no_grad():
        fixed = float(network(episode).losses.get("base", 0))  # of the base learner, which is frozen
    assert losses[-1] - fixed < 0.95 * (losses[0] - fixed), (losses, fixed)


@pytest.mark.train
@every_model
def test_the_losses_of_processes_with_different_shares_average_to_those_of_the_batch(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not learns(name):
        return
    network, episodes, counts = (
        fresh_model(name).train(),
        drawn_episode(name, SHOTS, 3).to(contract_cases.device),
        list[torch.Tensor](),
    )
    for module in network.modules():
        module.p = 0.0  # of every dropout
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 1)
    monkeypatch.setattr(distributed, "all_reduce", lambda count: counts.append(count.clone()))
    whole = loss_of(network, episodes).item()
    shares = []
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    for rows in (slice(0, 1), slice(1, 3)):
        left = iter(counts)
        monkeypatch.setattr(distributed, "all_reduce", lambda count, left=left: count.copy_(next(left)))
        shares.append(loss_of(network, chosen(episodes, rows)).item())
    assert sum(shares) / 2 == pytest.approx(whole, rel=1e-4)


@every_model
def test_param_groups_hold_every_learnable_tensor_once(name: str) -> None:
    network = fresh_model(name)
    groups = network.param_groups()
    grouped = [p for group in groups for p in group.params]
    assert len(grouped) == len({id(p) for p in grouped})
    assert {id(p) for p in grouped} == {id(p) for p in network.parameters() if p.requires_grad}
    assert len({group.name for group in groups}) == len(groups)


@pytest.mark.train
@every_model
def test_the_base_stage_exists_where_declared_and_trains_the_models_own_tensors(name: str) -> None:
    network = fresh_model(name)
    if not network.has_base_stage:
        with pytest.raises(NotImplementedError):
            network.base_stage()
        return
    meta = {id(p) for group in network.param_groups() for p in group.params}
    stage, own = network.base_stage(), {id(p) for p in network.parameters()}
    learning = {id(p) for group in stage.param_groups() for p in group.params}
    assert learning
    assert learning <= own - meta
    episode = episode_of(name)
    batch = LabelledImages(episode.query, episode.query_base_label)
    losses = losses_of_training(stage, batch, STEPS)
    assert losses[-1] < losses[0], losses
    with torch.no_grad():
        assert stage.eval()(batch).logits.shape == (BATCH, BASE_CLASSES + 1, *episode.query.shape[-2:])
    network.freeze()
    assert {id(p) for group in network.param_groups() for p in group.params} == meta


@pytest.mark.train
@every_model
def test_training_works_under_bf16_autocast(name: str) -> None:
    if not learns(name):
        return
    network = fresh_model(name).train()
    with torch.autocast(episode_of(name).query.device.type, torch.bfloat16):
        loss = loss_of(network, chosen(episode_of(name), slice(0, 1)))  # slow where bf16 is emulated
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
