"""Every registered model keeps the contract: shapes, batches, training, frozen parts, precision, save and load."""

from __future__ import annotations

import copy
import dataclasses
import functools
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.contract import FewShotModel, Trainable
from model.episode import Episode, LabelledImages, Output
from model.registry import models
from tests.model.small import BASE_CLASSES, drawn_episode, small_model
from util.engine.evaluation import scored_outputs

SHOTS, BATCH, STEPS = 3, 2, 4
RATE, BIG_RATE = 1e-3, 0.1
CLOSE = {"atol": 1e-4, "rtol": 1e-4}
NAMES = sorted(models())
every_model = pytest.mark.parametrize("name", NAMES)


@functools.cache
def _built(name: str) -> FewShotModel:
    return small_model(name, SHOTS)


def _model(name: str) -> FewShotModel:
    return copy.deepcopy(_built(name))


@functools.cache
def _episode(name: str) -> Episode:
    return drawn_episode(name, SHOTS, BATCH)


@torch.no_grad()
def _predict(network: FewShotModel, episode: Episode) -> Output:
    return network.eval()(episode)


@functools.cache
def _prediction(name: str) -> Output:
    """Return the untrained model's predictions for the episodes; many checks compare with it."""
    return _predict(_built(name), _episode(name))


def _chosen(episode: Episode, rows: slice) -> Episode:
    values = {f.name: getattr(episode, f.name) for f in fields(episode)}
    return Episode(**{k: v[rows] if isinstance(v, Tensor) else v for k, v in values.items()})


def _state(network: torch.nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


def _learnable(name: str) -> bool:
    """Say whether the model trains; one without parameter groups must have nothing that could learn."""
    network = _built(name)
    if network.param_groups():
        return True
    assert not any(p.requires_grad for p in network.parameters())
    return False


def _loss(network: Trainable, batch: Episode | LabelledImages) -> Tensor:
    torch.manual_seed(0)  # the same dropouts every time
    losses = network(batch).losses
    assert losses
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values()), losses
    return sum(losses.values())


