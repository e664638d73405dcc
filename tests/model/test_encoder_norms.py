"""PFENet's encoder in training: its batch norms follow the batches, where the settings say so, as published."""

import copy

import torch
from torch import Tensor, nn

from model.tensors.ops import foreground_mask, resize
from tests.helpers.close import all_close
from tests.model.small import drawn_episode, small_model, without_dropout

SHOTS = 2


def _published_order(encoder: nn.Module, query: Tensor, supports: list[Tensor], masks: list[Tensor]) -> Tensor:
    """Pass the queries, then shot by shot the supports, masked before stage 4; return stage 4 of the queries."""

    def run(x: Tensor, stages: range) -> Tensor:
        for i in stages:
            x = encoder.stage(i)(x)
        return x

    high = run(encoder.normalise(query), range(5))
    for support, mask in zip(supports, masks):
        middle = run(encoder.normalise(support), range(4))
        run(middle * resize(mask, middle.shape[-2:]), range(4, 5))
    return high


def test_batch_norms_see_the_queries_then_each_shot_then_masked_maps(device: str) -> None:
    network = small_model("pfenet", SHOTS, train_encoder_norms=True).to(device)
    episode = drawn_episode("pfenet", SHOTS, 2, size=network.task.size).to(device)
    with torch.no_grad():
        before = network(episode).logits
    network.train()
    without_dropout(network)
    expected = copy.deepcopy(network.encoder)
    seen = []
    predict = network.predict
    network.predict = lambda maps, *rest: seen.append(maps[4]) or predict(maps, *rest)
    network(episode)

    masks = foreground_mask(episode.support_label)
    with torch.no_grad():
        high = _published_order(expected, episode.query, [*episode.support.unbind(1)], [*masks.unbind(1)])
    assert all_close({"stage 4": seen[0]}, {"stage 4": high})
    buffers, wanted = (dict(x.named_buffers()) for x in (network.encoder, expected))
    assert all_close(buffers, wanted)
    counts = [int(x) for name, x in buffers.items() if name.endswith("num_batches_tracked")]
    assert set(counts) == {1 + SHOTS}
    with torch.no_grad():  # they are in the checkpoint, and a test takes them
        assert not torch.allclose(network.eval()(episode).logits, before)
