"""A class name gives its text vector, and a note says where the vector came from."""

from pathlib import Path

import numpy as np
import torch

from util.data.mini import CLASS_NAMES
from util.predict.encoded_class import text_of
from util.predict.supports import parse_support

SIDE, WIDTH = 33, 300  # of the input in pixels, of text vectors


def test_a_name_gives_its_vector_and_the_note_its_source(empty_segmenter, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    rows = {"background": np.eye(WIDTH)[0], "cat": np.eye(WIDTH)[1], "dog": 2 * np.eye(WIDTH)[2]}
    words.write_text("".join(f"{w} {' '.join(map(str, row))}\n" for w, row in rows.items()))
    context = empty_segmenter().model.context
    table = context.vectors
    mean = "so the mean text vector of mini's classes is used"
    cases = {
        CLASS_NAMES[2]: (table[3], "uses the text vector of mini's class"),
        CLASS_NAMES[2].upper(): (table[3], "uses the text vector of mini's class"),
        "dog": (np.eye(WIDTH)[2], f"dog: uses the text vector in {words}"),
        "horse": (table[1:].mean(0), f"horse: not a class of mini and not a word of {words}, {mean}"),
        None: (table[1:].mean(0), f"the supports have no class name, {mean}; give --name CLASS"),
    }
    for name, (vector, note) in cases.items():
        _, found, line = text_of(name, context, words)
        assert np.allclose(found, vector, atol=1e-6) and note in line, name
    assert text_of("horse", context, None)[2].endswith("give the name of a class, or --vectors FILE")
    assert [text_of(name, context, None)[0] for name in (CLASS_NAMES[2], "horse", None)] == [3, 0, 0]


def test_a_segmenter_passes_the_vector_on(empty_segmenter, drawn_support: str) -> None:
    segmenter = empty_segmenter()
    segmenter.add(CLASS_NAMES[0], [parse_support(drawn_support).read()])
    (known,) = segmenter.classes
    assert segmenter.notes == [known.note] and known.class_id == 1
    episode = known.episode(torch.zeros(2, 3, SIDE, SIDE), known.support_batches[0], False)
    assert np.array_equal(episode.text, 2 * [segmenter.model.context.vectors[1]])
