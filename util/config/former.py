"""Settings that are constants today, as configs in the checkpoints and results of earlier versions still hold them."""

from typing import Any

ANY = object()  # value of a setting that decided no result
PAD_AT = "pad_at"  # of an augmentation: where a crop is padded, which its ``pad`` says today
PROBABILITIES = {f"{name}_probability": name for name in ("rotate", "blur", "flip")}  # of today's ``changes``
CORRELATION = "correlation"  # of Sym-Net+, once a section of these keys
KIND, SUPPORT_GRID = "kind", "support_grid"
GRIDS = (None, 8)  # values of the latter that are meant today
CONSTANTS: dict[str, Any] = {  # by their names in any section: the values that they have today
    **dict.fromkeys(("graphs", "log_steps", "text_dir", "typical_epochs"), ANY),
    "batch_per": ("run",),
    "betas": ([0.9, 0.999],),
    "decay": (0.1,),
    "keep_tries": (30,),
    "learn_base": (True,),
    "mask_suffix": (".png",),
    "milestones": ([], [0.3333333, 0.6666666]),
    "momentum": (0.9,),
    "nesterov": (False,),
    "power": (0.9,),
    "prior_update_at": ([10],),
    "rotate": (10.0,),
    "test_fold_list": (None,),
    "train_fold_list": (None,),
    **dict.fromkeys((PAD_AT, *PROBABILITIES), ()),
}


def without_former(content: Any, of_any_value: bool = False) -> Any:
    """Return a stored config, or a part of one, in today's settings: without those that are constants by their values.

    A setting of another value stays, unless ``of_any_value``: whoever reads the config finds a key that is unknown, or
    changed since.
    """
    if isinstance(content, list):
        return [without_former(part, of_any_value) for part in content]
    if not isinstance(content, dict):
        return content
    content = _with_a_word(_renamed(content))
    return {
        key: without_former(part, of_any_value)
        for key, part in content.items()
        if key not in CONSTANTS or not (of_any_value or _is_constant(key, content))
    }


def _renamed(section: dict[str, Any]) -> dict[str, Any]:
    """Return a section whose ``nesterov`` and probabilities of changes are today's ``kind`` and ``changes``."""
    if section.get("nesterov") is True and section.get("kind") == "sgd":
        return {**section, "kind": "nesterov", "nesterov": False}
    if not all(section.get(key) in (0, 0.5) for key in PROBABILITIES):
        return section
    rest = {key: value for key, value in section.items() if key not in PROBABILITIES}
    return {**rest, "changes": [name for key, name in PROBABILITIES.items() if section[key]]}


def _with_a_word(section: dict[str, Any]) -> dict[str, Any]:
    """Return a section whose ``correlation`` is a word where it was a section of today's values."""
    former = section.get(CORRELATION)
    if not isinstance(former, dict) or former.keys() != {KIND, SUPPORT_GRID} or former[SUPPORT_GRID] not in GRIDS:
        return section
    return {**section, CORRELATION: former[KIND]}


def _is_constant(key: str, section: dict[str, Any]) -> bool:
    """Return whether a former setting of a section has the value that is meant today."""
    if key == PAD_AT:
        today = "end" if section.get("pad") == "black" else "around"
        return section[PAD_AT] == today or section.get("fit") == "stretch"  # where nothing is padded
    return CONSTANTS[key] is ANY or section[key] in CONSTANTS[key]
