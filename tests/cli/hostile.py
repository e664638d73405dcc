"""Damaged or malicious files of others: name -> content."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

SIDE = 64
DEEP = 100_000
LAUGHS = 9  # levels of ten aliases each
TRAP = Path("trap-has-run")


class Bomb:
    """Unpickled, it would run a command."""

    def __reduce__(self):
        return os.system, (f"touch {TRAP}",)


def png(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size that its content has not."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def image(array: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind)
    return out.getvalue()


def saved(content: object) -> bytes:
    """Return a file of ``torch.save``."""
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def labelme(*points: object, **more: object) -> bytes:
    return json.dumps({"shapes": [{"label": "a", "points": points, **more}]}).encode()


def coco(segmentation: object, file_name: str = "photo.png", side: int = SIDE, category: int = 1) -> bytes:
    photo = {"id": 1, "file_name": file_name, "height": side, "width": side}
    marks = {"image_id": 1, "category_id": category, "segmentation": segmentation}
    names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return json.dumps({"images": [photo], "annotations": [marks], "categories": names}).encode()


def laughs(opening: str, closing: str, entry: str) -> bytes:
    """Return YAML whose last value would be ten to the power of ``LAUGHS`` values."""
    lines = [f"x0: &x0 {opening}{entry.format(0, '1')}{closing}"]
    for level in range(1, LAUGHS + 1):
        parts = ", ".join(entry.format(i, f"*x{level - 1}") for i in range(10))
        lines.append(f"x{level}: &x{level} {opening}{parts}{closing}")
    return "\n".join(lines).encode()


NOISE = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
JPEG = image(NOISE, "JPEG")
CORNERS = [1, 1, 9, 1, 9, 9]
CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "text": b"not what it is called",
    "nul": b"\0" * 300,
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "cut": JPEG[: len(JPEG) // 2],
    "start": JPEG[:20],
    "bomb": png(2**15, 2**15),
    "larger bomb": png(2**31 - 1, 2**31 - 1),
    "huge": png(2**16 + 1, 2**10),
    "black": image(np.zeros((SIDE, SIDE), np.uint8)),
    "wide": image(np.ones((SIDE, SIDE + 1), np.uint8)),
    "colours": image(NOISE),
    "class 9": image(np.full((SIDE, SIDE), 9, np.uint8)),
    "pickle": pickle.dumps(Bomb()),
    "brace": b"{",
    "list": b'["shapes"]',
    "objects": b'{"objects": []}',
    "no shapes": b'{"shapes": []}',
    "line": labelme([1, 2], [3, 4], shape_type="line"),
    "far": labelme([1e12, 2], [3, 1e12], [5, 6]),
    "word": labelme(["x", 2]),
    "outline nan": labelme([float("nan"), 1], [9, 1], [9, 9]),
    "no points": labelme(),
    "deep shapes": b'{"shapes": ' + b"[" * DEEP,
    "deep annotations": b'{"annotations": ' + b"[" * DEEP,
    "utf-16": '{"shapes": []}'.encode("utf-16"),
    "elsewhere": coco([CORNERS], "other.png"),
    "coco huge": coco([CORNERS], side=10**9),
    "coco nan": coco([[float("nan"), 1, 9, 1, 9, 9]]),
    "coco above": coco([CORNERS], "../../photo.png"),
    "coco runs": coco({"size": [SIDE, SIDE], "counts": [10**9]}),
    "coco negative runs": coco({"size": [SIDE, SIDE], "counts": [-1, 3]}),
    "coco class": coco([CORNERS], category=-1),
    "coco words": coco("polygon"),
    "torch pickle": saved({"weights": Bomb()}),
    "torch list": saved([torch.zeros(3)]),
    "torch plain": saved({"layer": torch.zeros(3)}),
    "torch config": saved({"format": "sym-net/1", "stage": "meta", "config": {"run": "x"}, "weights": {}}),
    "torch zip": saved({"layer": torch.zeros(3)})[:-30],
    "table objects": npz(vectors=np.array([[Bomb()]], object)),
    "table rows": npz(vectors=np.ones((3, 4), np.float32)),
    "table flat": npz(vectors=np.ones(9, np.float32)),
    "table words": npz(vectors=np.array([["a"] * 4] * 9)),
    "table inf": npz(vectors=np.full((9, 4), np.inf, np.float32)),
    "table nan": npz(vectors=np.full((9, 4), np.nan, np.float32)),
    "table other": npz(other=np.ones((9, 4), np.float32)),
    "list utf-16": "mini_000001\n".encode("utf-16"),
    "list above": b"../../../etc/passwd\n",
    "list absolute": b"/etc/passwd\n",
    "list nul": b"mini\0_000001\n",
    "list twice": b"a\nb\na\n",
    "list form": b"one two three\n",
    "list dictionary": pickle.dumps({99: ["a"]}),
    "list numbers": pickle.dumps([1, 2]),
    "manifest line": b'{"query": 3}\n',
    "manifest deep": b"[" * DEEP,
    "manifest negative": b'{"query": "a", "class": -1, "supports": ["b"]}\n',
    "yaml tag": b"data: !!python/object/apply:os.system ['touch trap-has-run']\n",
    "yaml lists": laughs("[", "]", "{1}"),
    "yaml sections": laughs("{", "}", "k{0}: {1}"),
    "yaml circle": b"data: &a [*a]\n",
    "yaml deep": b"data: " + b"[" * DEEP,
    "yaml dashes": b"- " * DEEP,
    "yaml binary": b"\xff\xfe\x00\x9c",
}


def weights(own: dict[str, torch.Tensor], damage: str) -> dict[str, torch.Tensor]:
    """Return a network's weights with one of them spoilt."""
    name = next(n for n, w in own.items() if w.ndim == 4)
    spoilt = {
        "nan": torch.full_like(own[name], float("nan")),
        "integers": own[name].to(torch.int64),
        "complex": own[name].to(torch.complex64),
        "sparse": own[name].to_sparse(),
        "shape": own[name][:1],
    }
    return {**own, name: spoilt[damage]}
