"""A local page: upload a photo, paint the object, upload others, see it found. Needs gradio, which nothing else does.

It listens on this machine alone unless told otherwise. What is uploaded lies in a temporary folder, is removed after
``KEEP_SECONDS``, and with the folder when the page ends.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from util.errors import UserError
from util.predict.command import segmenter_of
from util.predict.photos import MAX_PIXELS
from util.predict.segmenter import Segmenter
from util.predict.supports import Support, checked_name, from_arrays

UPLOAD = "32mb"
MAX_SUPPORTS, MAX_QUERIES = 10, 50  # of one person at a time
KEEP_SECONDS, LOOK_SECONDS = 600, 60
PAINT = ("#2878f0", 0.6)  # colour and its share
PORTS = range(1, 2**16)
MODEL_LOCK = threading.Lock()
COLUMNS = ["photo", "pixels", "share", "x0", "y0", "x1", "y1", "confidence"]
Shown = tuple[list[tuple[np.ndarray, str]], list[list[Any]], str]


def serve(options: argparse.Namespace) -> int:
    """Show the page until it is interrupted.

    Raises:
        UserError: gradio is missing, the model cannot be opened, or the address cannot be had.
    """
    for given, name in ((options.supports, "--support"), (options.queries, "--query"), (options.out, "--out")):
        if given:
            raise UserError(f"--serve: takes no {name}; supports and queries are uploaded on the page")
    if options.port not in PORTS:
        raise UserError(f"--port {options.port}: must be 1..{PORTS[-1]}")
    gradio = _gradio()
    segmenter = segmenter_of(options)
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses twice as many, also what gradio opens
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="predict-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = build(gradio, segmenter)
        try:
            page.launch(
                server_name=options.host,
                server_port=options.port,
                max_file_size=UPLOAD,
                prevent_thread_lock=True,
                share=False,
                quiet=True,
                ssr_mode=False,
                footer_links=[],
                theme=gradio.themes.Default(font=["sans-serif"], font_mono=["monospace"]),
            )
        except OSError as error:
            raise UserError(f"--host {options.host} --port {options.port}: cannot be had ({error})") from None
        print(f"{segmenter.model.network.title} on http://{options.host}:{options.port} - Ctrl-C ends it", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("ended", flush=True)
        finally:
            page.close(verbose=False)
    return 0


def _gradio() -> ModuleType:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError:
        raise UserError("--serve: gradio is not installed; pip install -r requirements-serve.txt") from None
    return gradio


def build(gradio: ModuleType, segmenter: Segmenter) -> Any:
    """Return the page, unlaunched."""
    with gradio.Blocks(
        title="Few-shot segmentation", analytics_enabled=False, delete_cache=(LOOK_SECONDS, KEEP_SECONDS)
    ) as page:
        kept = gradio.State([])
        gradio.Markdown(
            f"## Mark it once, find it elsewhere\n{segmenter.model.network.title}, {segmenter.model.source}"
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
                keep = gradio.Button("Keep this one and paint another")
                name = gradio.Textbox(label="2. What it is called (optional)", elem_id="name")
                queries = gradio.File(
                    label=f"3. Photos to look in, at most {MAX_QUERIES}",
                    file_count="multiple",
                    file_types=["image"],
                    elem_id="queries",
                )
                find = gradio.Button("Find it", variant="primary", elem_id="find")
            with gradio.Column():
                gallery = gradio.Gallery(label="Found", columns=2, object_fit="contain", format="png", elem_id="found")
                table = gradio.Dataframe(headers=COLUMNS, label="Numbers", elem_id="numbers")
                note = gradio.Markdown(elem_id="note")

        def on_keep(value: Any, supports: list[Support]) -> tuple[list[Support], None, str]:
            supports = _guarded(gradio, lambda: [*supports, painted(value)][-MAX_SUPPORTS:])
            return supports, None, f"{len(supports)} support(s) kept"

        def on_find(value: Any, supports: list[Support], called: str, files: list[str] | None) -> Shown:
            return _guarded(gradio, lambda: found(segmenter, value, supports, called, files or []))

        keep.click(on_keep, [editor, kept], [kept, editor, note], api_visibility="private")
        find.click(on_find, [editor, kept, name, queries], [gallery, table, note], api_visibility="private")
    return page


def _guarded(gradio: ModuleType, action: Any) -> Any:
    """Return what an action gives; what a person can mend is shown on the page."""
    try:
        return action()
    except UserError as error:
        raise gradio.Error(str(error), print_exception=False) from None


def painted(value: dict[str, Any] | None) -> Support:
    """Return what an editor holds as a support: its photo, and whatever was painted over it.

    Raises:
        UserError: no photo, or nothing painted.
    """
    background = (value or {}).get("background")
    if background is None:
        raise UserError("no photo: upload one on the left and paint over the object")
    mask = np.zeros(background.shape[:2], bool)
    for layer in value["layers"]:
        if layer.shape[:2] != mask.shape:
            raise UserError("the painting has another size than the photo; upload the photo again")
        mask |= layer[..., 3] > 0
    if not mask.any():
        raise UserError("nothing is painted: paint over the object with the brush")
    return from_arrays(np.ascontiguousarray(background[..., :3]), mask)


def found(segmenter: Segmenter, value: Any, supports: list[Support], called: str, files: list[str]) -> Shown:
    """Return overlays with captions, a row of numbers for each photo, and what the name stood for.

    Raises:
        UserError: no supports, no photos or too many, a bad name, or a file that cannot be read.
    """
    if not supports or (value or {}).get("background") is not None:
        supports = [*supports, painted(value)]
    if not 1 <= len(files) <= MAX_QUERIES:
        raise UserError(f"{len(files)} photos to look in: upload 1 to {MAX_QUERIES}")
    name = checked_name(called) if called.strip() else None
    pictures, rows = [], []
    with MODEL_LOCK:
        mine = segmenter.alike()
        mine.add(name, supports)
        for file, prediction in zip(files, mine.many(files), strict=True):
            (numbers,) = prediction.summary()
            shown = Path(file).name
            pictures.append((prediction.overlay(), f"{shown}: {100 * numbers['share']:.1f} %"))
            box = numbers["box"] or [None] * 4
            rows.append([shown, numbers["pixels"], numbers["share"], *box, numbers["confidence"]])
    return pictures, rows, " ".join(mine.notes)
