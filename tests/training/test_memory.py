"""Limits of control groups count as memory that is not there."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from gpgrad.training import memory


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def own(tmp_path: Path, text: str) -> Path:
    (tmp_path / "own").write_text(text)
    return tmp_path / "own"


def test_version_2_with_limits_on_two_levels(tmp_path):
    groups = tmp_path / "groups"
    group(groups / "job", memory__max=1000, memory__current=300, memory__stat="anon 1\ninactive_file 50")
    group(groups / "job" / "step", memory__max="max", memory__current=200)
    group(groups / "job" / "step" / "task", memory__max=500, memory__current=100, memory__stat="anon 1")
    assert list(memory.allowances(groups, own(tmp_path, "0::/job/step/task\n"))) == [400, 750]


def test_version_1_has_a_tree_for_memory(tmp_path):
    groups = tmp_path / "groups"
    group(groups / "cpu" / "job", memory__limit_in_bytes=1)
    group(
        groups / "memory" / "job",
        memory__limit_in_bytes=800,
        memory__usage_in_bytes=900,
        memory__stat="inactive_file 1\ntotal_inactive_file 20",
    )
    lines = "5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n"
    assert list(memory.allowances(groups, own(tmp_path, lines))) == [0]


@pytest.mark.parametrize("text", [None, "0::/\n", "0::/../elsewhere\n", "4:memory:/docker/0123\n"])
def test_without_limits_there_are_none(tmp_path, text):
    place = tmp_path / "none" if text is None else own(tmp_path, text)
    assert list(memory.allowances(tmp_path / "groups", place)) == []


def test_in_a_container_the_root_has_the_limit(tmp_path):
    groups = tmp_path / "groups"
    group(groups / "memory", memory__limit_in_bytes=700, memory__usage_in_bytes=100)
    assert list(memory.allowances(groups, own(tmp_path, "4:memory:/docker/0123\n"))) == [600]


def test_the_smallest_counts(monkeypatch):
    assert 0 < memory.free_bytes() <= psutil.virtual_memory().total
    monkeypatch.setattr(memory, "allowances", lambda: iter([12345, 99]))
    assert memory.free_bytes() == 99
