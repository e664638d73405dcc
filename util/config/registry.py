"""One way to register what configs name, for the code of others: ``register(kind, name)``."""

from collections.abc import Callable
from typing import Any

from model import contract  # noqa: F401  methods
from model.encoders import registry  # noqa: F401  encoders
from model.tables import KINDS, Piece
from util.config import settings  # noqa: F401  optimisers, schedules, samplers and fold rules
from util.files.errors import UserError
from util.loop import mask_metrics, observers  # noqa: F401  metrics and observers


def register(kind: str, name: str, *facts: Any, **others: Any) -> Callable[[Piece], Piece]:
    """Return a decorator of a class or function that makes it available in configs under a name.

    Args:
        kind: method, encoder, metric, optimizer, schedule, observer, sampler or fold_rule.
        name: in configs.
        facts: what the kind wants to know, such as a metric's title.
        others: the same by keyword.

    Raises:
        UserError: there is no such kind.
        ValueError: another module has registered the name.
    """
    if kind not in KINDS:
        raise UserError(f"register: no such kind '{kind}'; known: {', '.join(KINDS)}")
    return KINDS[kind].register(name, *facts, **others)
