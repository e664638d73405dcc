"""Find the text vector of a class name for models that read one, and say where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from util.data.words.vectors import find_row
from util.errors import UserError
from util.run.context import RunContext


@dataclass(frozen=True)
class ClassEmbedding:
    """The inputs of a model about a class besides its supports.

    Attributes:
        vector: text vector, (T,) float32; None for models that read no text.
        class_id: 1-based id in the model's data set, 0 for a class that the data set lacks.
        note: one line on the source of the vector, empty without a vector.
    """

    vector: np.ndarray | None
    class_id: int
    note: str = ""


def class_embedding(name: str | None, context: RunContext, words: Path | None) -> ClassEmbedding:
    """Return the embedding of a class name.

    The vector is, in this order: that of the data set's class of the same name (upper and lower case are equal), that
    of the word in ``words``, the mean over the data set's classes.

    Args:
        name: None for supports without a class name.
        context: data set and text vectors of the model.
        words: a file of word vectors, in a format that ``prepare.py embeddings`` reads.

    Raises:
        UserError: ``words`` cannot be read, or its vectors have another width than the model's.
    """
    data, table = context.config.data, context.vectors
    ids = {known.lower(): number for number, known in enumerate(data.classes, 1)}
    class_id = ids.get((name or "").lower(), 0)
    if table is None:
        return ClassEmbedding(None, class_id)
    if class_id:
        return ClassEmbedding(table[class_id], class_id, f"{name}: uses the text vector of {data.name}'s class")
    row = find_row(words, name) if words is not None and name else None
    if row is None:
        return ClassEmbedding(table[1:].mean(0), 0, _mean_note(name, data.name, words))
    if row.shape != table.shape[1:]:
        raise UserError(
            f"{words}: has vectors of {len(row)} numbers, this model was trained with {table.shape[1]}; "
            "name another file"
        )
    return ClassEmbedding(row, 0, f"{name}: uses the text vector in {words}")


def _mean_note(name: str | None, dataset: str, words: Path | None) -> str:
    """Return the line that says why the mean vector is used, and which options give a better one."""
    mean = f"so the mean text vector of {dataset}'s classes is used"
    if name is None:
        return f"the supports have no class name, {mean}; give --name CLASS"
    if words is None:
        return f"{name}: not a class of {dataset}, {mean}; give the name of a class, or --vectors FILE"
    return f"{name}: not a class of {dataset} and not a word of {words}, {mean}"
