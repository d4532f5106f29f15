"""A part whose numbers change must raise its version: golden rows notice it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests import golden
from tests.runs.test_provenance import parts_of_the_package

STORED = json.loads(golden.FILE.read_text()) if golden.FILE.is_file() else {}
SUBJECTS = golden.subjects()


@pytest.mark.parametrize("part", SUBJECTS)
def test_rows_are_those_of_the_version(part):
    module = parts_of_the_package()[part]
    rows, versions = SUBJECTS[part]()
    assert all(np.isfinite(values).all() for values in rows.values())
    sentence = golden.judge(part, STORED, rows, versions, f"{module.replace('.', '/')}.py")
    assert not sentence, sentence


def test_every_part_has_rows():
    """External environments play what their simulators play: their adapters are held by tests of their own."""
    assert STORED.keys() == SUBJECTS.keys()
    assert parts_of_the_package().keys() - SUBJECTS.keys() == {"collection"}  # in the rows of every cell


def test_rows_say_that_the_parts_acted():
    rows = {part: STORED[part]["rows"] for part in STORED}
    assert rows["weighting.gpvd"]["share_downweighted"][-1] > 0
    assert rows["weighting.gpvd"]["weight"] != rows["weighting.none"]["weight"]
    for part in ("sharing.gradps", "sharing.gradps_random", "sharing.redo", "sharing.seps", "sharing.snp"):
        assert rows[part]["params"] != rows["sharing.fups_id"]["params"], part
    assert len({json.dumps(rows[part]) for part in rows if part.startswith("decomposition.")}) == 11


KEPT = {"sharing.x": {"versions": {"sharing.x": 1}, "rows": {"loss": [1.0, 2.0], "steps": [4.0, 8.0]}}}


def judged(versions: dict[str, int], **rows: list[float]) -> str:
    return golden.judge("sharing.x", KEPT, KEPT["sharing.x"]["rows"] | rows, versions, "gpgrad/sharing/x.py")


def test_what_a_change_of_numbers_is_answered_with():
    same = {"sharing.x": 1}
    assert judged(same) == judged(same, loss=[1.0 + 1e-6, 2.0]) == ""
    moved = judged(same, loss=[1.0, 2.02])
    assert moved.startswith("sharing.x computes other numbers than before (loss is ")
    assert "raise NUMERICS in gpgrad/sharing/x.py, add a line to NUMERICS.md and remake" in moved
    assert "python -m tests.golden sharing.x" in judged({"sharing.x": 2})  # raised, but the rows are old
    assert "computes other numbers" in judged(same, loss=[1.0])
    assert "computes other numbers" in judged(same, loss=[1.0, float("nan")])
    assert "logs other quantities than before (['new'])" in judged(same, new=[1.0, 1.0])
    assert golden.judge("sharing.y", KEPT, {}, {}, "").startswith("sharing.y has no golden rows")
