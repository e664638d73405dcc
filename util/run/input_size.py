"""The image sizes of a test: a protocol's input rule fitted to the sides that the model takes."""

from model.registry import class_of
from util.config.settings import Config, ProtocolSettings
from util.data.views import LETTERBOX, ORIGINAL, View


def view_of(config: Config, protocol: ProtocolSettings, side: int | None = None) -> View:
    """Return a protocol's view for the configured model, at the nearest side that the model takes.

    ``side`` is in place of the protocol's; validations during training take ``data.size``.
    """
    size = config.data.size
    model_class = class_of(config.model)
    if protocol.input == ORIGINAL:
        return View(ORIGINAL, 0, 0) if model_class.takes_any_size(config.model) else View(LETTERBOX, size, size)
    label_side = side or protocol.side or size
    network_side = model_class.nearest_side(label_side, config.model) or size
    return View(protocol.input, network_side, label_side, protocol.smooth)


def input_in_words(view: View, wanted_rule: str, wanted_label: str) -> str:
    """Return the input sizes of the network in words, with their difference from a protocol's rule and label."""
    what = f"{view.rule} {view.side} x {view.side}"
    if view.rule == ORIGINAL:
        what = "original sizes, nothing resized"
    elif wanted_rule == ORIGINAL:
        what += " (this model takes no images of any size), scored on original labels"
    elif view.side != view.label_side:
        what += f" (this model does not take {view.label_side})"
        if wanted_label == LETTERBOX and view.rule != LETTERBOX:
            what += f", scored at {view.label_side}"
    return what
