"""The text vector that a class name stands for, and how it was found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from util.data.word_vectors import find_row
from util.engine.run_context import RunContext
from util.errors import UserError


@dataclass(frozen=True)
class ClassEmbedding:
    """What a model is told of a class: its vector (T,) float32 (None where none is read), id, and a line on both."""

    vector: np.ndarray | None
    class_id: int  # 1-based in the model's data set, 0 where it has no such class
    note: str = ""


def class_embedding(name: str | None, context: RunContext, words: Path | None) -> ClassEmbedding:
    """Return the row of the data set's class of that name, else the word's of a file, else the mean of all classes.

    Args:
        name: None where the supports name no class.
        words: a file of word vectors, as ``prepare.py embeddings`` reads them.

    Raises:
        UserError: the file cannot be read, or its vectors are of another width.
    """
    classes, table = context.config.data.classes, context.vectors
    ids = {c.lower(): i for i, c in enumerate(classes, 1)}
    class_id = ids.get((name or "").lower(), 0)
    if table is None:
        return ClassEmbedding(None, class_id)
    if class_id:
        return ClassEmbedding(
            table[class_id], class_id, f"{name}: the text vector of {context.config.data.name}'s class"
        )
    row = find_row(words, name) if words is not None and name else None
    if row is None:
        whom = f"{name}: is" if name else "the supports' class has no name and is"
        lacks = f", and {words} has no word for it" if words is not None and name else ""
        hint = "" if words is not None else "; --name one of them, or --vectors FILE"
        return ClassEmbedding(
            table[1:].mean(0),
            0,
            f"{whom} none of {context.config.data.name}'s classes{lacks}: the mean of their text vectors "
            f"stands for it{hint}",
        )
    if row.shape != table.shape[1:]:
        raise UserError(
            f"{words}: vectors of {len(row)} numbers, this model was trained with {table.shape[1]}; name another file"
        )
    return ClassEmbedding(row, 0, f"{name}: the text vector of {words}")
