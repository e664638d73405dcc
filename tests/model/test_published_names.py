"""Authors' checkpoints by their tensors' names: each layout is found by its own signature alone."""

from model.registry import methods


def test_every_published_layout_is_found_by_its_own_signature_alone() -> None:
    layouts = {name: cls.published for name, cls in methods().items() if cls.published is not None}
    assert {"pfenet", "symnet", "bam"} <= layouts.keys()
    for layout in layouts.values():
        names = [f"module.{name}" for name in layout.signature]
        assert {other.title for other in layouts.values() if other.matches(names)} == {layout.title}
