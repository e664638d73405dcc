"""Checks of several keys of a config together."""

from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

from model.common.with_encoder import WithEncoder
from model.contract import FewShotModel
from model.registry import class_of
from util.config import folds
from util.config.settings import Config
from util.errors import nearest
from util.typecheck import Misfit

OF_META_STAGE = (
    *("query", "supports", "input", "views", "cache_gib", "validate_on", "validate_seed"),
    *("augment.keep_target", "augment.keep_tries"),
)


def checked(config: Config, own: frozenset[str]) -> Config:
    """Return a config whose values go together; inherited settings that mean nothing have their own defaults.

    Inherited image sides become the nearest that method and encoder take.

    Args:
        own: keys that the config's own file or an override sets.

    Raises:
        Misfit: some values do not go together, or one of ``own`` means nothing.
    """
    config = _fitted(config, own)
    for key, problem in _problems(config):
        raise Misfit(key, f"{key} {problem}".strip())
    cls = class_of(config.model)
    dead = {"meta_stage.images": "it is a setting of the base stage"}
    dead |= {f"base_stage.{key}": "it is a setting of the meta stage" for key in OF_META_STAGE}
    if config.meta_stage.input == "stretch":
        dead["meta_stage.augment"] = "meta_stage.input is stretch"
    if not cls.has_base_stage:
        dead["base_stage"] = f"{cls.title} has no base learner and so no base stage"
    if issubclass(cls, WithEncoder) and (config.model.encoder.learn or cls.encoder_learns):
        dead |= {f"meta_stage.{key}": f"{cls.title}'s encoder learns" for key in ("views", "cache_gib")}
    if config.model.encoder is not None and config.model.encoder.weights is None:
        dead |= {f"model.encoder.{key}": "model.encoder.weights is null" for key in ("partial", "pretraining")}
    return _alive(config, "", dead, own)


def protocol_problem(cls: type[FewShotModel], name: str, generalised: bool) -> str:
    """Return in words why a method cannot be scored by a protocol of this name and kind; '' if it can."""
    if generalised and not cls.generalised:
        learner = "give them this one's checkpoint" if cls.has_base_stage else f"{cls.title} has no base learner"
        return f"protocol {name} takes MODEL=bcm or MODEL=diam, over a base learner; {learner}"
    if cls.generalised and not generalised:
        kind = f"one class of an episode, {cls.title} base and novel classes at once"
        return f"protocol {name} labels {kind}; take --protocol gfss"
    return ""


def _is_own(key: str, own: frozenset[str]) -> bool:
    """Return whether the config's own file or an override sets a value, or one of its section."""
    return key in own or any(name.startswith(f"{key}.") for name in own)


def _fitted(config: Config, own: frozenset[str]) -> Config:
    model, cls, changes = config.model, class_of(config.model), {}
    if issubclass(cls, WithEncoder) and cls.encoder_problem(model.encoder):
        return config
    for key in ("data", "base_stage", "meta_stage"):
        size = getattr(getattr(config, key), "size", None)
        if size is not None and f"{key}.size" not in own:
            changes[key] = replace(getattr(config, key), size=cls.nearest_side(size, model) or size)
    return replace(config, **changes)


def _alive(value: Any, key: str, dead: dict[str, str], own: frozenset[str]) -> Any:
    """Return settings with the defaults of those that mean nothing: ``dead``, or a field's ``only`` does not hold."""
    if isinstance(value, dict):
        return {name: _alive(v, f"{key}.{name}", dead, own) for name, v in value.items()}
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changes = {}
    for field in fields(value):
        name = f"{key}.{field.name}".lstrip(".")
        chosen = getattr(value, field.name)
        other, wanted = field.metadata.get("only", ("", None))
        given = getattr(value, other) if other else None
        reason = next((words for k, words in dead.items() if f"{name}.".startswith(f"{k}.")), "")
        if not reason and (bool(given) if wanted is True else given) != wanted:
            reason = f"{name.rpartition('.')[0]}.{other} is {given}"
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if not reason or default is MISSING:  # a section, all of whose keys may be dead
            changes[field.name] = _alive(chosen, name, dead, own)
            continue
        if chosen != default and _is_own(name, own):
            raise Misfit(name, f"{name} has no effect: {reason}; leave it at {default}")
        changes[field.name] = default
    return replace(value, **changes)


def _problems(config: Config) -> Iterator[tuple[str, str]]:
    """Yield (key, problem and remedy in words) for values that do not go together."""
    data, model, cls = config.data, config.model, class_of(config.model)
    if found := folds.problem(data):
        yield f"data.{found[0]}", found[1]
    if cls.has_base_stage and not folds.teach_base_learners(vars(data)):
        needs = f"{cls.title} has a base learner, which learns the base classes of a fold"
        lacks = f"data set {data.name} has no folds, or more than {folds.MAX_INDEX} classes"
        yield "", f"{needs}; {lacks}; take another method, such as MODEL=hsnet or MODEL=multiprototype"
    if config.test.protocol not in config.protocols:
        yield "test.protocol", f"= {config.test.protocol!r} is unknown{nearest(config.test.protocol, config.protocols)}"
    elif problem := protocol_problem(cls, config.test.protocol, config.protocols[config.test.protocol].generalised):
        yield "test.protocol", f"= {config.test.protocol}: {problem}"
    for name, protocol in config.protocols.items():
        if found := protocol.problem():
            yield f"protocols.{name}.{found[0]}", found[1]
        if isinstance(protocol.episodes, list) and len(protocol.episodes) != data.folds:
            yield f"protocols.{name}.episodes", f"holds {len(protocol.episodes)} numbers; data.folds = {data.folds}"
    if issubclass(cls, WithEncoder) and (found := cls.encoder_problem(model.encoder)):
        yield f"model.encoder.{found[0]}", found[1]
    sizes, sides, (step, rest) = {"data.size": data.size}, model.sides(), cls.rule(model)
    for name in ("base_stage", "meta_stage") if cls.has_base_stage else ("meta_stage",):
        stage = getattr(config, name)
        if stage is None:
            yield "", f"key '{name}' is missing; set it or inherit it with 'base: ...'"
        low, high = stage.augment.scale
        if low > high:
            yield f"{name}.augment.scale", f"= {stage.augment.scale} must be [low, high]"
        sizes[f"{name}.size"] = config.stage_size(stage)
    for key, size in sizes.items():
        below, above = cls.sizes_around(size, model)
        if size != below:
            rule = f"{step}k + {rest}" if rest else f"a multiple of {step}"
            yield key, f"= {size} is not {rule}; nearest: {below}, {above}"
        if sides is not None and size not in sides:
            taken = f"{cls.title} takes with {model.backbone()}; valid: {', '.join(map(str, sides))}"
            yield key, f"= {size} is no image side that {taken}"
    if found := model.problem(data.size):
        yield f"model.{found[0]}", found[1]
