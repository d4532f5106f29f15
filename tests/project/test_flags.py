"""XLA's flags for tests: only known ones, asked once for each jaxlib, and a sentence where XLA refuses."""

from __future__ import annotations

import re

import pytest

from tests.helpers import flags

OLD, NEW = "--xla_old=1", "--xla_new=1"
SENTENCE = "Unknown flag in XLA_FLAGS: --xla_old=1"


class Jaxlib:
    """Refuses the flags that it does not know, as XLA does, and counts questions."""

    def __init__(self, known) -> None:
        self.known, self.asked = known, []

    def __call__(self, given):
        self.asked.append(given)
        unknown = [flag for flag in given.split() if flag not in self.known]
        return f"Unknown flag in XLA_FLAGS: {' '.join(unknown)}" if unknown else None


def test_known_flags_are_asked_about_once(tmp_path):
    jaxlib = Jaxlib([OLD, NEW])
    for _ in range(2):
        memory = flags.Memory(tmp_path / "new" / "flags.json", "1.0", jaxlib)
        assert flags.choose([OLD, NEW], None, memory) == f"{OLD} {NEW}"
    assert jaxlib.asked == [f"{OLD} {NEW}"]


def test_an_unknown_flag_is_left_out_and_remembered_by_version(tmp_path):
    jaxlib, file = Jaxlib([NEW]), tmp_path / "flags.json"
    for _ in range(2):
        assert flags.choose([OLD, NEW], None, flags.Memory(file, "2.0", jaxlib)) == NEW
    assert jaxlib.asked == [f"{OLD} {NEW}", OLD, NEW]
    before = Jaxlib([OLD, NEW])
    assert flags.choose([OLD, NEW], None, flags.Memory(file, "1.0", before)) == f"{OLD} {NEW}"
    assert flags.choose([OLD, NEW], None, flags.Memory(file, "2.0", Jaxlib([]))) == NEW


def test_the_callers_flags_are_kept_or_refused_in_a_sentence(tmp_path):
    memory = flags.Memory(tmp_path / "flags.json", "2.0", Jaxlib([NEW]))
    assert flags.choose([OLD], NEW, memory) == NEW
    with pytest.raises(flags.FlagError, match=re.escape(f"jaxlib 2.0 refuses XLA_FLAGS='{OLD}': {SENTENCE}")):
        flags.choose([NEW], OLD, memory)


def test_a_spoilt_memory_is_asked_for_again(tmp_path):
    (tmp_path / "flags.json").write_text("{")
    assert flags.choose([OLD, NEW], None, flags.Memory(tmp_path / "flags.json", "2.0", Jaxlib([NEW]))) == NEW


def test_the_installed_xla_refuses_in_the_words_that_are_looked_for():
    assert re.search(r"Unknown flag.*--xla_of_no_version", flags.refusal("--xla_of_no_version=1") or "")


def test_another_failure_is_neither_a_refusal_nor_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(flags, "PARSE", "raise SystemExit('no such processor')")
    memory = flags.Memory(tmp_path / "flags.json", "2.0")
    with pytest.raises(flags.FlagError, match=r"XLA does not start .*no such processor"):
        flags.choose([OLD, NEW], None, memory)
    assert not memory.file.exists()
