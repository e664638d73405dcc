"""Authors' checkpoints by their tensors' names: the layout is found, and each name is that of our tensor."""

import torch

from model.registry import models, published_layout
from tests.helpers.narrow import NARROW
from tests.model.seeded import seeded_model

SCALES = range(4)
PFENET_NAMES = [
    *(f"{part}.0.weight" for part in ("down_query", "down_supp", "res1", "res2", "cls")),
    *("res2.2.weight", "cls.3.weight", "cls.3.bias"),
    *(f"init_merge.{i}.0.weight" for i in SCALES),
    *(f"alpha_conv.{i}.0.weight" for i in range(3)),
    *(f"beta_conv.{i}.{j}.weight" for i in SCALES for j in (0, 2)),
    *(f"inner_cls.{i}.{tensor}" for i in SCALES for tensor in ("0.weight", "3.weight", "3.bias")),
]
ONLY_SYMNET = ("hyper_final.conv1.weight", "CrossAttention.weight", "learner_base.1.0.weight")


def test_every_published_layout_is_found_by_its_own_signature_alone() -> None:
    layouts = {name: cls.published for name, cls in models().items() if cls.published is not None}
    assert {"pfenet", "symnet", "bam"} <= layouts.keys()
    for layout in layouts.values():
        names = [f"module.{name}" for name in layout.signature]
        assert {other.title for other in layouts.values() if other.matches(names)} == {layout.title}


def test_pfenets_names_are_those_of_our_tensors_and_with_symnets_beside_them_symnets() -> None:
    ours = {name for name in seeded_model("pfenet", 1, NARROW).state_dict() if not name.startswith("encoder.")}
    state = {f"module.{name}": torch.zeros(1) for name in PFENET_NAMES}
    assert models()["pfenet"].published.translate(state).keys() == ours
    assert published_layout(state) is models()["pfenet"].published
    for other in ONLY_SYMNET:
        assert models()["pfenet"].published.translate(state | {other: torch.zeros(1)}) is None
    assert published_layout([*state, *ONLY_SYMNET]) is models()["symnet"].published
