"""Every registered model keeps the contract: shapes, batches, training, frozen parts, precision, save and load."""

import dataclasses
from pathlib import Path

import pytest
import torch

from model.common.foundation import Foundation
from tests.model.contract_cases import (
    BATCH,
    CLOSE,
    SHOTS,
    built,
    chosen,
    episode_of,
    every_model,
    fresh_model,
    learns,
    loss_of,
    predict,
    prediction_of,
    with_encoder,
)
from tests.model.small import BASE_CLASSES, drawn_episode, small_model
from util.evaluate.evaluate import scored_outputs

pytestmark = pytest.mark.usefixtures("on_device")


@every_model
def test_outputs_have_the_images_size_and_no_losses_in_evaluation(name: str) -> None:
    episode, output = episode_of(name), prediction_of(name)
    size = tuple(episode.query.shape[-2:])
    assert output.logits.shape == (BATCH, 2, *size)
    assert output.logits.isfinite().all()
    assert output.logits.std() > 0
    assert output.losses == {}
    for extra in output.extra.values():
        assert extra.shape == (BATCH, 2, *size)
        assert extra.isfinite().all()
    assert (output.base_logits is not None) == type(built(name)).has_base_stage
    if output.base_logits is not None:
        assert output.base_logits.shape == (BATCH, BASE_CLASSES + 1, *size)
        assert output.base_logits.isfinite().all()


@every_model
def test_a_batch_of_two_equals_two_batches_of_one(name: str) -> None:
    episode, together = episode_of(name), prediction_of(name)
    apart = [predict(built(name), chosen(episode, slice(b, b + 1))) for b in range(BATCH)]
    for key, logits in scored_outputs(together).items():
        torch.testing.assert_close(logits, torch.cat([scored_outputs(o)[key] for o in apart]), **CLOSE)
    if together.evidence is not None:
        torch.testing.assert_close(together.evidence, torch.cat([o.evidence for o in apart]), **CLOSE)


def test_the_evidence_does_not_depend_on_objects_of_other_episodes() -> None:
    """BAM's last stage sees a window as large as the largest object of the batch."""
    network, episode = small_model("bam", 1), drawn_episode("bam", 1, 2, size=257)
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        torch.nn.init.normal_(norm.bias)  # so that a map of zeros does not remain one
    for item, side in enumerate((20, 150)):
        episode.support_label[item] = 0
        episode.support_label[item, :, 100 : 100 + side, 90 : 90 + side] = 1
    apart = [predict(network, chosen(episode, slice(b, b + 1))).evidence for b in range(2)]
    torch.testing.assert_close(predict(network, episode).evidence, torch.cat(apart), **CLOSE)


@every_model
def test_the_order_of_shots_matters_where_a_method_declares_it_and_the_supports_do(name: str) -> None:
    episode, order = chosen(episode_of(name), slice(None)), [2, 0, 1]
    episode.support, episode.support_label = episode.support[:, order], episode.support_label[:, order]
    same = torch.allclose(predict(built(name), episode).logits, prediction_of(name).logits, **CLOSE)
    assert same != built(name).shots_in_order
    episode.support_label = 1 - episode.support_label.clamp(max=1)
    assert not torch.allclose(predict(built(name), episode).logits, prediction_of(name).logits, **CLOSE)


@every_model
def test_labels_of_the_query_do_not_leak_into_evaluation(name: str) -> None:
    episode = chosen(episode_of(name), slice(None))
    episode.query_label, episode.base_id = 1 - episode.query_label.clamp(max=1), torch.zeros_like(episode.base_id)
    if episode.query_base_label is not None:
        episode.query_base_label = torch.zeros_like(episode.query_base_label)
    assert torch.equal(predict(built(name), episode).logits, prediction_of(name).logits)


@every_model
def test_empty_and_full_supports_give_finite_outputs_and_losses(name: str) -> None:
    episode = chosen(episode_of(name), slice(None))
    episode.support_label = torch.zeros_like(episode.support_label)
    episode.support_label[1] = 1
    episode.query_label = torch.full_like(episode.query_label, 255)
    assert predict(built(name), episode).logits.isfinite().all()
    if learns(name):
        network = fresh_model(name).train()
        loss_of(network, episode).backward()
        assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@every_model
