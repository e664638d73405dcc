"""The page: its parts from top to bottom, and the action of each event. Needs gradio."""

from __future__ import annotations

import html
import os
import re
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from util.data.marks import UNKNOWN
from util.errors import UserError, one_line
from util.page.photo import MAX_CLASSES
from util.page.state import COLUMNS, State
from util.predict.results import FORMATS, PICTURES
from util.predict.segmenter import Segmenter
from util.predict.supports import UNNAMED
from util.report.overlay import class_colour

FOLDER = Path(__file__).parent
LEVELS = (-3.0, 3.0)  # the ends of the slider; 0 is the network's own threshold
COLOURS = ["#{:02x}{:02x}{:02x}".format(*class_colour(value)) for value in range(1, MAX_CLASSES + 1)]
TO_CANVAS = "(v) => {{ window.dispatchEvent(new CustomEvent('marker', {{detail: {{place: '{}', value: v}}}})) }}"
QUIET: dict[str, Any] = {"trigger_mode": "always_last"}  # of events that follow quickly
ONE_BY_ONE = {"concurrency_id": "page", "concurrency_limit": 1, "api_visibility": "private"}


class Page:
    """The parts of the page; every event runs an action of the state, then all parts show the state."""

    def __init__(self, state: State):
        self.state, model = state, state.segmenter.model
        with gr.Blocks(title="Few-shot segmentation", analytics_enabled=False, fill_width=True) as self.blocks:
            with gr.Row(elem_classes="head"):
                title = f"{model.network.title}, {Path(model.weights.source).name}"
                gr.Markdown(f"## Mark an object once, segment it elsewhere\n{title}")
                self.example = gr.Button("Load the example", elem_id="example", scale=0, min_width=170)
            self.note = gr.HTML(html_template='<p role="status">${value}</p>', elem_id="note")
            with gr.Row():
                with gr.Column(min_width=340):
                    self._supports()
                with gr.Column(min_width=340):
                    self._queries()
                    with gr.Column(elem_classes="part"):
                        self._results()
            self._connect()

    def _supports(self) -> None:
        gr.Markdown("### 1. Classes", elem_classes="step")
        self.classes = gr.Radio(label="Class to mark", elem_id="classes", elem_classes="choice")
        with gr.Row(elem_classes="naming"):
            self.name = gr.Textbox(label="Name", placeholder="such as cat", elem_id="name", min_width=120)
            with gr.Column(min_width=200), gr.Row():
                self.add = gr.Button("Add", size="sm", min_width=60, elem_id="add")
                self.rename = gr.Button("Rename", size="sm", min_width=60, elem_id="rename")
                self.remove = gr.Button("Remove", size="sm", min_width=60, elem_id="remove")
        gr.Markdown("### 2. Mark each class on at least one photo", elem_classes="step")
        self.upload = gr.UploadButton("Upload a photo", file_types=["image"], elem_id="upload", size="sm")
        with gr.Column(elem_classes="part"):
            self.marking = _canvas("support", "No photo yet: upload one that shows an object, then mark the object.")
            self.keep = gr.Button("Keep as support", elem_id="keep", elem_classes="later")
        self.supports = _gallery("Supports")
        self.remove_support = gr.Button("Remove the chosen support", size="sm", elem_id="remove_support")

    def _queries(self) -> None:
        gr.Markdown("### 3. Photos to segment", elem_classes="step")
        with gr.Row():
            self.upload_queries = gr.UploadButton(
                "Upload photos", file_count="multiple", file_types=["image"], size="sm"
            )
            self.remove_query = gr.Button("Remove the chosen photo", size="sm", elem_id="remove_query")
        self.photos = _gallery("Photos")
        self.find = gr.Button("Segment", variant="primary", elem_id="find")

    def _results(self) -> None:
        gr.Markdown("### 4. Result: choose a photo above, correct its mask", elem_classes="step")
        with gr.Column(elem_classes="later"):
            self.correct = gr.Radio(label="Class to correct", elem_id="correct", elem_classes="choice")
        self.found = _canvas("found", "No prediction yet.")
        with gr.Column(elem_classes="later"):
            self.level = gr.Slider(*LEVELS, value=0, step=0.1, label="Threshold", elem_id="level")
            self.table = gr.Dataframe(headers=list(COLUMNS), label="Numbers of this photo", elem_id="numbers")
            self.take = gr.Button("Take this mask as a support", size="sm", elem_id="take")
            gr.Markdown("### 5. Download", elem_classes="step")
            self.formats = gr.CheckboxGroup(FORMATS, value=[PICTURES, "coco"], label="Formats", elem_id="formats")
            self.pack = gr.Button("Prepare the download", elem_id="pack")
            self.archive = gr.DownloadButton("Download", visible=False, variant="primary", elem_id="archive")

    def _connect(self) -> None:
        """Connect the events with the actions."""
        state, class_and_name = self.state, [self.classes, self.name]
        self.choices = [self.classes, self.name, self.correct, self.level]
        self.shown = [self.note, self.marking, self.supports, self.photos, self.found, self.table, self.archive]
        self._on(self.blocks.load, lambda: None, renew=True)
        self._on(self.example.click, state.load_example, renew=True)
        self._on(self.add.click, state.add_class, [self.name], renew=True)
        self._on(self.name.submit, state.add_class, [self.name], renew=True)
        self._on(self.rename.click, state.rename_class, class_and_name, renew=True)
        self._on(self.remove.click, state.remove_class, [self.classes], renew=True)
        self._on(self.upload.upload, state.open_photo, [self.upload])
        self._on(self.keep.click, state.keep_marks)
        self._on(self.remove_support.click, state.remove_support)
        self._on(self.upload_queries.upload, state.add_queries, [self.upload_queries])
        self._on(self.remove_query.click, state.remove_query)
        self._on(self.find.click, state.segment, [self.classes], renew=True, show_progress_on=self.photos)
        self._on(self.found.input, lambda: None, **QUIET)
        no_number = "(marks, corrections, level) => [marks, corrections, level ?? 0]"  # while one is typed
        self._on(self.level.change, state.set_level, [self.level], js=no_number, **QUIET)
        self._on(self.take.click, state.take_result)
        self._on(self.pack.click, state.pack, [self.formats])
        self.classes.change(None, [self.classes], js=TO_CANVAS.format("support"))
        self.correct.change(None, [self.correct], js=TO_CANVAS.format("found"))

        def choose_support(event: gr.SelectData) -> None:
            state.chosen_support = event.index

        def choose_photo(event: gr.SelectData) -> dict[Any, Any]:
            state.shown = event.index
            return self._updates("")

        self.supports.select(choose_support, **ONE_BY_ONE)
        self.photos.select(choose_photo, None, self.shown, show_progress="hidden", **ONE_BY_ONE)

    def _on(self, event: Any, action: Any, inputs: Sequence[Any] = (), renew: bool = False, **options: Any) -> None:
        """Let an event run an action, whose note is shown; ``renew`` the choices of classes and the inputs too."""

        def handle(marks: str, corrections: str, *values: Any) -> dict[Any, Any]:
            self.state.archive = None
            try:
                self.state.take_marks(marks, corrections)
                note = action(*values) or ""
            except UserError as error:
                note = one_line(re.sub(rf"{self.state.folder}/(\w+/)?", "", str(error)))
                gr.Warning(html.escape(note), title="Not done")
            return self._updates(html.escape(note), renew)

        outputs = [*self.shown, *(self.choices if renew else [])]
        options = {"show_progress": "full" if "show_progress_on" in options else "hidden", **options}
        event(handle, [self.marking, self.found, *inputs], outputs, **ONE_BY_ONE, **options)

    def _updates(self, note: str, renew: bool = False) -> dict[Any, Any]:
        """Return what the parts show now."""
        state, result, threshold = self.state, self.state.result, self.state.threshold
        updates = {
            self.note: note,
            self.marking: gr.HTML(scene="" if state.open is None else state.open.scene(threshold)),
            self.supports: gr.Gallery(state.support_pictures(), selected_index=state.chosen_support),
            self.photos: gr.Gallery(
                [(query.thumbnail(threshold), query.path.name) for query in state.queries],
                selected_index=state.shown if state.queries else None,
            ),
            self.found: gr.HTML(scene="" if result is None else result.scene(threshold)),
            self.table: state.table(),
            self.archive: gr.DownloadButton(value=state.archive, visible=state.archive is not None),
        }
        if renew:
            names = [state.classes, [UNNAMED] if result is None else result.names]
            classes, found = ([(name, value) for value, name in enumerate(some, 1)] for some in names)
            updates |= {
                self.classes: gr.Radio(classes, value=state.chosen),
                self.name: "",
                self.correct: gr.Radio(found, value=1),
                self.level: state.level,
            }
        return updates


