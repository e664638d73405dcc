"""The results of a command in a folder: mask, overlay, probabilities and JSON of each photo.

Each file is written atomically, the JSON of a photo last. It holds the masks as run lengths too, so that other formats
(``export.py``) and the summary (``summary.py``) are written from the JSON files alone.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from annotations import recognise, yolo
from annotations.photo_files import is_same_file
from annotations.words import name_key
from photos import persons
from photos.prediction import NETWORK, Prediction, paths_of, write_result
from photos.read_photos import QUERY_FILE, read_with_facts
from photos.record import FOUND, SAID, own_record, own_records, pictures_of
from photos.summary import REVIEW, SUMMARY
from util.files.errors import UserError, check_known
from util.files.parallel import result_or_error
from util.files.progress import ProgressBar

PICTURES = "png"  # masks, overlays and probabilities
FORMATS = (PICTURES, *recognise.WRITERS)
BEGINS = {SUMMARY: b"photo,class,shown", REVIEW: b"<title>Review of results</title>"}  # tells whose file it is
RESULT_MARK = f'"{QUERY_FILE}"'.encode()  # the same in JSON files
LONGEST = 255  # bytes of a file's name


def is_of_others(path: Path) -> bool:
    """Return whether a file that results would be written to is there, not empty, and of another program."""
    content = path.read_bytes()[:10_000] if path.is_file() else b""
    return content != b"" and BEGINS.get(path.name, RESULT_MARK) not in content


def below(folders: Iterable[Path]) -> list[Path]:
    """Return all files and folders directly in some folders."""
    return [path for folder in folders for path in folder.glob("*")]


def refuse_links(paths: Iterable[Path]) -> None:
    """Refuse (UserError) links, except COCO's to the photos: in a folder that somebody sent they may lead anywhere."""
    for path in paths:
        if path.is_symlink() and path.parts[-2:] != (recognise.COCO, "images"):
            raise UserError(f"{path}: is a link, which a folder of results must not hold; remove it")


