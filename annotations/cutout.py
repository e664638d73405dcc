"""Cut-outs: an object alone as a picture with transparency, for pages, slides and collages."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from annotations.annotation import PredictedPhoto, Predictions
from annotations.pictures import read_image
from annotations.shapes import decoded
from util.files import file_word, write_atomically


def write(folder: Path, predictions: Predictions) -> None:
    """Write a PNG of the photo's size for each object, ``photo_class.png``, transparent outside the object.

    With several objects of a class (``--instances``) their number follows. UserError: a photo cannot be read.
    """
    for photo in predictions.photos:
        if photo.objects:
            _write_objects(folder, photo)


def _write_objects(folder: Path, photo: PredictedPhoto) -> None:
    """Write the pictures of a photo's objects."""
    image = read_image(photo.path)
    of_class = Counter(predicted.name for predicted in photo.objects)
    written = Counter[str]()
    for predicted in photo.objects:
        name = predicted.name
        written[name] += 1
        number = f"_{written[name]}" if of_class[name] > 1 else ""
        alpha = np.where(decoded(predicted.runs), 255, 0).astype(np.uint8)
        picture = cv2.cvtColor(np.dstack([image, alpha]), cv2.COLOR_RGBA2BGRA)
        content = cv2.imencode(".png", picture)[1].tobytes()
        write_atomically(folder / f"{photo.path.stem}_{file_word(name)}{number}.png", content)
