"""The training-free baseline: stages of the encoder may be compared together."""

import torch
from torch.nn import functional as F

from tests.model.small import drawn_episode, small_model


@torch.no_grad()
def test_several_stages_are_concatenated() -> None:
    episode = drawn_episode("prototype", shots=1, batch=2)
    alone, listed, both = (small_model("prototype", 1, stage=stage) for stage in (3, [3], [3, 4]))
    assert torch.equal(alone(episode).logits, listed(episode).logits)
    query, support = both.encode(episode)
    query, support = (torch.cat([f.stage[3], f.stage[4]], dim=1) for f in (query, support))
    mask = F.interpolate((episode.support_label == 1).float(), support.shape[-2:], mode="bilinear", align_corners=True)
    prototype = (support * mask).sum((2, 3)) / (mask.sum((2, 3)) + 5e-4)
    cosine = F.cosine_similarity(query, prototype[:, :, None, None], dim=1)[:, None]
    want = F.interpolate(cosine, episode.query.shape[-2:], mode="bilinear", align_corners=True)
    torch.testing.assert_close(both(episode).logits[:, 1:], want, atol=1e-5, rtol=1e-4)
