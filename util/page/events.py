"""The views and events of the page: each event changes the visit, then refreshes some parts."""

from __future__ import annotations

import html
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from util.errors import UserError, one_line
from util.page.actions import ARCHIVE, load_example, message_of, open_example, segment, take_as_supports, write_archive
from util.page.found import support_thumbnail, table_of
from util.page.layout import Layout
from util.page.marks import text_of
from util.page.visit import Visit
from util.predict.segmenter import Segmenter

Updates = dict[Any, Any]  # component -> update
View = Callable[[Visit], Updates]
UNEXPECTED = "the page met an error of its own; the log of the server tells more"
TO_CANVAS = "(v) => {{ window.dispatchEvent(new CustomEvent('marker', {{detail: {{place: '{}', {}: v}}}})) }}"
QUIET: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}  # of events that follow quickly
Action = Callable[..., str | None]  # of the visit and values of components; returns a note


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


class Events:
    """Connects the parts of a page with the actions."""

    def __init__(self, gradio: ModuleType, parts: Layout, segmenter: Segmenter, root: Path):
        self.gradio, self.parts, self.segmenter, self.root = gradio, parts, segmenter, root
        self.views = Views(gradio, parts)
        self._connect_classes()
        self._connect_supports()
        self._connect_photos()
        self._connect_results()

    def _connect_classes(self) -> None:
        parts, views = self.parts, self.views
        chosen, shown = [parts.classes, parts.name], [views.classes, views.marking, views.supports]
        self._on(parts.add.click, lambda visit, _, name: visit.add_class(name), chosen, shown)
        self._on(parts.name.submit, lambda visit, _, name: visit.add_class(name), chosen, shown)
        self._on(parts.rename.click, Visit.rename_class, chosen, shown)
        self._on(parts.remove.click, lambda visit, value, _: visit.remove_class(value), chosen, shown)
        parts.classes.change(None, [parts.classes], js=TO_CANVAS.format("support", "value"))
        parts.correct.change(None, [parts.correct], js=TO_CANVAS.format("found", "value"))
        parts.opacity.change(None, [parts.opacity], js=TO_CANVAS.format("found", "opacity"))

    def _connect_supports(self) -> None:
        parts, views = self.parts, self.views

        def keep(visit: Visit, text: str) -> str:
            visit.mark(text)
            return f"{visit.keep_marks()} support(s) kept"

        def choose(visit: Visit, event: Any) -> None:
            visit.chosen_support = event.index

        self._on(parts.upload.upload, lambda visit, path: visit.open_photo(Path(path)), [parts.upload], [views.marking])
        self._on(parts.example_photo.click, open_example, [], [views.marking])
        self._on(parts.marking.input, Visit.mark, [parts.marking], [], **QUIET)
        self._on(parts.keep.click, keep, [parts.marking], [views.marking, views.supports])
        self._on_select(parts.supports.select, choose, [])
        self._on(parts.remove_support.click, Visit.remove_support, [], [views.supports])

    def _connect_photos(self) -> None:
        parts, views = self.parts, self.views

        def add(visit: Visit, paths: list[str]) -> str:
            visit.add_queries([Path(path) for path in paths])
            return f"{len(visit.queries)} photo(s) to segment"

        def choose(visit: Visit, event: Any) -> None:
            visit.shown = int(event.index)

        def find(visit: Visit, text: str, corrections: str, progress: Any) -> str:
            visit.mark(text)
            visit.correct(corrections)
            notes = segment(visit, self.segmenter, lambda done, total: progress((done, total), unit="photos"))
            return "; ".join([f"{len(visit.found)} photo(s) segmented", *notes])

        self._on(parts.upload_queries.upload, add, [parts.upload_queries], [views.photos])
        self._on_select(parts.gallery.select, choose, [views.result])
        self._on(parts.remove_query.click, Visit.remove_query, [], [views.photos, views.result])
        self._on(parts.example.click, load_example, [], views.all)
        progressing = {"show_progress_on": parts.gallery}
        shown = [views.marking, views.supports, views.photos, views.result]

        def on_find(visit: Visit, text: str, corrections: str, progress: Any = self.gradio.Progress()) -> Updates:  # noqa: B008
            return self._done(visit, lambda: find(visit, text, corrections, progress), shown)

        self._connect(parts.find.click, on_find, [parts.marking, parts.found], **progressing)

    def _connect_results(self) -> None:
        parts, views = self.parts, self.views

        def set_level(visit: Visit, level: float) -> None:
            visit.level = float(level)

        def take(visit: Visit, text: str) -> str:
            visit.correct(text)
            return f"{take_as_supports(visit)} support(s) kept"

        def pack(visit: Visit, text: str, chosen: list[str], polygons: bool, instances: bool) -> str:
            visit.correct(text)
            path = write_archive(visit, chosen, polygons, instances)
            return f"{path.name} has {path.stat().st_size / 2**20:.1f} MB"

        def archive(visit: Visit) -> Updates:
            path = visit.folder / ARCHIVE
            return {parts.archive: self.gradio.DownloadButton(value=str(path), visible=path.exists())}

        corrected = [views.photos, views.numbers]
        self._on(parts.found.input, Visit.correct, [parts.found], corrected, **QUIET)
        self._on(parts.level.change, set_level, [parts.level], [views.photos, views.layer], **QUIET)
        self._on(parts.take.click, take, [parts.found], [views.supports])
        given = [parts.found, parts.formats, parts.polygons, parts.instances]
        self._on(parts.pack.click, pack, given, [archive])

    def _on(
        self, event: Any, action: Action, inputs: Sequence[Any] = (), shown: Sequence[View] = (), **options: Any
    ) -> None:
        """Let an event run an action and refresh some views."""

        def handle(visit: Visit, *values: Any) -> Updates:
            return self._done(visit, lambda: action(visit, *values), shown)

        self._connect(event, handle, inputs, **options)

    def _on_select(self, event: Any, action: Callable[[Visit, Any], None], shown: Sequence[View]) -> None:
        """Let the choice of a picture run an action, which gets gradio's ``SelectData``."""

        def handle(visit: Visit, data: Any) -> Updates:
            return self._done(visit, lambda: action(visit, data), shown)

        handle.__annotations__["data"] = self.gradio.SelectData  # tells gradio to pass it
        self._connect(event, handle, [], show_progress="hidden")

    def _connect(self, event: Any, handle: Callable[..., Updates], inputs: Sequence[Any], **options: Any) -> None:
        outputs = [self.parts.note, *self.views.components]
        event(handle, [self.parts.visit, *inputs], outputs, api_visibility="private", **options)

    def _done(self, visit: Visit, action: Callable[[], str | None], shown: Sequence[View]) -> Updates:
        """Run an action on a visit and return the refreshed parts; an error is shown on the page."""
        with visit.lock:
            try:
                note, failed = action() or "", False
            except UserError as error:
                note, failed = str(error), True
            except Exception:
                traceback.print_exc()
                note, failed = UNEXPECTED, True
            note = html.escape(message_of(one_line(note), self.root))
            if failed:
                self.gradio.Warning(note, title="Not done")
            updates: Updates = {self.parts.note: note}
            for view in shown:
                updates |= view(visit)
            return updates