def test_bf16_autocast_gives_finite_float32_close_to_full_precision(name: str) -> None:
    episode, full = episode_of(name), prediction_of(name).logits
    with torch.autocast(episode_of(name).query.device.type, torch.bfloat16):
        output = predict(built(name), episode)  # slow where bf16 is emulated
    for logits in scored_outputs(output).values():
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()
    spread = (full - full.mean((2, 3), keepdim=True)).abs().max()
    assert (output.logits - full).abs().mean() < max(0.2 * spread.item(), 0.02)


@every_model
def test_a_saved_state_gives_the_same_output_in_another_model(name: str, tmp_path: Path) -> None:
    torch.save(built(name).state_dict(), tmp_path / "state.pth")
    other = fresh_model(name, 1)
    assert not torch.equal(predict(other, episode_of(name)).logits, prediction_of(name).logits)
    other.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    given = predict(other, episode_of(name))
    want = scored_outputs(prediction_of(name))
    assert all(torch.equal(logits, want[key]) for key, logits in scored_outputs(given).items())


@with_encoder
def test_encoder_weights_enter_through_the_model(name: str) -> None:
    network, other = fresh_model(name), built(name, 1)
    state = other.encoder.state_dict()
    assert network.load_encoder(state, partial=False) == []
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.encoder.state_dict().items())
    assert network.published is None or network.published.translate(state) is None


@with_encoder
def test_classes_compete_over_queries_that_are_encoded_once(name: str) -> None:
    """The same class twice: the first of them wins; alone it has the score of ``forward``."""
    network, episode = fresh_model(name), episode_of(name)
    encoded: list[int] = []
    network.encoder.register_forward_pre_hook(lambda _, images: encoded.append(len(images[0])))
    with torch.no_grad():
        alone = network.forward_classes([episode])
        per_image = sum(encoded) / (BATCH * (1 + SHOTS))  # ABCDFSS sees each in three views
        encoded.clear()
        both = network.forward_classes([episode, episode])
    assert sum(encoded) <= BATCH * (1 + 2 * SHOTS) * per_image
    assert both.logits.shape == (BATCH, 3, *episode.query.shape[-2:])
    assert (both.logits[:, 1] >= both.logits[:, 2] - CLOSE["atol"]).all() and both.logits.isfinite().all()
    margin, want = (x[:, 1] - x[:, 0] for x in (alone.logits, prediction_of(name).logits))
    torch.testing.assert_close(margin, want, **CLOSE)
    assert set(both.extra) == set(prediction_of(name).extra)


@every_model
@torch.no_grad()
def test_what_is_kept_of_each_image_alone_gives_the_same_prediction(name: str) -> None:
    network, episode = fresh_model(name), episode_of(name)
    want = scored_outputs(network.eval()(episode))
    queries = [network.cache_query(image[None]) for image in episode.query]
    if None in queries:
        return  # this model keeps nothing
    shots = [pair for item in range(BATCH) for pair in episode.shots(item)]
    supports = [network.cache_support(image[None, None], label[None, None]) for image, label in shots]
    assert all(kept.nbytes > 0 for kept in (*queries, *supports))
    image, label = (x[None, None] for x in shots[0])
    other = network.cache_support(image, torch.zeros_like(label))  # the same image, nothing marked
    same = all(torch.equal(x, supports[0].stage[stage]) for stage, x in other.stage.items())
    assert same != network.masks_supports
    known, encoded = dataclasses.replace(episode, cached_support=supports, cached_query=queries), []
    seeing = network.networks[1] if isinstance(network, Foundation) else network.encoder
    seeing.register_forward_pre_hook(lambda *_: encoded.append(1))
    for _ in range(2):  # cached features can be used more than once
        given = scored_outputs(network(known))
        for key, logits in want.items():
            torch.testing.assert_close(given[key], logits, **CLOSE)
    assert encoded == []


@every_model
def test_a_query_is_most_like_itself_by_the_evidence_of_likeness(name: str) -> None:
    episode, found = episode_of(name), prediction_of(name).evidence
    if not learns(name) or found is None:
        return
    own = dataclasses.replace(episode, support=torch.stack([episode.query] * SHOTS, dim=1))
    itself = predict(built(name), own).evidence
    assert found.shape == (BATCH, 1, 6) and found.abs().max() <= 1 + 1e-5
    assert built(name).masks_supports or (itself > found)[..., 0].all()  # masked supports differ from the query
