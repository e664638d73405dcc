"""One way to register what configs name, for the code of others: ``register(kind, name)``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model import contract  # noqa: F401  methods
from model.encoders import registry  # noqa: F401  encoders
from model.registration import REGISTRIES, Piece
from util.config import settings  # noqa: F401  optimisers, schedules, samplers and fold rules
from util.files.errors import UserError, unknown
from util.files.typecheck import Misfit, convert
from util.loop import mask_metrics, observers  # noqa: F401  metrics and observers


def register(kind: str, name: str, *facts: Any, **others: Any) -> Callable[[Piece], Piece]:
    """Return a decorator of a class or function that makes it available in configs under a name.

    Args:
        kind: method, encoder, metric, optimizer, schedule, observer, sampler, fold_rule or modality.
        name: in configs.
        facts: what the kind wants to know, such as a metric's title.
        others: the same by keyword.

    Raises:
        UserError: there is no such kind.
        ValueError: another module has registered the name.
    """
    if kind not in REGISTRIES:
        raise UserError(f"register: no such kind '{kind}'; known: {', '.join(REGISTRIES)}")
    return REGISTRIES[kind].register(name, *facts, **others)


@dataclass
class NoSettings:
    """The settings of an observer that declares none."""


def with_observers(content: dict[str, Any], checks: bool) -> dict[str, Any]:
    """Return the data of a config with typed settings of its observers, as far as they are registered here.

    Misfit: a setting is wrong, or with ``checks`` an observer is not registered.
    """
    asked = content.get("observers")
    if not isinstance(asked, dict):
        return content
    typed = {}
    for name, values in asked.items():
        key = f"observers.{name}"
        if checks and (problem := unknown(observers.OBSERVERS, name)):
            raise Misfit(key, f"{key}: {problem}; imports of the config register them")
        is_known = name in observers.OBSERVERS  # else its settings stay as they are
        kind = getattr(observers.OBSERVERS[name], "Settings", NoSettings) if is_known else dict
        typed[name] = convert(kind, values or {}, key, as_yaml=True)
    return {**content, "observers": typed}
