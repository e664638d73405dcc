"""Tensor-name layouts of authors' checkpoints: recognition and translation; each method has a table of its own."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

COUNTER = "num_batches_tracked"  # how names of batch norms' counters end, which no file must have
DDP_PREFIX = "module."
# Published name -> ours, as regular expressions on whole names, of parts that several methods' checkpoints share.
ENCODER = ((r"(layer[0-4]\..*)", r"encoder.\1"),)
PROJECTIONS = ((r"down_query\.0\.(.*)", r"project_query.0.\1"), (r"down_supp\.0\.(.*)", r"project_support.0.\1"))
ASPP_DECODER = (
    (r"ASPP_meta\.layer6_0\.0\.(.*)", r"decoder.aspp.average.\1"),
    (r"ASPP_meta\.layer6_1\.0\.(.*)", r"decoder.aspp.point.\1"),
    *((rf"ASPP_meta\.layer6_{i + 2}\.0\.(.*)", rf"decoder.aspp.dilated.{i}.\1") for i in range(3)),
    (r"res1_meta\.0\.(.*)", r"decoder.merge.\1"),
    (r"res2_meta\.(.*)", r"decoder.refine.body.\1"),
    (r"cls_meta\.0\.(.*)", r"decoder.head.conv.\1"),
    (r"cls_meta\.3\.(.*)", r"decoder.head.classify.\1"),
)
BASE_LEARNER = (
    (r"learner_base\.0\.features\.(\d)\.(.*)", r"base_learner.pyramid.\1.\2"),
    (r"learner_base\.1\.(.*)", r"base_learner.classify.\1"),
)
PYRAMID_BASE_LEARNER = (
    (r"ppm\.features\.(\d)\.(.*)", r"base_learner.pyramid.\1.\2"),
    (r"cls\.(.*)", r"base_learner.classify.\1"),
)
FUSIONS = (
    (r"init_merge_query\.0\.(.*)", r"fuse_query.conv.\1"),
    (r"init_merge_supp\.0\.(.*)", r"fuse_support.conv.\1"),
)
ENSEMBLE = (
    (r"kshot_rw\.(.*)", r"shot_weights.mix.\1"),
    (r"gram_merge\.(.*)", r"ensemble.scene.\1"),
    (r"cls_merge\.(.*)", r"ensemble.background.\1"),
)


def enrichment(part: str) -> tuple[tuple[str, str], ...]:
    """Return the names of PFENet's feature enrichment, which is a method's part of this name."""
    return (
        (r"init_merge\.(\d)\.0\.(.*)", rf"{part}.enter.\1.0.\2"),
        (r"alpha_conv\.(\d)\.0\.(.*)", rf"{part}.descend.\1.0.\2"),  # entry i is of scale i + 1
        (r"beta_conv\.(\d)\.(.*)", rf"{part}.refine.\1.body.\2"),
        (r"inner_cls\.(\d)\.0\.(.*)", rf"{part}.auxiliary.\1.conv.\2"),
        (r"inner_cls\.(\d)\.3\.(.*)", rf"{part}.auxiliary.\1.classify.\2"),
        (r"res1\.0\.(.*)", rf"{part}.merge.0.\1"),
        (r"res2\.(.*)", rf"{part}.refine_merged.body.\1"),
        (r"cls\.0\.(.*)", rf"{part}.head.conv.\1"),
        (r"cls\.3\.(.*)", rf"{part}.head.classify.\1"),
    )


@dataclass(frozen=True)
class Layout:
    """The tensor names of one method's checkpoints."""

    title: str  # the method's name
    # Names that every checkpoint of this method has, and no other method's that has none of ``absent``
    signature: tuple[str, ...]
    renames: tuple[tuple[str, str], ...]  # published name -> ours, as regular expressions on whole names
    constants: str = "$^"  # regular expression of tensor names to omit: constants, and tensors that nothing uses
    absent: tuple[str, ...] = ()  # names that no checkpoint of this method has

    def name(self, published: str) -> str:
        """Return our name of a published tensor; unknown names are returned unchanged."""
        for pattern, ours in self.renames:
            if re.fullmatch(pattern, published):
                return re.sub(pattern, ours, published)
        return published

    def matches(self, names: Iterable[str]) -> bool:
        """Return whether these tensor names are of this layout."""
        given = {name.removeprefix(DDP_PREFIX) for name in names}
        return given >= set(self.signature) and given.isdisjoint(self.absent)

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Return a state dict under our names; None for another layout."""
        if not self.matches(state):
            return None
        state = {name.removeprefix(DDP_PREFIX): tensor for name, tensor in state.items()}
        return {self.name(name): x for name, x in state.items() if not re.fullmatch(self.constants, name)}
