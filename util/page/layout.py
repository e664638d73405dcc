"""The parts of the page and their arrangement. Gradio is handed in, so that only ``server.py`` imports it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from util.page.found import LEVELS, MAX_CLASSES, hex_colour
from util.page.marks import BOX, BRUSH, ERASER, POINT
from util.page.visit import (
    Visit,
)
from util.predict.results import FORMATS, PICTURES
from util.predict.segmenter import Segmenter
from util.predict.supports import MAX_NAME_LENGTH, UNNAMED

FOLDER = Path(__file__).parent
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
            value=[PICTURES, "coco"],
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
