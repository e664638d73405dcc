"""The writer and the strict reader of tensor files: checksums of the archive, tensors alone, this project's form."""

from __future__ import annotations

import lzma
import re
import zipfile
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import IO, Any, TypedDict

import torch
from safetensors.torch import load_file
from torch import Tensor

from model.encoders.weights import PACKAGE
from util.errors import UserError, WriteError
from util.files import write_atomically
from util.plain import problem_of
from util.read_files import irregular
from util.typecheck import Misfit, convert

SAFETENSORS, COMPRESSED = ".safetensors", ".xz"
ENDINGS = (".pth", ".pt", f".pth{COMPRESSED}")  # of checkpoints
MAX_COMPRESSED = 2**29  # bytes of a compressed file's content
FAMILY, FORMAT = "sym-net/", "sym-net/1"
STAGES = ("base", "meta")
SHOWN = 160  # characters of torch's message
SECTIONS = ("run", "data", "model")  # of a config that are read before the whole config is
HELD_BY = ("weights", "state_dict", "model")  # keys under which files hold their named tensors
MAX_EXPANDED = 2**31  # bytes of a tensor that repeats fewer stored values
MAX_HISTORY = 10**6  # values in the records of a run
LEFT_OUT = "left_out"  # key of a small checkpoint: where its other weights are installed -> their digest
FROZEN = "frozen"  # key of a checkpoint: the digests of its tensors that are in files of their own
DIGEST = re.compile(r"[0-9a-f]{64}")
# Members of the archives of exports alone, and the function that loads them.
EXPORT_MEMBERS = {"constants.pkl": "torch.jit.load", "archive_format": "torch.export.load"}


class ProgressForm(TypedDict):
    """The position of a run in its checkpoint, as ``step_schedule.Progress``."""

    step: int
    best: float
    best_epoch: float
    minutes: float
    history: list[dict[str, Any]]
    totals: dict[str, float]


class ScheduleForm(TypedDict):
    """The steps of a run in its checkpoint, as ``step_schedule.StepSchedule``."""

    steps_per_epoch: int
    steps: int
    batch: int


def write_content(path: Path, content: dict[str, Any], previous: Path | None = None) -> None:
    """Write a file of tensors atomically and durably; ``previous`` then holds the old one.

    Raises:
        UserError: the disk is full or the folder cannot be written; the old file is unchanged.
    """

    def write(temporary: Path) -> None:
        try:
            with open(temporary, "wb") as file:  # a file and not a path, which torch would write into the archive
                if path.suffix == COMPRESSED:
                    file.write(_compressed(content))
                else:
                    torch.save(content, file)
        except RuntimeError as error:  # of torch's writer
            raise OSError(str(error)) from None

    try:
        write_atomically(path, write, durable=True, previous=previous)
    except WriteError as error:
        raise UserError(
            f"{path}: could not write this checkpoint ({error.reason}); free some space or change run.folder; "
            "the previous checkpoint is untouched"
        ) from None


def read_content(path: Path) -> dict[str, Any]:
    """Return the content of a ``.pth`` or ``.safetensors`` file, on the CPU, after all checks that need no network.

    Raises:
        UserError: the file is missing, truncated, damaged, an export, no file of tensors, or not of this project's form
            although it says so.
    """
    reason = irregular(path)
    if reason is not None:
        raise UserError(f"{path}: this checkpoint does not exist ({reason}); train first, or give the path of one")
    file = _expanded(path) if path.suffix == COMPRESSED else path
    _check_archive(path, file)
    if isinstance(file, BytesIO):
        file.seek(0)
    try:
        plain = path.suffix == SAFETENSORS
        content: Any = load_file(path) if plain else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: truncated, or not a checkpoint that can be loaded safely ({said[:SHOWN]})") from None
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: not a checkpoint: it holds no named tensors")
    if problem := _tensor_problem(content):
        raise UserError(f"{path}: not a checkpoint: {problem}")
    form = content.get("format")
    if isinstance(form, str) and form.startswith(FAMILY) and form != FORMAT:
        raise UserError(f"{path}: is of the format {form[:SHOWN]}, this version reads {FORMAT}; update the project")
    if is_own(content) and (problem := _form_problem(content)):
        raise UserError(f"{path}: not a checkpoint of this project's form: {problem}; restore the file")
    return content


def is_own(content: dict[str, Any]) -> bool:
    """Return whether a checkpoint says that it is of this project."""
    form = content.get("format")
    return isinstance(form, str) and form == FORMAT


def _compressed(content: dict[str, Any]) -> bytes:
    """Return the bytes of a compressed file of tensors.

    Raises:
        OSError: it would be larger than those that are read.
    """
    plain = BytesIO()
    torch.save(content, plain)
    if plain.tell() > MAX_COMPRESSED:
        raise OSError(f"more than {MAX_COMPRESSED >> 20} MiB are not compressed; leave out the ending {COMPRESSED}")
    return lzma.compress(plain.getvalue())


