"""The free memory of a job: that of its control groups of both versions, nested and in containers, and of Slurm."""

import resource
from pathlib import Path

import pytest

from util.evaluate.memory import free_bytes

GIB = 2**30
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")
NO_LIMIT = 9223372036854771712  # of version 1
VARIABLES = ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_MEM_PER_GPU", "SLURM_CPUS_ON_NODE", "SLURM_GPUS_ON_NODE")
GROUPS = {  # files, the process's line, the group's root at the mount, folder of a limit of 3 GiB of which 1 is left
    "version 1": (V1, "4:cpuset,memory:/job/step", "/", "job/step"),
    "version 1, around": (V1, "4:memory:/job/step", "/", "job"),
    "version 2": (V2, "0::/slurm/job_1/step", "/", "slurm/job_1/step"),
    "version 2, nested": (V2, "0::/slurm/job_1/step", "/", "slurm/job_1"),
    "version 2, top of a container": (V2, "0::/", "/", "."),
    "version 1, host's path in a container": (V1, "4:memory:/docker/ab/step", "/docker/ab", "step"),
    "version 2, path outside of the container": (V2, "0::/../../step", "/", "."),
}


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def drawn_proc(folder: Path, line: str = "0::/", root: str = "/", kind: str = "cgroup2") -> Path:
    """Write the files of ``/proc`` of a machine with 64 GiB whose groups are below ``folder``; return that folder."""
    proc = folder / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:   {64 * 2**20} kB\n")
    (proc / "self/cgroup").write_text(f"7:cpu:/other\n{line}\n")
    mounts = [
        f"30 23 0:28 / {folder / 'cpu'} rw,relatime - cgroup cgroup rw,cpu",
        f"31 23 0:29 {root} {folder / 'groups'} rw,relatime shared:9 - {kind} {kind} rw,memory",
        "32 23 0:30 / / rw - ext4 /dev/sda rw",
    ]
    (proc / "self/mountinfo").write_text("\n".join(mounts))
    return proc


def write_group(group: Path, files: tuple[str, str, str], limit: object, used: int, cached: int) -> None:
    group.mkdir(parents=True, exist_ok=True)
    names = files[:2]
    for name, value in zip(names, (limit, used)):
        (group / name).write_text(f"{value}\n")
    (group / "memory.stat").write_text(f"cache 1\n{files[2]} {cached}\n")


@pytest.mark.parametrize("name", GROUPS)
def test_a_jobs_memory_is_what_its_control_groups_leave(tmp_path: Path, name: str) -> None:
    files, line, root, limited = GROUPS[name]
    proc = drawn_proc(tmp_path, line, root, "cgroup" if files is V1 else "cgroup2")
    groups = tmp_path / "groups"
    write_group(groups / "slurm/job_1", files, "max", 5 * GIB, cached=0)
    write_group(groups / "job", files, NO_LIMIT, 5 * GIB, cached=0)
    assert free_bytes(proc) == 64 * GIB
    write_group(groups / limited, files, 3 * GIB, int(2.5 * GIB), cached=GIB // 2)
    assert free_bytes(proc) == GIB
    write_group(groups / limited, files, 3 * GIB, 4 * GIB, cached=0)
    assert free_bytes(proc) == 0


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({"SLURM_MEM_PER_NODE": "20480"}, 20),
        ({"SLURM_MEM_PER_CPU": "4096", "SLURM_CPUS_ON_NODE": "6"}, 24),
        ({"SLURM_MEM_PER_GPU": "32768", "SLURM_GPUS_ON_NODE": "1"}, 32),
        ({"SLURM_MEM_PER_NODE": "0"}, None),  # all of the machine
        ({"SLURM_MEM_PER_CPU": "4096"}, None),
        ({}, None),
    ],
)
def test_a_slurm_jobs_memory_is_what_it_asked_for(
    tmp_path: Path, monkeypatch, variables: dict, job: int | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
    expected = 64 * GIB if job is None else job * GIB - used
    assert free_bytes(drawn_proc(tmp_path)) == pytest.approx(expected, abs=GIB / 8)


def test_free_memory_is_0_without_meminfo(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) == 0
    if Path("/proc/meminfo").exists():
        assert free_bytes() > 0