def _canvas(place: str, empty: str) -> Any:
    return gr.HTML(
        html_template=(FOLDER / "canvas.html").read_text(encoding="utf-8"),
        js_on_load=(FOLDER / "canvas.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id=place,
        **{"value": "", "place": place, "scene": "", "empty": empty, "colours": COLOURS, "unknown": UNKNOWN},
    )


def _gallery(label: str) -> Any:
    options = {"object_fit": "contain", "allow_preview": False, "interactive": False, "buttons": []}
    return gr.Gallery(label=label, columns=4, height=190, elem_id=label.lower(), elem_classes="pictures", **options)


def serve(segmenter: Segmenter, host: str, port: int) -> int:
    """Serve the page until it is interrupted, and return the exit code 0; its files are removed then."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    swatches = (
        f".choice label:nth-of-type({value}) span::before {{ content: ''; background: {colour}; }}"
        for value, colour in enumerate(COLOURS, 1)
    )
    with tempfile.TemporaryDirectory(prefix="predict-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        state = State(segmenter, Path(folder))
        page = Page(state).blocks
        page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            footer_links=[],
            theme=gr.themes.Default(font=["sans-serif"], font_mono=["monospace"]),
            css="\n".join([(FOLDER / "page.css").read_text(encoding="utf-8"), *swatches]),
        )
        print(f"{segmenter.model.network.title} on http://{host}:{port} - Ctrl-C ends it", flush=True)
        page.block_thread()
        state.end()
    return 0
