"""The free memory of this machine, within the limits of the container or job that this process runs in (Linux)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MEMINFO, AVAILABLE = "proc/meminfo", "MemAvailable:"
OWN_GROUPS, GROUPS = "proc/self/cgroup", "sys/fs/cgroup"
# Of control groups of version 2 and 1: folder within GROUPS, files with limit and use, and the reclaimable part of it.
VERSION_2 = "", "memory.max", "memory.current", "inactive_file"
VERSION_1 = "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
STATISTICS = "memory.stat"
KIB = 2**10


def free_bytes(system: Path = Path("/")) -> int:
    """Return the bytes of memory that are free; 0 where the system does not say.

    Args:
        system: the folder that holds ``proc`` and ``sys``.
    """
    free = _value(system / MEMINFO, AVAILABLE) * KIB
    return max(min([free, *_left_in_groups(system)]), 0)


def _left_in_groups(system: Path) -> Iterator[int]:
    """Yield the bytes that are left within every limit on this process."""
    for line in _text(system / OWN_GROUPS).splitlines():
        _, controllers, own = [*line.split(":", 2), "", ""][:3]
        if controllers not in ("", "memory"):
            continue
        folder, limit_file, use_file, reclaimable = VERSION_1 if controllers else VERSION_2
        relative = PurePosixPath(own.lstrip("/"))
        for group in {relative, *relative.parents, PurePosixPath()}:
            path = system / GROUPS / folder / group
            limit, use = (_text(path / name).strip() for name in (limit_file, use_file))
            if limit.isdigit() and use.isdigit():
                yield int(limit) - int(use) + _value(path / STATISTICS, reclaimable)


def _value(path: Path, name: str) -> int:
    """Return the number after a name at the beginning of a line, 0 if there is none."""
    lines = (line.split() for line in _text(path).splitlines())
    return next((int(words[1]) for words in lines if words[:1] == [name]), 0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
