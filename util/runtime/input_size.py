"""The image sizes of a test: a protocol's input rule fitted to the sides that the model takes, and the scored label."""

from model.registry import class_of
from util.config.settings import PLAIN_SCALES, Config, ProtocolSettings
from util.data.images.views import LETTERBOX, ORIGINAL, SQUARE, View
from util.errors import UserError


def view_of(config: Config, protocol: ProtocolSettings, side: int | None = None) -> View:
    """Return a protocol's view for the configured model, at the nearest side that the model takes.

    ``side`` is in place of the protocol's; validations during training take ``data.size``.
    """
    size = config.data.size
    model_class = class_of(config.model)
    if protocol.input == ORIGINAL:
        takes_any_size = model_class.takes_any_size(config.model)
        return View(ORIGINAL, 0, 0) if takes_any_size else View(LETTERBOX, size, size)
    label_side = side or protocol.side or size
    network_side = model_class.nearest_side(label_side, config.model) or size
    return View(protocol.input, network_side, label_side, protocol.smooth)


def scored_on(view: View, protocol: ProtocolSettings) -> str:
    """Return the kind of label that a view is scored on: original labels become squares for a letterboxed view."""
    if protocol.scored_on == ORIGINAL and view.rule == LETTERBOX:
        return SQUARE
    return protocol.scored_on


def real_scales(config: Config, view: View) -> list[float]:
    """Return the factors of ``test.scales`` that the model takes: its nearest side divided by the view's side.

    Images of their original sizes are resized by exactly the configured factors. UserError: the model takes no side
    near a factor's, or two factors mean the same side.
    """
    if view.rule == ORIGINAL:
        sizes = list(config.test.scales)
    else:
        sizes = [_scaled_side(config, view, factor) for factor in config.test.scales]
    for i, (factor, size) in enumerate(zip(config.test.scales, sizes, strict=True)):
        if not size:
            raise UserError(f"test.scales: {factor:g} is a side that {config.model.backbone()} cannot take; omit it")
        if size in sizes[:i]:
            raise UserError(f"test.scales: {factor:g} means the same as another factor; omit it")
    return sizes if view.rule == ORIGINAL else [size / view.side for size in sizes]


def _scaled_side(config: Config, view: View, factor: float) -> float:
    """Return the side in pixels that the model takes for a factor of a view's side; 0: there is none."""
    if factor == 1:
        return view.side
    return class_of(config.model).nearest_side(round(factor * view.side), config.model) or 0


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
    scales = real_scales(config, view)
    if view.rule == ORIGINAL:
        return f"{what}; seen times {', '.join(f'{factor:g}' for factor in scales)}"
    return f"{what}; seen at px {', '.join(f'{view.side * factor:g}' for factor in scales)}"
