"""The page: its parts, what each of them shows, what each event does, and the server. Needs gradio.

By default the page is reachable from this machine alone. Files lie in a temporary folder, which is removed when the
page ends.
"""

from __future__ import annotations

import argparse
import html
import os
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

from util.errors import UserError, one_line
from util.page.found import LEVELS, MAX_CLASSES, hex_colour, support_thumbnail, table_of
from util.page.marks import BOX, BRUSH, ERASER, POINT, text_of
from util.page.visit import (
    ARCHIVE,
    Visit,
    end,
    load_example,
    message_of,
    open_example,
    segment,
    take_as_supports,
    write_archive,
)
from util.predict.options import HOST, PORT, segmenter_of
from util.predict.photos import MAX_PIXELS
from util.predict.segmenter import Segmenter
from util.predict.supports import MAX_NAME_LENGTH, UNNAMED
from util.predict.write_formats import COCO, FORMATS, PICTURES

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


FOLDER = Path(__file__).parent
TITLE = "Few-shot segmentation"
SUPPORT, FOUND = "support", "found"  # the two canvases
FORMAT_LABELS = {PICTURES: "png: masks, overlays, probabilities"}
MARK_HINTS = {
    BRUSH: "Paint over the whole object.",
    ERASER: "Wipe over pixels that are not the object.",
    BOX: "Drag a box around the object, or click two opposite corners.",
    POINT: "Click on several places of the object.",
}
CORRECT_HINTS = {
    BRUSH: "Paint pixels that belong to the class above.",
    ERASER: "Wipe away pixels that belong to no class.",
    BOX: "Drag a box whose pixels belong to the class above, or click two opposite corners.",
}
TABLE = ["class", "presence", "pixels", "share", "confidence"]


def build(gradio: ModuleType, segmenter: Segmenter, root: Path) -> Any:
    """Return the page, not yet launched.

    Args:
        root: the folder in which visits keep their photos.
    """
    with gradio.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        Events(gradio, Layout(gradio, segmenter, root), segmenter, root)
    return page


def style() -> str:
    """Return the style sheet, with the classes' colours beside their names."""
    swatches = (
        f".choice label:nth-of-type({value}) span::before {{ content: ''; background: {hex_colour(value)}; }}"
        for value in range(1, MAX_CLASSES + 1)
    )
    return "\n".join([(FOLDER / "page.css").read_text(encoding="utf-8"), *swatches])


