"""The image sizes of a test: a protocol's input rule fitted to the sides that the model takes, and the scored label."""

from model.registry import class_of
from util.config.settings import PLAIN_SCALES, Config, ProtocolSettings
from util.data.images.views import LETTERBOX, ORIGINAL, SQUARE, View
from util.errors import UserError


def view_of(config: Config, protocol: ProtocolSettings, side: int | None = None) -> View:
    """Return a protocol's view for the configured model, at the nearest side that the model takes.

    ``side`` is in place of the protocol's; validations during training take ``data.size``.
    """
    size, cls = config.data.size, class_of(config.model)
    if protocol.input == ORIGINAL:
        return View(ORIGINAL, 0, 0) if cls.takes_any_size(config.model) else View(LETTERBOX, size, size)
    asked = side or protocol.side or size
    return View(protocol.input, cls.nearest_side(asked, config.model) or size, asked, protocol.smooth)


def scored_on(view: View, protocol: ProtocolSettings) -> str:
    """Return the kind of label that a view is scored on: original labels become squares for a letterboxed view."""
    return SQUARE if protocol.scored_on == ORIGINAL and view.rule == LETTERBOX else protocol.scored_on


def real_scales(config: Config, view: View) -> list[float]:
    """Return the factors of ``test.scales`` that the model takes: its nearest side divided by the view's side.

    Images of their original sizes are resized by exactly the configured factors. UserError: the model takes no side
    near a factor's, or two factors mean the same side.
    """
    scales, sizes, fit = config.test.scales, list(config.test.scales), class_of(config.model).nearest_side
    if view.rule != ORIGINAL:
        sizes = [view.side if f == 1 else fit(round(f * view.side), config.model) or 0 for f in scales]
    for i, (factor, size) in enumerate(zip(scales, sizes, strict=True)):
        if not size:
            raise UserError(f"test.scales: {factor:g} is a side that {config.model.backbone()} cannot take; omit it")
        if size in sizes[:i]:
            raise UserError(f"test.scales: {factor:g} means the same as another factor; omit it")
    return sizes if view.rule == ORIGINAL else [size / view.side for size in sizes]


def in_words(config: Config, protocol: ProtocolSettings, view: View) -> str:
    """Return the input sizes of the network in words, and their difference from the protocol's."""
    what = f"{view.rule} {view.side} x {view.side}"
    if view.rule == ORIGINAL:
        what = "original sizes, nothing resized"
    elif protocol.input == ORIGINAL:
        what += " (this model takes no images of any size), scored on original labels"
    elif view.side != view.label_side:
        what += f" (this model does not take {view.label_side})"
        if protocol.scored_on == LETTERBOX and view.rule != LETTERBOX:
            what += f", scored at {view.label_side}"
    if config.test.scales == PLAIN_SCALES:
        return what
    unit, whole = ("times", 1) if view.rule == ORIGINAL else ("at px", view.side)
    return f"{what}; seen {unit} {', '.join(f'{whole * factor:g}' for factor in real_scales(config, view))}"
