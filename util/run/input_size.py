"""The image sizes of a test: a protocol's input rule fitted to the sides that the model takes, and the scored label."""

from __future__ import annotations

from model.registry import class_of
from util.config.settings import PLAIN_SCALES, Config, ProtocolSettings
from util.data.images.views import LETTERBOX, ORIGINAL, SQUARE, View
from util.errors import UserError


def view_of(config: Config, protocol: ProtocolSettings) -> View:
    """Return a protocol's view for the configured model, at the nearest side that the model takes."""
    asked = protocol.side or config.data.size
    if protocol.input == ORIGINAL:
        return (
            View(ORIGINAL, 0, 0)
            if class_of(config.model).takes_any_size(config.model)
            else View(LETTERBOX, *(config.data.size,) * 2)
        )
    return View(protocol.input, legal_side(config, asked), asked, protocol.smooth)


def training_view(config: Config, protocol: ProtocolSettings) -> View:
    """Return the view of validations during training: the protocol's rule at the side that the model is built for."""
    size = config.data.size
    if protocol.input == ORIGINAL and class_of(config.model).takes_any_size(config.model):
        return View(ORIGINAL, 0, 0)
    rule = LETTERBOX if protocol.input == ORIGINAL else protocol.input
    return View(rule, size, size, protocol.smooth)


def scored_on(view: View, protocol: ProtocolSettings) -> str:
    """Return the kind of label that a view is scored on: original labels become squares for a letterboxed view."""
    return SQUARE if protocol.scored_on == ORIGINAL and view.rule == LETTERBOX else protocol.scored_on


def legal_side(config: Config, asked: int) -> int:
    """Return the side nearest to ``asked`` that the model takes, or ``data.size`` if it takes none beside it."""
    return _nearest_side(config, asked) or config.data.size


def _nearest_side(config: Config, asked: int) -> int | None:
    """Return the side nearest to ``asked`` that the model takes, the one below or the one above; None for neither."""
    around = class_of(config.model).sizes_around(asked, config.model)
    sides = config.model.sides()
    fitting = [s for s in around if s > 0 and (sides is None or s in sides) and config.model.problem(s) is None]
    if asked in fitting:
        return asked
    return min(fitting, key=lambda s: (abs(s - asked), -s), default=None)


def real_scales(config: Config, view: View) -> list[float]:
    """Return the factors of ``test.scales`` that the model takes: its nearest side divided by the view's side.

    Images of their original sizes are resized by exactly the configured factors.

    Raises:
        UserError: the model takes no side near a factor's, or two factors mean the same side.
    """
    if view.rule == ORIGINAL:
        sizes: list[float] = list(config.test.scales)
    else:
        sizes = [view.side if factor == 1 else _scaled_side(config, view.side, factor) for factor in config.test.scales]
    for i, size in enumerate(sizes):
        if size in sizes[:i]:
            first, second = (config.test.scales[j] for j in (sizes.index(size), i))
            what = "the same" if view.rule == ORIGINAL else f"{size} px for {class_of(config.model).title}"
            raise UserError(f"test.scales: {first:g} and {second:g} both mean {what}; omit one of them")
    return [size if view.rule == ORIGINAL else size / view.side for size in sizes]


def _scaled_side(config: Config, side: int, factor: float) -> int:
    asked = round(factor * side)
    found = _nearest_side(config, asked)
    if found is not None:
        return found
    model_class, sides = class_of(config.model), config.model.sides()
    if sides is None:
        key, message = config.model.problem(model_class.sizes_around(asked, config.model)[1]) or ("", "")
        why = f"model.{key} {message}"
    else:
        why = f"it takes {', '.join(map(str, sides))}"
    raise UserError(
        f"test.scales: {factor:g} x {side} px is {asked} px, which {model_class.title} does not take here ({why}); "
        f"omit {factor:g}"
    )


def in_words(config: Config, protocol: ProtocolSettings, view: View) -> str:
    """Return the input sizes of the network in words, and their difference from the protocol's."""
    what = _at_one_scale(config, protocol, view)
    if config.test.scales == PLAIN_SCALES:
        return what
    unit, whole = ("times", 1) if view.rule == ORIGINAL else ("at px", view.side)
    return f"{what}; seen {unit} {', '.join(f'{whole * factor:g}' for factor in real_scales(config, view))}"


def _at_one_scale(config: Config, protocol: ProtocolSettings, view: View) -> str:
    if view.rule == ORIGINAL:
        return "original sizes, nothing resized"
    what = f"{view.rule} {view.side} x {view.side}"
    if protocol.input == ORIGINAL:
        return f"{what} (this model takes no images of any size), scored on original labels"
    if view.side != view.label_side:
        scored = f", scored at {view.label_side}" if protocol.scored_on == LETTERBOX and view.rule != LETTERBOX else ""
        return f"{what} (this model does not take {view.label_side}){scored}"
    return what
