"""How a protocol's sizes and a model's meet: the view the network gets, and what is scored on."""

from __future__ import annotations

from model.registry import class_of
from util.data.views import CANVAS, ORIGINAL, SQUARE, View
from util.settings import Config, ProtocolSettings


def view_of(config: Config, protocol: ProtocolSettings) -> View:
    """Return a protocol's view for the configured model; a side it does not take gives way to the nearest it does."""
    asked = protocol.side or config.data.size
    if protocol.input == ORIGINAL:
        return View(ORIGINAL, 0, 0) if class_of(config.model).any_size else View(CANVAS, *(config.data.size,) * 2)
    return View(protocol.input, legal_side(config, asked), asked, protocol.smooth)


def training_view(config: Config, protocol: ProtocolSettings) -> View:
    """Return the view for validations during training: the protocol's rule at the sides the model is built for."""
    size = config.data.size
    rule = CANVAS if protocol.input == ORIGINAL else protocol.input
    return View(rule, size, size, protocol.smooth)


def scored_on(view: View, protocol: ProtocolSettings) -> str:
    """Return what logits of a view are counted on: original labels come as a square where the view is a canvas."""
    return SQUARE if protocol.scored_on == ORIGINAL and view.rule == CANVAS else protocol.scored_on


def legal_side(config: Config, asked: int) -> int:
    """Return the side nearest to the one asked for that the model takes, or ``data.size`` if it takes neither."""
    around = class_of(config.model).sizes_around(asked)
    problem = getattr(config.model, "problem", lambda side: None)
    fitting = [s for s in around if problem(s) is None]
    if asked in fitting:
        return asked
    return min(fitting, key=lambda s: (abs(s - asked), -s)) if fitting else config.data.size


def in_words(config: Config, protocol: ProtocolSettings, view: View) -> str:
    """Return how the network saw images, and where that is not what the protocol asks for."""
    if view.rule == ORIGINAL:
        return "original sizes, nothing resized"
    what = f"{view.rule} {view.side} x {view.side}"
    if protocol.input == ORIGINAL:
        return f"{what} (this model takes no images of any size), scored on original labels"
    if view.side != view.label_side:
        scored = f", scored at {view.label_side}" if protocol.scored_on == CANVAS and view.rule != CANVAS else ""
        return f"{what} (this model does not take {view.label_side}){scored}"
    return what
