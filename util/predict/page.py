"""Serve a local web page: paint the object on one photo, upload others, see it segmented. Needs gradio.

By default the page is reachable from this machine alone. Uploads lie in a temporary folder; each is removed after
``KEEP_SECONDS``, and the folder when the page ends.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from util.errors import UserError
from util.predict.options import segmenter_of
from util.predict.photos import MAX_PIXELS
from util.predict.prediction import Prediction
from util.predict.segmenter import Segmenter
from util.predict.supports import Support, check_class_name, support_from_arrays

MAX_UPLOAD = "32mb"
MAX_SUPPORTS, MAX_QUERIES = 10, 50  # of one visitor
KEEP_SECONDS, CLEAN_UP_SECONDS = 600, 60  # age at which uploads are removed, interval between removals
PAINT = ("#2878f0", 0.6)  # colour and opacity
PORTS = range(1, 2**16)
MODEL_LOCK = threading.Lock()  # the network serves one visitor at a time
COLUMNS = ["photo", "pixels", "share", "x0", "y0", "x1", "y1", "confidence"]
Shown = tuple[list[tuple[np.ndarray, str]], list[list[Any]], str]  # pictures with captions, rows of COLUMNS, note


def serve(options: argparse.Namespace) -> int:
    """Serve the page until it is interrupted, and return the exit code 0.

    Raises:
        UserError: gradio is missing, the model cannot be loaded, or the address cannot be used.
    """
    supports = (options.supports, "--support"), (options.support_files, "--supports")
    for given, name in (*supports, (options.queries, "--query"), (options.out, "--out")):
        if given:
            raise UserError(f"--serve: takes no {name}; supports and queries are uploaded on the page")
    if options.port not in PORTS:
        raise UserError(f"--port {options.port}: must be 1..{PORTS[-1]}")
    gradio = _import_gradio()
    segmenter = segmenter_of(options)
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses images of twice as many, also those that gradio opens
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="predict-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = build(gradio, segmenter)
        _launch(page, gradio, options.host, options.port)
        print(f"{segmenter.model.network.title} on http://{options.host}:{options.port} - Ctrl-C ends it", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("ended", flush=True)
        finally:
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
    """Start a page in threads of this process.

    Raises:
        UserError: the address cannot be used.
    """
    try:
        page.launch(
            server_name=host,
            server_port=port,
            max_file_size=MAX_UPLOAD,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            ssr_mode=False,
            footer_links=[],
            theme=gradio.themes.Default(font=["sans-serif"], font_mono=["monospace"]),
        )
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: this address cannot be used ({error})") from None


def build(gradio: ModuleType, segmenter: Segmenter) -> Any:
    """Return the page, not yet launched."""
    with gradio.Blocks(
        title="Few-shot segmentation", analytics_enabled=False, delete_cache=(CLEAN_UP_SECONDS, KEEP_SECONDS)
    ) as page:
        kept = gradio.State([])
        gradio.Markdown(
            f"## Mark an object once, segment it elsewhere\n{segmenter.model.network.title}, {segmenter.model.source}"
        )
        with gradio.Row():
            with gradio.Column():
                editor = gradio.ImageEditor(
                    label="1. A photo of the object: upload it and paint over the object",
                    sources=("upload",),
                    transforms=(),
                    format="png",
                    layers=False,
                    brush=gradio.Brush(colors=[PAINT], color_mode="fixed"),
                    elem_id="support",
                )
                keep = gradio.Button("Keep this support and paint another")
                name = gradio.Textbox(label="2. Name of its class (optional)", elem_id="name")
                queries = gradio.File(
                    label=f"3. Photos to segment, at most {MAX_QUERIES}",
                    file_count="multiple",
                    file_types=["image"],
                    elem_id="queries",
                )
                find = gradio.Button("Segment", variant="primary", elem_id="find")
            with gradio.Column():
                gallery = gradio.Gallery(
                    label="Predictions", columns=2, object_fit="contain", format="png", elem_id="found"
                )
                table = gradio.Dataframe(headers=COLUMNS, label="Numbers", elem_id="numbers")
                note = gradio.Markdown(elem_id="note")

        def on_keep(value: Any, supports: list[Support]) -> tuple[list[Support], None, str]:
            supports = _show_errors(gradio, lambda: [*supports, painted(value)][-MAX_SUPPORTS:])
            return supports, None, f"{len(supports)} support(s) kept"

        def on_find(value: Any, supports: list[Support], called: str, files: list[str] | None) -> Shown:
            return _show_errors(gradio, lambda: segment(segmenter, value, supports, called, files or []))

        keep.click(on_keep, [editor, kept], [kept, editor, note], api_visibility="private")
        find.click(on_find, [editor, kept, name, queries], [gallery, table, note], api_visibility="private")
    return page


def _show_errors(gradio: ModuleType, action: Any) -> Any:
    """Return the result of an action; a ``UserError`` is shown on the page."""
    try:
        return action()
    except UserError as error:
        raise gradio.Error(str(error), print_exception=False) from None


def painted(value: dict[str, Any] | None) -> Support:
    """Return the photo in an editor as a support, with the painted pixels as the object.

    Args:
        value: of gradio's ``ImageEditor``: ``background`` (H, W, 3 or 4) uint8 and ``layers`` of (H, W, 4) uint8.

    Raises:
        UserError: there is no photo, or nothing is painted.
    """
    background = None if value is None else value.get("background")
    if value is None or background is None:
        raise UserError("no photo: upload one on the left and paint over the object")
    mask = np.zeros(background.shape[:2], bool)
    for layer in value["layers"]:
        if layer.shape[:2] != mask.shape:
            raise UserError("the painted layer and the photo have different sizes; upload the photo again")
        mask |= layer[..., 3] > 0
    if not mask.any():
        raise UserError("nothing is painted: paint over the object with the brush")
    return support_from_arrays(np.ascontiguousarray(background[..., :3]), mask)


def _named(predictions: Iterator[Prediction], files: list[str]) -> Iterator[Prediction]:
    """Yield the predictions; an error names an uploaded file by its own name, not by that of its temporary copy.

    Raises:
        UserError: a file cannot be read.
    """
    try:
        yield from predictions
    except UserError as error:
        text = str(error)
        for file in files:
            text = text.replace(str(file), Path(file).name)
        raise UserError(text) from None


def segment(segmenter: Segmenter, value: Any, supports: list[Support], called: str, files: list[str]) -> Shown:
    """Return overlays with captions, a row of numbers for each photo, and the note on the text vector.

    Args:
        value: the support in the editor; may be empty if ``supports`` are kept.
        called: name of the class, may be empty.
        files: the uploaded queries.

    Raises:
        UserError: there are no supports, no photos or too many, the name cannot be used, or a file that cannot be read.
    """
    if not supports or (value or {}).get("background") is not None:
        supports = [*supports, painted(value)]
    if not 1 <= len(files) <= MAX_QUERIES:
        raise UserError(f"{len(files)} photos to segment: upload 1 to {MAX_QUERIES}")
    name = check_class_name(called) if called.strip() else None
    pictures, rows = [], []
    with MODEL_LOCK:
        mine = segmenter.without_classes()
        mine.add(name, supports)
        for file, prediction in zip(files, _named(mine.many(files), files), strict=True):
            (numbers,) = prediction.summary()
            shown = Path(file).name
            pictures.append((prediction.overlay(), f"{shown}: {100 * numbers['share']:.1f} %"))
            box = numbers["box"] or [None] * 4
            rows.append([shown, numbers["pixels"], numbers["share"], *box, numbers["confidence"]])
    return pictures, rows, " ".join(mine.notes)
