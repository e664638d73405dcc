"""The memory that this process may still take, of the machine and of its job: control groups and Slurm."""

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
KIB, MIB = 2**10, 2**20
MEMORY = "memory"  # the controller's name in version 1, which has a hierarchy for each; version 2 has one, without name


@dataclass(frozen=True)
class GroupFiles:
    """The names, in a version of control groups, of the files with limit and use, and of the files' cache in use."""

    limit: str
    use: str
    cache: str

    def left_in(self, group: Path) -> int:
        """Return the bytes that a group has left; files that are cached count, since they make room.

        OSError, ValueError: it has no limit.
        """
        limit, use = (int((group / name).read_text()) for name in (self.limit, self.use))
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return limit - use + int(counts.get(self.cache, 0))


FILES = {  # type of the file system of groups
    "cgroup": GroupFiles("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    "cgroup2": GroupFiles("memory.max", "memory.current", "inactive_file"),
}


def free_bytes(proc: Path = PROC) -> int:
    """Return the bytes of memory that this process may take on Linux, within its job; 0 on other systems."""
    try:
        free = int((proc / "meminfo").read_text().partition("MemAvailable:")[2].split()[0]) * KIB
    except OSError:
        return 0
    limits = [free, *_left_in_groups(proc)]
    job = _slurm_bytes()
    if job:
        limits.append(job - resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB)
    return max(min(limits), 0)


def _left_in_groups(proc: Path) -> Iterator[int]:
    """Yield what each control group of this process with a limit has left: its own, and those around it."""
    with suppress(OSError):
        paths = _paths_of_groups(proc)
        for line in (proc / "self/mountinfo").read_text().splitlines():
            place, _, system = line.partition(" - ")
            kind, _, options = system.split()[:3]
            controller = MEMORY if kind == "cgroup" else ""
            is_of_memory = not controller or controller in options.split(",")
            if kind in FILES and is_of_memory and controller in paths:
                root, mount = map(Path, place.split()[3:5])
                for group in _groups_around(paths[controller], root, mount):
                    with suppress(OSError, ValueError):
                        yield FILES[kind].left_in(group)


def _groups_around(path: Path, root: Path, mount: Path) -> list[Path]:
    """Return the folders of a group and of those around it, where the group ``root`` is at ``mount``.

    In a container the path may be the host's, of which the container sees its own group alone.
    """
    if ".." in path.parts or not path.is_relative_to(root):
        return [mount]
    below = path.relative_to(root)
    return [mount / group for group in (below, *below.parents)]


def _paths_of_groups(proc: Path) -> dict[str, Path]:
    """Return the path of this process's group by controller; '' is that of version 2."""
    paths = {}
    for line in (proc / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = Path(path)
    return paths


def _slurm_bytes() -> int:
    """Return the memory of this job on a machine as Slurm's variables state it; 0 if they state none."""
    for memory, count in (("NODE", None), ("CPU", "SLURM_CPUS_ON_NODE"), ("GPU", "SLURM_GPUS_ON_NODE")):
        with suppress(KeyError, ValueError):
            units = 1 if count is None else int(os.environ[count])
            if mebibytes := int(os.environ[f"SLURM_MEM_PER_{memory}"]) * units:
                return mebibytes * MIB
    return 0