class Layout:
    """All parts of the page, made inside a ``gradio.Blocks``, from top to bottom."""

    def __init__(self, gradio: ModuleType, segmenter: Segmenter, root: Path):
        self.gradio = gradio
        self.visit = gradio.State(Visit(root))
        with gradio.Row(elem_classes="head"):
            gradio.Markdown(
                f"## Mark an object once, segment it elsewhere\n{segmenter.model.network.title}, "
                f"{Path(segmenter.model.source).name}"
            )
            self.example = gradio.Button("Load the example", elem_id="example", scale=0, min_width=170)
        self.note = gradio.HTML(html_template='<p role="status">${value}</p>', elem_id="note")
        with gradio.Row():
            with gradio.Column(min_width=340):
                self._classes()
                self._supports()
            with gradio.Column(min_width=340):
                self._queries()
                with gradio.Column(elem_classes="part"):
                    self._results()
                    with gradio.Column(elem_classes="later"):
                        self._controls()
                        self._download()

    def _classes(self) -> None:
        gradio = self.gradio
        gradio.Markdown("### 1. Classes", elem_classes="step")
        self.classes = gradio.Radio(
            [(UNNAMED, 1)], value=1, label="Class to mark", elem_id="classes", elem_classes="choice"
        )
        with gradio.Row(elem_classes="naming"):
            self.name = gradio.Textbox(
                label="Name", placeholder="such as cat", max_length=MAX_NAME_LENGTH, elem_id="name", min_width=120
            )
            with gradio.Column(min_width=200), gradio.Row():
                self.add = gradio.Button("Add", size="sm", min_width=60, elem_id="add")
                self.rename = gradio.Button("Rename", size="sm", min_width=60, elem_id="rename")
                self.remove = gradio.Button("Remove", size="sm", min_width=60, elem_id="remove")

    def _supports(self) -> None:
        gradio = self.gradio
        gradio.Markdown("### 2. Mark each class on at least one photo", elem_classes="step")
        with gradio.Row():
            self.upload = gradio.UploadButton("Upload a photo", file_types=["image"], elem_id="upload", size="sm")
            self.example_photo = gradio.Button("Take an example photo", size="sm", elem_id="example_photo")
        with gradio.Column(elem_classes="part"):
            empty = "No photo yet: upload one that shows an object, then mark the object."
            self.marking = self._canvas(SUPPORT, empty, MARK_HINTS)
            self.keep = gradio.Button("Keep as support", elem_id="keep", elem_classes="later")
        self.supports = self._gallery("Supports", "supports", 4)
        self.remove_support = gradio.Button("Remove the chosen support", size="sm", elem_id="remove_support")

    def _queries(self) -> None:
        gradio = self.gradio
        gradio.Markdown("### 3. Photos to segment", elem_classes="step")
        with gradio.Row():
            self.upload_queries = gradio.UploadButton(
                "Upload photos",
                file_count="multiple",
                file_types=["image"],
                elem_id="queries",
                size="sm",
            )
            self.remove_query = gradio.Button("Remove the chosen photo", size="sm", elem_id="remove_query")
        self.gallery = self._gallery("Photos", "photos", 4)
        self.find = gradio.Button("Segment", variant="primary", elem_id="find")

    def _results(self) -> None:
        gradio = self.gradio
        gradio.Markdown("### 4. Result: choose a photo above, correct its mask", elem_classes="step")
        with gradio.Column(elem_classes="later"):
            self.correct = gradio.Radio(
                [(UNNAMED, 1)], value=1, label="Class to correct", elem_id="correct", elem_classes="choice"
            )
        self.found = self._canvas(FOUND, "No prediction yet.", CORRECT_HINTS)

    def _controls(self) -> None:
        gradio = self.gradio
        with gradio.Row():
            self.level = gradio.Slider(*LEVELS, value=0, step=0.1, label="Threshold", elem_id="level", min_width=140)
            self.opacity = gradio.Slider(
                0, 1, value=0.5, step=0.05, label="Opacity of masks", elem_id="opacity", min_width=140
            )
        self.table = gradio.Dataframe(
            headers=TABLE, label="Numbers of this photo", interactive=False, elem_id="numbers", max_height=220
        )
        self.take = gradio.Button("Take this mask as a support", size="sm", elem_id="take")

    def _download(self) -> None:
        gradio = self.gradio
        gradio.Markdown("### 5. Download", elem_classes="step")
        self.formats = gradio.CheckboxGroup(
            [(FORMAT_LABELS.get(name, name), name) for name in FORMATS],
            value=[PICTURES, COCO],
            label="Formats",
            elem_id="formats",
        )
        with gradio.Row():
            self.instances = gradio.Checkbox(label="connected parts as objects", min_width=140, elem_id="instances")
            self.polygons = gradio.Checkbox(label="polygons, not exact masks", min_width=140, elem_id="polygons")
        self.pack = gradio.Button("Prepare the download", elem_id="pack")
        self.archive = gradio.DownloadButton("Download", visible=False, variant="primary", elem_id="archive")

    def _canvas(self, place: str, empty: str, hints: dict[str, str]) -> Any:
        return self.gradio.HTML(
            value="",
            html_template=(FOLDER / "canvas.html").read_text(encoding="utf-8"),
            js_on_load=(FOLDER / "canvas.js").read_text(encoding="utf-8"),
            apply_default_css=False,
            elem_id=place,
            place=place,
            scene="",
            empty=empty,
            hints=hints,
        )

    def _gallery(self, label: str, name: str, columns: int) -> Any:
        return self.gradio.Gallery(
            label=label,
            columns=columns,
            height=190,
            object_fit="contain",
            allow_preview=False,
            interactive=False,
            format="jpeg",
            elem_id=name,
            elem_classes="pictures",
            buttons=[],
        )


UNEXPECTED = "the page met an error of its own; the log of the server tells more"
TO_CANVAS = "(v) => {{ window.dispatchEvent(new CustomEvent('marker', {{detail: {{place: '{}', {}: v}}}})) }}"
QUIET: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}  # of events that follow quickly
Action = Callable[..., str | None]  # of the visit and values of components; returns a note


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


def serve(options: argparse.Namespace) -> int:
    """Serve the page until it is interrupted, and return the exit code 0.

    Raises:
        UserError: gradio is missing, the model cannot be loaded, or the address cannot be used.
    """
    supports = (options.supports, "--support"), (options.support_files, "--supports")
    for given, name in (*supports, (options.queries, "--query"), (options.out, "--out")):
        if given:
            raise UserError(f"--serve: takes no {name}; supports and queries are uploaded on the page")
    host, port = options.host or HOST, PORT if options.port is None else options.port
    gradio = _import_gradio()
    segmenter = segmenter_of(options)
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses images of twice as many, also those that gradio opens
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="predict-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = build(gradio, segmenter, Path(folder))
        _launch(page, gradio, host, port)
        print(f"{segmenter.model.network.title} on http://{host}:{port} - Ctrl-C ends it", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("ended", flush=True)
        finally:
            end()
            page.close(verbose=False)
    return 0


def _import_gradio() -> ModuleType:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError:
        raise UserError("--serve: gradio is not installed; pip install -r requirements-serve.txt") from None
    return gradio


def _launch(page: Any, gradio: ModuleType, host: str, port: int) -> None:
    """Start a page in threads of this process."""
    try:
        page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            ssr_mode=False,
            footer_links=[],
            theme=gradio.themes.Default(font=["sans-serif"], font_mono=["monospace"]),
            css=style(),
        )
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: this address cannot be used ({error})") from None
