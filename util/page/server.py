"""Serve the page: check the options, load the model, launch, and remove all files at the end. Needs gradio.

By default the page is reachable from this machine alone. Files lie in a temporary folder, which is removed when the
page ends.
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

from PIL import Image

from util.errors import UserError
from util.page.actions import end
from util.page.events import Events
from util.page.layout import Layout, style
from util.predict.options import HOST, PORT, segmenter_of
from util.predict.photos import MAX_PIXELS
from util.predict.segmenter import Segmenter

TITLE = "Few-shot segmentation"


def build(gradio: ModuleType, segmenter: Segmenter, root: Path) -> Any:
    """Return the page, not yet launched.

    Args:
        root: the folder in which visits keep their photos.
    """
    with gradio.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        Events(gradio, Layout(gradio, segmenter, root), segmenter, root)
    return page


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
