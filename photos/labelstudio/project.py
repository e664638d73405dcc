"""A project of Label Studio as classes with examples, and answers for its tasks: brush strokes or polygons, scored.

The examples of a class are its newest finished annotations, those of the ground truth first.
"""

import hashlib
import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from annotations.annotation import content_errors
from annotations.labelstudio import pixels_in, regions_of
from photos.encoded_class import EncodedClass
from photos.examples import Example, Support
from photos.labelstudio.client import Client, reported
from photos.labelstudio.labelling import Labelling, TaskExample, examples_in, labelling_of
from photos.page.regions import region_at, region_in_box
from photos.photo_files import read_photo
from photos.segmenter import Segmenter
from util.files.errors import UserError
from util.files.palette import IGNORE

SHOTS = 5  # examples of a class, unless --max-shots says otherwise
WAIT = 2  # seconds that a request waits for another that reads the annotations; Label Studio gives up after 3
DIGEST = 8  # characters of the digest in a version


class Project:
    """The classes of a project, its examples as they are now, and answers by them; ``say`` takes lines for the user."""

    def __init__(self, client: Client, number: int, segmenter: Segmenter, shots: int, say: Callable[[str], None]):
        self.client = client
        self.number = number
        self.shots = shots
        self.labelling: Labelling | None = None
        self.version = ""  # of the model, which changes with the examples
        self._say = lambda line: say(f"project {number}: {line}")
        self._empty = segmenter
        self._digest = segmenter.digest()  # of its weights and settings
        self._examples: dict[str, list[TaskExample]] = {}
        self._encoded: dict[str, tuple[list[Any], EncodedClass | None]] = {}  # with the keys of its examples
        self._notes: set[str] = set()  # that were said
        self._stamp: Any = None  # of the configuration and the annotations that were read
        self._reading = threading.Lock()
        self._encoding = threading.Lock()

    def refresh(self) -> None:
        """Read configuration and annotations where they have changed, unless another thread does.

        UserError: the server does not give them, or nothing in the configuration can be answered.
        """
        if not self._reading.acquire(timeout=WAIT):
            return
        try:
            config = self.client.labelling_config(self.number)
            listed = self.client.finished(self.number)
            if (config, listed) != self._stamp:
                labelling = labelling_of(config, f"project {self.number}")
                tasks = self.client.export(self.number, [number for number, _ in listed]) if listed else []
                self._take(examples_in(tasks, self._say), labelling)
                self._stamp = config, listed
        finally:
            self._reading.release()

    def prepare(self) -> Segmenter:
        """Return the segmenter of the present examples; UserError: as ``refresh``, or there are none."""
        self.refresh()
        with self._encoding:
            segmenter = self._empty.without_classes()
            for name, examples in self._examples.items():
                encoded = self._encoded_class(name, examples)
                if encoded is not None:
                    segmenter.classes.append(encoded)
        if not segmenter.classes:
            fix = "annotate an object on one photo, and submit it"
            raise UserError(f"project {self.number}: no finished annotation of one of its labels; {fix}")
        return segmenter

    def _encoded_class(self, name: str, examples: list[TaskExample]) -> EncodedClass | None:
        """Return a class, encoded again where its examples have changed; None if none of these can be read."""
        keys = [example.key for example in examples]
        if name not in self._encoded or self._encoded[name][0] != keys:
            self._encoded[name] = (keys, self._encode(name, examples))
        return self._encoded[name][1]

    def answer(self, task: dict[str, Any], segmenter: Segmenter) -> dict[str, Any]:
        """Return the prediction for a task; UserError: its photo cannot be read."""
        labelling = self._labelling()
        with self._photo(task) as path:
            prediction = segmenter(path)
        result: list[dict[str, Any]] = []
        scores = [0.0]
        for row in prediction.summary():
            if row["name"] in labelling.labels:
                score = row["score"] or 0.0
                scores.append(score)
                result += regions_of(prediction.mask == row["value"], row["name"], score, labelling.control)
        return {"result": result, "score": max(scores), "model_version": self.version}

    def region(self, task: dict[str, Any], drawn: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the region about the key points, and in the rectangles, that a smart tool has drawn on a task.

        UserError: the photo cannot be read, or what is drawn has another form, or a label of another control.
        """
        labelling = self._labelling()
        with self._photo(task) as path:
            image = read_photo(path)
        inside = np.zeros(image.shape[:2], bool)
        with content_errors("smart tool: ", "; place a key point or a rectangle"):
            for entry in drawn:
                part = self._drawn(entry, image)
                if entry.get("is_positive") in (0, False):
                    inside &= ~part
                else:
                    inside |= part
            value = drawn[-1]["value"]
            name = (value.get(drawn[-1]["type"]) or value["labels"])[0]
        if name not in labelling.labels:
            raise UserError(f"smart tool: '{name}' is no label of {labelling.control.tag}; give both the same labels")
        result = regions_of(inside, name, 1.0, labelling.control)
        return {"result": result, "score": 1.0, "model_version": self.version}

    def _drawn(self, entry: dict[str, Any], image: np.ndarray) -> np.ndarray:
        """Return the region of the photo (H, W) bool that one point or rectangle asks for."""
        value = entry["value"]
        size = image.shape[:2]
        place = pixels_in(value, ("x", "y"), size)
        if "height" in value:
            extent = pixels_in(value, ("width", "height"), size)
            return region_in_box(self._empty, image, [place, place + extent])
        column, row = np.clip(place.astype(int), 0, (size[1] - 1, size[0] - 1)).tolist()
        return region_at(self._empty, image, column=column, row=row)

    def _labelling(self) -> Labelling:
        if self.labelling is None:
            raise UserError(f"project {self.number}: its annotations are being read; ask again")
        return self.labelling

    def _photo(self, task: dict[str, Any]) -> AbstractContextManager[Path]:
        """Give a file of a task's photo, for the time of a block; UserError: the task has none, or as the client."""
        key = self._labelling().key
        stated = task["data"].get(key)
        if not isinstance(stated, str):
            raise UserError(f"its data have no photo '{key}'")
        return self.client.photo(stated)

    def _take(self, examples: dict[str, list[TaskExample]], labelling: Labelling) -> None:
        """Take the first examples of each label."""
        self.labelling = labelling
        self._examples = {name: examples[name][: self.shots] for name in labelling.labels if name in examples}
        keys = {}
        for name, of_label in self._examples.items():
            keys[name] = [example.key for example in of_label]
        content = json.dumps([self._digest, labelling.control, keys])
        digest = hashlib.sha256(content.encode()).hexdigest()
        self.version = f"{self._empty.model.title} {digest[:DIGEST]}"
        self._say_labels([*examples], labelling)

    def _say_labels(self, annotated: list[str], labelling: Labelling) -> None:
        """Say how many examples the labels have, which have none, and which annotations have other labels."""
        if self._examples:
            line = ", ".join(f"{name} {len(examples)}" for name, examples in self._examples.items())
            lacking = ", ".join(name for name in labelling.labels if name not in annotated)
            if lacking:
                line += f"; none yet of {lacking}"
            self._say(f"examples: {line}")
        renamed = ", ".join(name for name in annotated if name not in labelling.labels)
        if renamed:
            labels = ", ".join(labelling.labels)
            self._say(f"left out: annotations of {renamed}, which is no label of {labelling.control.tag} ({labels})")

    def _encode(self, name: str, examples: list[TaskExample]) -> EncodedClass | None:
        """Return a class of its examples that can be read, None without any, and say which are left out."""
        segmenter = self._empty.without_classes()
        supports: list[Support] = []
        for example in examples:
            with reported(self._say, f"left out: task {example.task}"):
                supports.append(self._support(example))
        with reported(self._say, f"{name} is left out"):
            segmenter.add(name, supports)
            for note in segmenter.notes:
                if note not in self._notes:
                    self._notes.add(note)
                    self._say(note)
            return segmenter.classes[-1]
        return None

    def _support(self, example: TaskExample) -> Support:
        """Return the support of an example; UserError: it cannot be read, or its object is lost for the network."""
        source = f"task {example.task}"
        with self.client.photo(example.photo.name) as path:
            support = Example(None, path, source, annotated=example.photo).read()
        _, label = self._empty.model.sized(support.image, support.label)
        if np.isin(label, (0, IGNORE)).all():
            raise UserError("its object is too small for the network; crop the photo closer to it")
        return replace(support, source=source)