class Results:
    """A folder of results.

    Args:
        out: the folder, which need not exist.
        names: the classes, in the order of their values in masks.
        formats: what is written beside the JSON files.
        declared: categories of the supports' file, id -> name, which keep their ids.
        instances: list the connected parts of each class in the JSON.

    UserError: a format is unknown, or there is none.
    """

    def __init__(
        self,
        out: Path,
        names: Sequence[str],
        formats: Sequence[str] = (PICTURES,),
        *,
        declared: dict[int, str] | None = None,
        instances: bool = False,
    ):
        self.out = out
        self.formats = formats
        self.instances = instances
        for name in formats or [""]:
            check_known(name, FORMATS, f"--format: '{name}' is none of {', '.join(FORMATS)}")
        self.declared = declared or {}
        self.names = names
        self.made = set[Path]()  # the queries whose results were written since

    def continue_formats(self) -> None:
        """Add the formats of an earlier command in the folder, whose files would otherwise be older than the results.

        UserError: as ``refuse_links``.
        """
        folders = [self.out / name for name in (*recognise.WRITERS, persons.FOLDER)]
        refuse_links([*folders, *below(folders)])
        earlier = [name for name in FORMATS if (self.out / (REVIEW if name == PICTURES else name)).exists()]
        self.formats = [*dict.fromkeys((*self.formats, *earlier))]

    @property
    def categories(self) -> dict[int, str]:
        """The classes by their ids in other formats: those of the supports' file, then the others."""
        others = [name for name in dict.fromkeys(self.names) if name not in self.declared.values()]
        of_others = dict(enumerate(others, max(self.declared, default=0) + 1))
        return dict(sorted((self.declared | of_others).items()))

    def paths(self, query: Path) -> list[Path]:
        """Return ``paths_of`` a query's files."""
        return paths_of(self.out, query.stem, self.names)

    def check(self, queries: Collection[Path], again: bool) -> None:
        """Refuse queries whose results would overwrite each other, the queries, or (without ``again``) earlier results.

        UserError: names the first conflict; or a file there is of another program.
        """
        if self.out.is_file():
            raise UserError(f"{self.out}: is a file; name a folder by --out")
        of_formats = [self.out / name for name in self.formats if name != PICTURES]
        for path in (*of_formats, *self._distinct_paths(queries)):
            if path.exists() and not again:
                raise UserError(f"{path}: this result exists already; name another --out, or add --resume")
        for path in (self.out / SUMMARY, self.out / REVIEW, *(self.paths(query)[0] for query in queries)):
            if is_of_others(path):
                raise UserError(f"{path}: was not written by this program and would be overwritten; name another --out")

    def check_classes(self) -> None:
        """Refuse (UserError) a folder with results of other classes, or with a data file of YOLO for other classes."""
        for path, record in own_records(self.out):
            for row in record["classes"]:
                if row["by"] == NETWORK and row["name"] not in self.names:
                    raise UserError(
                        f"{path}: is a result of the class '{row['name']}', which has no example",
                        fix=f"name another --out, or add an example of '{row['name']}'",
                    )
        numbered = self.out / recognise.YOLO / yolo.DATA_FILE
        if recognise.YOLO in self.formats and numbered.exists():
            classes, *_ = yolo.read_data_file(numbered)
            if [*classes.values()] != [*self.categories.values()]:
                raise UserError(f"{numbered}: was made with other classes; remove its folder, or name another --out")

    def _distinct_paths(self, queries: Collection[Path]) -> Iterator[Path]:
        """Yield the paths of all files of queries.

        UserError: two are one, also where case is ignored, or one is a query, or has a name that is too long.
        """
        sources = {query.resolve() for query in queries}
        owners: dict[str, Path] = {}
        for query in queries:
            for path in self.paths(query):
                if len(os.fsencode(path.name)) > LONGEST:
                    raise UserError(f"{query}: its name is too long: a result would be ..{path.name[-40:]}; rename it")
                key = name_key(str(path))
                if path.resolve() in sources:
                    raise UserError(
                        f"{path}: is a photo to segment, but {query} would have this result",
                        fix="name another --out, or rename a photo",
                    )
                if key in owners:
                    raise UserError(
                        f"{owners[key]} and {query}: both would have the result {path.name}",
                        fix="rename a photo or a class; if one is the mask of the other, name the folder by "
                        "--supports, not by --query",
                    )
                owners[key] = query
                yield path

    def waiting(self, queries: Sequence[Path], facts: dict[str, Any], unread: dict[Path, str]) -> list[Path]:
        """Return the queries to segment; those that cannot be join ``unread``, query -> reason.

        If persons have said something of all classes of a query, its result is written here, without the network.
        """
        waiting = []
        for query in ProgressBar(queries, desc="check results", unit="photo", leave=False, delay=1):
            is_waiting = result_or_error(partial(self._is_waiting, facts=facts), query)
            if isinstance(is_waiting, UserError):
                unread[query] = str(is_waiting)
            elif is_waiting:
                waiting.append(query)
        return waiting

    def _is_waiting(self, query: Path, facts: dict[str, Any]) -> bool:
        """Return whether a query's result of these facts is not complete, and some class is not a person's there.

        UserError: a folder lies in place of a file of its result, or a person's masks cannot be read.
        """
        for path in filter(Path.is_dir, self.paths(query)):
            raise UserError(f"{path}: is a folder where a result is to lie; rename it, or name another --out")
        if self.is_complete(query, facts):
            return False
        if not {*self.names} <= persons.masks_of(self.out, query).keys():
            return True
        image, of_file = read_with_facts(query)
        self.write_rows(query, image, [], facts | of_file)
        return False

    def is_complete(self, query: Path, facts: dict[str, Any]) -> bool:
        """Return whether a query's results are all there, none empty, of the same file, facts and persons' masks."""
        record = own_record(self.paths(query)[0])
        expected = {**facts, "query": str(query), SAID: persons.digest_of(self.out, query)}
        is_of_these = all(record.get(key) == value for key, value in expected.items())
        files = [self.out / name for name in pictures_of(record)]
        if not (is_of_these and is_same_file(record[QUERY_FILE], query)) or (PICTURES in self.formats and not files):
            return False
        return all(file.is_file() and file.stat().st_size > 0 for file in files)

    def write(self, prediction: Prediction, facts: dict[str, Any]) -> None:
        """Write the files of a photo's prediction, with what persons have said of it."""
        query = prediction.photo
        assert query is not None
        rows = prediction.summary(masks=True, instances=self.instances)
        if self._has_pictures(query):
            prediction.write_probabilities(paths_of(self.out, query.stem, prediction.names), rows)
        self.write_rows(query, prediction.image, rows, facts | {QUERY_FILE: prediction.facts[QUERY_FILE]})

    def write_rows(self, query: Path, image: np.ndarray, found: list[dict[str, Any]], facts: dict[str, Any]) -> None:
        """Write mask, overlay and JSON of a photo: the rows that the network has found, persons' masks over them.

        ``facts`` are entries of the JSON, with those of the file that was read: if it was replaced since, persons'
        masks of the new file are left out.
        """
        self.made.add(query)
        said = persons.masks_of(self.out, query) if is_same_file(facts[QUERY_FILE], query) else {}
        rows = persons.over(found, said, self.names) if said else found
        kept = {SAID: persons.digest_of(self.out, query), FOUND: found if said else None}
        write_result(
            paths_of(self.out, query.stem),
            query,
            image,
            rows,
            {**facts, **kept},
            pictures=self._has_pictures(query),
        )

    def _has_pictures(self, query: Path) -> bool:
        """Return whether a query's result gets pictures: if they are asked for, or if its earlier result has some."""
        return PICTURES in self.formats or bool(pictures_of(own_record(self.paths(query)[0])))
