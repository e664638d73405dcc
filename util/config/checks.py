"""Checks of several keys of a config together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from operator import attrgetter
from typing import Any

from model.contract import ModelSettings
from model.registry import class_of
from util.config import folds
from util.config.settings import Config
from util.files.errors import nearest
from util.files.typecheck import Misfit, raise_all


def checked(config: Config, place_written: Callable[[str], str | None]) -> Config:
    """Return a config whose values go together; inherited settings that mean nothing have their defaults.

    Inherited image sides become the nearest that method and encoder take.

    Args:
        config: the settings, each possible by itself.
        place_written: returns where a person's file or an override sets a value, or one of a section, else None.

    Raises:
        Misfit: some values do not go together, or one that is written means nothing.
    """
    config = _fitted(config, place_written)
    misfits = list[Misfit]()
    for key, reason, default in [*_needless(config, "", _without_effect(config))]:
        if attrgetter(key)(config) != default and place_written(key):
            misfits.append(Misfit(key, f"{key} has no effect: {reason}; leave it out"))
        config = _with(config, key, default)
    misfits += [Misfit(key, f"{key} {problem}".strip()) for key, problem in _problems(config)]
    raise_all(misfits)
    return config


def _without_effect(config: Config) -> dict[str, str]:
    """Return why settings, or sections, mean nothing beside others, by their keys; '' for one that counts."""
    cls = class_of(config.model)
    encoder = config.model.encoder
    is_random = encoder is not None and encoder.weights is None
    is_stretched = config.meta_stage.input == "stretch"
    return {
        "meta_stage.augment": "meta_stage.input is stretch" if is_stretched else "",
        "data.modalities": "" if cls.modalities else f"{cls.title} reads colours alone",
        "base_stage": "" if cls.has_base_stage() else f"{cls.title} has no base learner and so no base stage",
        "meta_stage.views": f"{cls.title}'s encoder learns" if cls.encoder_changes(config.model) else "",
        "model.encoder.partial": "model.encoder.weights is null" if is_random else "",
        "model.encoder.pretraining": "model.encoder.weights is null" if is_random else "",
    }


def _fitted(config: Config, place_written: Callable[[str], str | None]) -> Config:
    """Return a config with the nearest sides that method and encoder take in place of inherited ones."""
    model = config.model
    cls = class_of(model)
    if cls.encoder_problem(model):
        return config
    for section in ("data", "base_stage", "meta_stage"):
        key = f"{section}.size"
        size = getattr(getattr(config, section), "size", None)
        if size is not None and not place_written(key):
            config = _with(config, key, cls.nearest_side(size, model) or size)
    return config


def _with(section: Any, key: str, value: Any) -> Any:
    """Return a section with another value under a key, such as ``model.encoder.partial``."""
    name, _, below = key.partition(".")
    return replace(section, **{name: _with(getattr(section, name), below, value) if below else value})


def _needless(section: Any, prefix: str, reasons: dict[str, str]) -> Iterator[tuple[str, str, Any]]:
    """Yield (key, why, default) for settings that mean nothing, by ``reasons`` or as their conditions do not hold."""
    for field in fields(section):
        key = f"{prefix}{field.name}"
        value = getattr(section, field.name)
        if reason := reasons.get(key) or _unmet_condition(section, field, key):
            yield key, reason, default_of(field)
        elif is_dataclass(value):
            yield from _needless(value, f"{key}.", reasons)


def default_of(field: Field) -> Any:
    """Return a setting's default, MISSING where it has none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _unmet_condition(section: Any, field: Field, key: str) -> str:
    """Return why the conditions of a field, ``stage`` and ``only``, do not hold; '' if they hold."""
    stage, is_of_stage, _ = key.partition("_stage.")
    its_stage = field.metadata.get("stage", stage)
    if is_of_stage and its_stage != stage:
        return f"it is a setting of the {its_stage} stage"
    if "only" not in field.metadata:
        return ""
    other, wanted = field.metadata["only"]
    given = getattr(section, other)
    is_met = bool(given) if wanted is True else given == wanted
    shown = f"{given:g}" if isinstance(given, float) else given
    return "" if is_met else f"{key.rpartition('.')[0]}.{other} is {shown}"


def _problems(config: Config) -> Iterator[tuple[str, str]]:
    """Yield (key, problem and remedy in words) for values that do not go together."""
    model = config.model
    cls = class_of(model)
    yield from _fold_problems(config)
    yield from _protocol_problems(config)
    if problem := cls.encoder_problem(model):
        yield from _below("model.encoder", [problem])
        return  # image sides are asked of an encoder
    yield from _side_problems(model, "data.size", config.data.size)
    for name in ("base_stage", "meta_stage") if cls.has_base_stage() else ("meta_stage",):
        stage = getattr(config, name)
        if stage is None:
            yield name, "is missing; set it or inherit it with 'base: ...'"
        elif stage.size is not None:
            yield from _side_problems(model, f"{name}.size", stage.size)
    yield from _below("model", [model.problem(config.data.size)])


def _below(section: str, problems: Iterable[tuple[str, str] | None]) -> Iterator[tuple[str, str]]:
    """Yield problems of a section's keys, as far as there are some, as those of whole keys."""
    for key, reason in filter(None, problems):
        yield f"{section}.{key}", reason


def _fold_problems(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the mistakes in the folds, also for a method that learns their base classes."""
    data = config.data
    cls = class_of(config.model)
    problems = [*folds.problems(data)]
    yield from _below("data", problems)
    has_folds = data.fold_rule != folds.LISTS and folds.has_class_maps(data)
    if not problems and cls.has_base_stage() and not has_folds:
        yield (
            "",
            f"{cls.title} has a base learner, which learns the base classes of a fold; data set {data.name} has no "
            f"folds, or more than {folds.MAX_INDEX} classes; take another method, such as MODEL=hsnet or "
            "MODEL=multiprototype",
        )


def _protocol_problems(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the mistakes in the protocols, and in the choice of one."""
    name = config.test.protocol
    if name not in config.protocols:
        yield "test.protocol", f"= {name!r} is unknown{nearest(name, config.protocols)}"
    for name, protocol in config.protocols.items():
        yield from _below(f"protocols.{name}", protocol.problems())
        if isinstance(protocol.episodes, list) and len(protocol.episodes) != config.data.folds:
            yield (
                f"protocols.{name}.episodes",
                f"holds {len(protocol.episodes)} numbers; give {config.data.folds}, one for each fold",
            )


def _side_problems(model: ModelSettings, key: str, size: int) -> Iterator[tuple[str, str]]:
    """Yield why method and encoder do not take a side of images."""
    cls = class_of(model)
    below, above = cls.sizes_around(size, model)
    if size != below:
        step, rest = cls.rule(model)
        rule = f"{step}k + {rest}" if rest else f"a multiple of {step}"
        yield key, f"= {size} is not {rule}; nearest: {below}, {above}"
    sides = model.sides()
    if sides is not None and size not in sides:
        takes = f"{cls.title} takes with {model.encoder_name()}; valid: {', '.join(map(str, sides))}"
        yield key, f"= {size} is no image side that {takes}"
