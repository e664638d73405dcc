"""Base class of methods with BAM's base learner, which corrects their prediction; a shot's weight is by its scene.

Source: Lang et al., Learning What Not to Segment: A New Perspective on Few-Shot Segmentation, CVPR 2022.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from model.contract import Episode, Output, Task
from model.method import Method
from model.parts.base_learner import Ensemble, ShotWeights, gram, gram_distance
from model.parts.layers import HEAD_DROPOUT, feature_projections
from model.tensors.ops import logits_at, mean_over_shots


class WithBaseLearner(Method):
    """A method with BAM's projections, base learner and shot weights (``model/parts/base_learner.py``).

    A subclass builds the ``ensemble`` as its last part. Its shots have ``gram``, the Gram matrices of their scenes,
    (n, C, C).
    """

    rest_group = "meta"
    ensemble: Ensemble
    weighs_in_shot_order: ClassVar[bool] = True  # ``in_shot_order`` of ``ShotWeights``

    def __init__(self, settings: Any, task: Task):
        super().__init__(settings, task)
        self.project_query, self.project_support = feature_projections(self.encoder)
        self.base_dropout = nn.Dropout2d(HEAD_DROPOUT)  # the frozen base head's dropout, which stays on in training
        self.shot_weights = ShotWeights(task.shots, self.weighs_in_shot_order)

    def base_logits(self, h5_bchw: Tensor) -> Tensor:
        """Return the base learner's logits (B, N + 1, h, w) from its map."""
        return self.base_learner.logits(self.base_dropout(h5_bchw))

    def shot_weights_by_scene(self, feature_bchw: Tensor, shots: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Return the mean distance e of the query's scene from the shots', (B,), and each shot's weight w_k, (B, K).

        ``feature_bchw`` are the query's low-level features, of which the shots have the Gram matrix.
        """
        grams = torch.stack([shot.gram for shot in shots], dim=1)  # G_k, (B, K, C, C)
        distance = gram_distance(gram(feature_bchw), grams)  # e_k, (B, K)
        weight = self.shot_weights(distance)
        return mean_over_shots(distance, weight), weight

    def ensemble_with_base(self, meta_b2hw: Tensor, base_bnhw: Tensor, scene_b: Tensor, episode: Episode) -> Output:
        """Return the output at the image's size: meta logits (B, 2, h, w), corrected by base logits (B, N + 1, h, w).

        The probability of a base class suppresses the object, but not that of the class that is segmented: in training
        the episode's class, in tests a base class that plays a novel one (``Episode.spared_class``).
        """
        spared = episode.base_id if self.training else episode.spared_class
        final = self.ensemble(meta_b2hw, base_bnhw, scene_b, spared)
        size = episode.query.shape[-2:]
        final, meta, base = (logits_at(x, size) for x in (final, meta_b2hw, base_bnhw))
        return Output(final, base, extra={"meta": meta})

    def trained_shots(self, state: dict[str, Tensor]) -> int | None:
        """Return the number of shots that a state dict was trained for, whose weights are learnt; None: it has none."""
        mix = state.get("shot_weights.mix.0.weight")
        if mix is not None:
            return mix.shape[1]
        return 1 if "ensemble.scene.weight" in state else None
