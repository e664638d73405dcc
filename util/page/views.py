"""How each part of the page shows a visit, as updates of its components."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from util.page.found import table_of
from util.page.marks import text_of
from util.page.rendering import support_thumbnail
from util.page.visit import Visit

if TYPE_CHECKING:
    from util.page.layout import Layout

Updates = dict[Any, Any]  # component -> update
View = Callable[[Visit], Updates]


class Views:
    """The views of a page; each returns the updates of some components."""

    def __init__(self, gradio: ModuleType, parts: Layout):
        self.gradio, self.parts = gradio, parts
        self.all: tuple[View, ...] = (self.classes, self.marking, self.supports, self.photos, self.result)
        self.components = [
            *(parts.classes, parts.name, parts.marking, parts.supports, parts.gallery, parts.found),
            *(parts.level, parts.correct, parts.table, parts.archive),
        ]

    def classes(self, visit: Visit) -> Updates:
        """Show the classes; the one that was added or renamed last is chosen."""
        choices = [(name, value) for value, name in enumerate(visit.classes, 1)]
        return {self.parts.classes: self.gradio.Radio(choices, value=visit.chosen_class), self.parts.name: ""}

    def marking(self, visit: Visit) -> Updates:
        """Show the photo that is being marked, and the marks."""
        if visit.open is None:
            return {self.parts.marking: self.gradio.HTML(value="", scene="")}
        text = text_of(visit.open.key, visit.open.marks)
        return {self.parts.marking: self.gradio.HTML(value=text, scene=visit.open.scene.text())}

    def supports(self, visit: Visit) -> Updates:
        """Show the supports, each in the colour of its class."""
        pictures = []
        for name, support in visit.supports:
            value = visit.classes.index(name) + 1
            pictures.append((support_thumbnail(support.image, support.label, value), name))
        return {self.parts.supports: self.gradio.Gallery(pictures, selected_index=None)}

    def photos(self, visit: Visit) -> Updates:
        """Show the photos to segment, with what was found."""
        pictures = []
        for query in visit.queries:
            shown = query.thumbnail if query.found is None else query.found.thumbnail(visit.threshold)
            pictures.append((shown, query.path.name))
        return {self.parts.gallery: self.gradio.Gallery(pictures, selected_index=visit.shown if pictures else None)}

    def result(self, visit: Visit) -> Updates:
        """Show the chosen photo's prediction."""
        parts, photo = self.parts, visit.shown_photo()
        if photo is None:
            return {parts.found: self.gradio.HTML(value="", scene=""), parts.table: [], **self._no_archive()}
        choices = [(name, value) for value, name in enumerate(photo.names, 1)]
        scene, marks = photo.scene(visit.threshold).text(), text_of(photo.key, photo.marks)
        return {
            parts.found: self.gradio.HTML(value=marks, scene=scene),
            parts.level: visit.level,
            parts.correct: self.gradio.Radio(choices, value=1),
            **self.numbers(visit),
        }

    def layer(self, visit: Visit) -> Updates:
        """Show the chosen photo's mask at another threshold."""
        if (photo := visit.shown_photo()) is None:
            return self._no_archive()
        scene = photo.scene(visit.threshold).text()
        return {self.parts.found: self.gradio.HTML(scene=scene), **self.numbers(visit)}

    def numbers(self, visit: Visit) -> Updates:
        """Show the numbers of the chosen photo; an earlier download is out of date."""
        photo = visit.shown_photo()
        rows = [] if photo is None else table_of(photo.summary(visit.threshold))
        return {self.parts.table: rows, **self._no_archive()}

    def _no_archive(self) -> Updates:
        return {self.parts.archive: self.gradio.DownloadButton(value=None, visible=False)}