def _train(network: Trainable, batch: Episode | LabelledImages, steps: int) -> list[float]:
    """Return the loss before each step and after the last."""
    groups = network.train().param_groups()
    optimizer = torch.optim.Adam([{"params": g.params, "lr": RATE * g.factor} for g in groups], lr=RATE)
    losses = []
    for _ in range(steps):
        loss = _loss(network, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        return [*losses, _loss(network, batch).item()]


@every_model
def test_outputs_have_the_images_size_and_no_losses_in_evaluation(name: str) -> None:
    episode, output = _episode(name), _prediction(name)
    size = tuple(episode.query.shape[-2:])
    assert output.logits.shape == (BATCH, 2, *size)
    assert output.logits.isfinite().all()
    assert output.logits.std() > 0
    assert output.losses == {}
    for extra in output.extra.values():
        assert extra.shape == (BATCH, 2, *size)
        assert extra.isfinite().all()
    assert (output.base_logits is not None) == type(_built(name)).has_base_stage
    if output.base_logits is not None:
        assert output.base_logits.shape == (BATCH, BASE_CLASSES + 1, *size)
        assert output.base_logits.isfinite().all()


@every_model
def test_a_batch_of_two_equals_two_batches_of_one(name: str) -> None:
    episode, together = _episode(name), _prediction(name)
    apart = [_predict(_built(name), _chosen(episode, slice(b, b + 1))) for b in range(BATCH)]
    for key, logits in scored_outputs(together).items():
        torch.testing.assert_close(logits, torch.cat([scored_outputs(o)[key] for o in apart]), **CLOSE)


@every_model
def test_the_order_of_shots_does_not_matter_but_the_supports_do(name: str) -> None:
    episode, order = _chosen(_episode(name), slice(None)), [2, 0, 1]
    episode.support, episode.support_label = episode.support[:, order], episode.support_label[:, order]
    torch.testing.assert_close(_predict(_built(name), episode).logits, _prediction(name).logits, **CLOSE)
    episode.support_label = 1 - episode.support_label.clamp(max=1)
    assert not torch.allclose(_predict(_built(name), episode).logits, _prediction(name).logits, **CLOSE)


@every_model
def test_labels_of_the_query_do_not_leak_into_evaluation(name: str) -> None:
    episode = _chosen(_episode(name), slice(None))
    episode.query_label, episode.base_id = 1 - episode.query_label.clamp(max=1), torch.zeros_like(episode.base_id)
    if episode.query_base_label is not None:
        episode.query_base_label = torch.zeros_like(episode.query_base_label)
    assert torch.equal(_predict(_built(name), episode).logits, _prediction(name).logits)


@every_model
def test_float_pixels_give_the_same_as_whole_ones(name: str) -> None:
    episode = _chosen(_episode(name), slice(None))
    episode.query, episode.support = episode.query.float(), episode.support.float()
    assert torch.equal(_predict(_built(name), episode).logits, _prediction(name).logits)


@every_model
def test_empty_and_full_supports_give_finite_outputs_and_losses(name: str) -> None:
    episode = _chosen(_episode(name), slice(None))
    episode.support_label = torch.zeros_like(episode.support_label)
    episode.support_label[1] = 1
    episode.query_label = torch.full_like(episode.query_label, 255)
    assert _predict(_built(name), episode).logits.isfinite().all()
    if _learnable(name):
        network = _model(name).train()
        _loss(network, episode).backward()
        assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@every_model
def test_a_step_changes_the_learnable_and_leaves_the_frozen(name: str) -> None:
    if not _learnable(name):
        return
    network = _model(name).train()
    frozen = [module for part in network.frozen() for module in part.modules()]
    fixed = {id(p) for module in frozen for p in module.parameters()}
    kept = {id(module) for module in frozen}
    assert all(module.training == (id(module) not in kept) for module in network.modules())
    before = _state(network)
    optimizer = torch.optim.SGD([p for g in network.param_groups() for p in g.params], lr=BIG_RATE)
    _loss(network, _episode(name)).backward()
    optimizer.step()
    after = network.state_dict()
    buffers = {f"{n}.{b}" for n, m in network.named_modules() if id(m) in kept for b, _ in m.named_buffers()}
    assert all(torch.equal(after[b], before[b]) for b in buffers)
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
    if not _learnable(name):
        return
    network = _model(name)
    losses = _train(network, _episode(name), STEPS)
    torch.manual_seed(0)
    fixed = float(network(_episode(name)).losses.get("base", 0))  # of the base learner, which is frozen
    assert losses[-1] - fixed < 0.95 * (losses[0] - fixed), (losses, fixed)


@pytest.mark.train
@every_model
def test_training_is_repeatable(name: str) -> None:
    if not _learnable(name):
        return
    first, second = (_train(_model(name), _episode(name), 1) for _ in range(2))
    assert first == second


@every_model
def test_param_groups_hold_every_learnable_tensor_once(name: str) -> None:
    network = _model(name)
    groups = network.param_groups()
    grouped = [p for group in groups for p in group.params]
    assert len(grouped) == len({id(p) for p in grouped})
    assert {id(p) for p in grouped} == {id(p) for p in network.parameters() if p.requires_grad}
    assert len({group.name for group in groups}) == len(groups)


@pytest.mark.train
@every_model
def test_the_base_stage_exists_where_declared_and_trains_the_models_own_tensors(name: str) -> None:
    network = _model(name)
    if not network.has_base_stage:
        with pytest.raises(NotImplementedError):
            network.base_stage()
        return
    meta = {id(p) for group in network.param_groups() for p in group.params}
    stage, own = network.base_stage(), {id(p) for p in network.parameters()}
    learning = {id(p) for group in stage.param_groups() for p in group.params}
    assert learning
    assert learning <= own - meta
    episode = _episode(name)
    batch = LabelledImages(episode.query, episode.query_base_label)
    losses = _train(stage, batch, STEPS)
    assert losses[-1] < losses[0], losses
    with torch.no_grad():
        assert stage.eval()(batch).logits.shape == (BATCH, BASE_CLASSES + 1, *episode.query.shape[-2:])
    network.freeze()
    assert {id(p) for group in network.param_groups() for p in group.params} == meta


@every_model
def test_bf16_autocast_gives_finite_float32_close_to_full_precision(name: str) -> None:
    episode, full = _episode(name), _prediction(name).logits
    with torch.autocast("cpu", torch.bfloat16):
        output = _predict(_built(name), episode)  # slow where bf16 is emulated
    for logits in scored_outputs(output).values():
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()
    spread = (full - full.mean((2, 3), keepdim=True)).abs().max()
    assert (output.logits - full).abs().mean() < max(0.2 * spread.item(), 0.02)


@pytest.mark.train
@every_model
def test_training_works_under_bf16_autocast(name: str) -> None:
    if not _learnable(name):
        return
    network = _model(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = _loss(network, _chosen(_episode(name), slice(0, 1)))  # slow where bf16 is emulated
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@every_model
def test_a_saved_state_gives_the_same_output_in_another_model(name: str, tmp_path: Path) -> None:
    torch.save(_built(name).state_dict(), tmp_path / "state.pth")
    other = small_model(name, SHOTS, seed=1)
    assert not torch.equal(_predict(other, _episode(name)).logits, _prediction(name).logits)
    other.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    given = _predict(other, _episode(name))
    want = scored_outputs(_prediction(name))
    assert all(torch.equal(logits, want[key]) for key, logits in scored_outputs(given).items())


@every_model
def test_models_read_only_what_they_declare(name: str) -> None:
    episode, network = _chosen(_episode(name), slice(None)), _built(name)
    for declared, attribute in (("reads_base_labels", "query_base_label"), ("reads_text", "text")):
        assert (getattr(episode, attribute) is not None) == getattr(type(network), declared)
    novel = drawn_episode(name, SHOTS, BATCH, novel=True)
    torch.testing.assert_close(_predict(network, novel).logits, _prediction(name).logits)


@every_model
def test_encoder_weights_enter_through_the_model(name: str) -> None:
    network, other = _model(name), small_model(name, SHOTS, seed=1)
    state = other.encoder.state_dict()
    assert network.load_encoder(state, partial=False) == []
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.encoder.state_dict().items())
    assert network.load_published(state) is None


@every_model
def test_remembered_supports_give_the_same_prediction(name: str) -> None:
    network, episode = _model(name), _episode(name)
    shared = dataclasses.replace(
        episode,
        support=episode.support[:1].expand_as(episode.support),
        support_label=episode.support_label[:1].expand_as(episode.support_label),
    )
    want = _predict(network, shared)
    with torch.no_grad():
        memory = network.cache_support(shared.support[:1], shared.support_label[:1])
    if memory is None:
        return  # this model keeps nothing, and so has nothing that could differ
    encoded = []
    network.encoder.register_forward_pre_hook(lambda _, images: encoded.append(len(images[0])))
    for _ in range(2):  # cached features can be used more than once
        got = _predict(network, dataclasses.replace(shared, cached_support=[memory]))
        for key, logits in scored_outputs(want).items():
            assert torch.allclose(scored_outputs(got)[key], logits, **CLOSE), key
    assert encoded == [BATCH, BATCH]


@every_model
def test_classes_compete_over_queries_that_are_encoded_once(name: str) -> None:
    """The same class twice: the first of them wins; alone it has the score of ``forward``."""
    network, episode = _model(name), _episode(name)
    encoded: list[int] = []
    network.encoder.register_forward_pre_hook(lambda _, images: encoded.append(len(images[0])))
    with torch.no_grad():
        both = network.forward_classes([episode, episode])
        assert sum(encoded) <= BATCH * (1 + 2 * SHOTS) + 1  # INSID3 also sees a black image
        alone = network.forward_classes([episode])
    assert both.logits.shape == (BATCH, 3, *episode.query.shape[-2:])
    assert (both.logits[:, 1] >= both.logits[:, 2] - CLOSE["atol"]).all() and both.logits.isfinite().all()
    margin, want = (x[:, 1] - x[:, 0] for x in (alone.logits, _prediction(name).logits))
    torch.testing.assert_close(margin, want, **CLOSE)
    assert set(both.extra) == set(_prediction(name).extra)
