"""A folder made aside and moved to its place when complete: a refused or interrupted run leaves nothing behind."""

import contextlib
import getpass
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from util.errors import UserError
from util.files import lock


def refuse_other_files(out: Path, marker: str) -> None:
    """Refuse (UserError) a folder that holds files, but not the one that every folder made in this way holds."""
    if out.exists() and not (out / marker).exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: holds other files; remove it, or name another --out")


@contextlib.contextmanager
def made_aside(out: Path, marker: str) -> Iterator[Path]:
    """Return the context in which a folder is filled that becomes ``out``, or whose parts replace those of ``out``.

    ``marker`` is a file that every folder made in this way holds. UserError: another process of this user makes
    ``out``, it holds other files, or the block raises; nothing has changed then.
    """
    name = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir(), f"symnet-{getpass.getuser()}-{name}.lock")
    with lock(path, f"--out {out}: another command is making it; wait for its end, or name another"):
        refuse_other_files(out, marker)
        aside = out.with_name(f".{out.name}.making")
        lacking = [folder for folder in aside.parents if not folder.exists()]
        shutil.rmtree(aside, ignore_errors=True)  # of an interrupted run
        aside.mkdir(parents=True)
        try:
            yield aside
            out.mkdir(exist_ok=True)
            for part in aside.iterdir():
                if (out / part.name).is_dir():
                    shutil.rmtree(out / part.name)
                os.replace(part, out / part.name)
            aside.rmdir()
        except BaseException as error:
            shutil.rmtree(aside, ignore_errors=True)
            with contextlib.suppress(OSError):
                for folder in lacking:
                    folder.rmdir()
            if isinstance(error, UserError):
                raise UserError(str(error).replace(str(aside), str(out))) from None
            raise