def _expanded(path: Path) -> BytesIO:
    """Return the content of a compressed file.

    Raises:
        UserError: it is damaged, or larger than any such file of this project.
    """
    try:
        with lzma.open(path) as file:
            content = file.read(MAX_COMPRESSED + 1)
    except (lzma.LZMAError, EOFError, OSError) as error:
        raise UserError(f"{path}: truncated, or damaged ({error}); restore the file") from None
    if len(content) > MAX_COMPRESSED:
        raise UserError(f"{path}: expands to more than {MAX_COMPRESSED >> 20} MiB; restore the file")
    return BytesIO(content)


def _check_archive(path: Path, file: Path | IO[bytes]) -> None:
    """Compare the members of a zip archive with their checksums, which torch does not; other files have none.

    ``file`` is the archive, ``path`` its name in messages.

    Raises:
        UserError: a member is damaged, compressed or there twice, or the archive is an export.
    """
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            packed = next((m.filename for m in members if m.compress_type != zipfile.ZIP_STORED), None)
            twice = next((name for name, count in Counter(m.filename for m in members).items() if count > 1), None)
            names = [Path(m.filename).name for m in members]
            export = next((load for name, load in EXPORT_MEMBERS.items() if name in names), None)
            damaged = archive.testzip() if packed is None and not export else None
    except Exception as error:  # a damaged archive can raise any exception
        raise UserError(f"{path}: truncated, or damaged ({error}); restore the file") from None
    if export:
        raise UserError(
            f"{path}: this is an exported network, not a checkpoint; load it with {export}('{path}'), or give "
            "the checkpoint that it was made from"
        )
    if twice is not None:
        raise UserError(f"{path}: damaged or forged, it has two members named {twice}; restore the file")
    if packed is not None:
        raise UserError(f"{path}: its member {packed} is compressed, which no checkpoint's is; restore the file")
    if damaged is not None:
        raise UserError(f"{path}: damaged, the checksum of its member {damaged} is wrong; restore the file")


def _tensor_problem(content: dict[str, Any]) -> str | None:
    """Return in words what is wrong with the named tensors of any checkpoint, None for nothing."""
    inner = next((content[key] for key in HELD_BY if isinstance(content.get(key), dict)), content)
    for name, value in inner.items():
        if not isinstance(value, Tensor):
            continue
        if not isinstance(name, str):
            return f"a tensor is named {str(name)[:40]!r}, which is no text"
        if value.is_meta:
            return f"tensor {name} has no values"
        expanded = value.layout == torch.strided and value.nbytes > value.untyped_storage().nbytes()
        if expanded and value.nbytes > MAX_EXPANDED:
            return f"tensor {name} claims more values than the file holds"
    return None


def _form_problem(content: dict[str, Any]) -> str | None:
    """Return in words what one of our own checkpoints lacks or has too much, None for nothing."""
    config, weights = content.get("config"), content.get("weights")
    if content.get("stage") not in STAGES:
        return f"its stage is neither {' nor '.join(STAGES)}"
    if not isinstance(config, dict):
        return "it has no config"
    if problem := problem_of(config):
        return f"config: {problem}"
    for section in SECTIONS:
        if section in config and not isinstance(config[section], dict):
            return f"config: {section} must be a section"
        if not isinstance(config.get(section, {}).get("name"), (str, type(None))):
            return f"config: {section}.name must be a text"
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        return "its weights are not named tensors"
    for key in ("data", "text"):
        if not isinstance(content.get(key), (str, type(None))):
            return f"'{key}' is no text"
    frozen = content.get(FROZEN, [])
    if not isinstance(frozen, list) or not all(isinstance(d, str) and DIGEST.fullmatch(d) for d in frozen):
        return f"'{FROZEN}' is no list of SHA-256 digests"
    left_out = content.get(LEFT_OUT, {})
    if not isinstance(left_out, dict) or not left_out.keys() <= {PACKAGE}:
        return f"'{LEFT_OUT}' names more than the installed {PACKAGE}"
    if not all(isinstance(d, str) and DIGEST.fullmatch(d) for d in left_out.values()):
        return f"'{LEFT_OUT}' holds no SHA-256 digest"
    return None


def training_problem(content: dict[str, Any]) -> str | None:
    """Return in words why a training cannot continue from one of our own checkpoints, None if it can.

    That of a training at its end needs no state of the optimisers.
    """
    for key in ("progress", "plan", "data"):
        if key not in content:
            return f"it has no '{key}', it holds weights only"
    try:
        for key, form in (("progress", ProgressForm), ("plan", ScheduleForm)):
            if problem := problem_of(content[key], MAX_HISTORY, (str, int)):
                return f"{key}: {problem}"
            convert(form, content[key], key)
    except Misfit as misfit:
        return str(misfit)
    progress, steps = content["progress"], content["plan"]["steps"]
    if not 0 <= progress["step"] <= steps:
        return f"it is at step {progress['step']} of {steps}"
    recorded = [record.get("step") for record in progress["history"]]
    if any(type(step) is not int for step in recorded) or recorded != sorted(set(recorded)):
        return "the steps of its records are not in order"
    if recorded and not 0 < recorded[0] <= recorded[-1] <= progress["step"]:
        return f"its records are not of steps 1 to {progress['step']}"
    if "optimizers" not in content and not (progress["step"] == steps and recorded[-1:] == [steps]):
        return "it has no 'optimizers', it holds weights only"
    return None
