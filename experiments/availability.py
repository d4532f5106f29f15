"""Why an arm cannot be run on this machine: its simulator, or its map, is not there."""

from __future__ import annotations

import functools
import json

from gpgrad import envs
from gpgrad.errors import SettingError
from gpgrad.experiments.schema import Setup

NOT_TESTABLE = "not testable here"


def obstacle(setup: Setup) -> str:
    """What a host world lacks, in a sentence; empty if nothing."""
    world = setup.config.env
    return _obstacle(world.name, json.dumps(world.options, sort_keys=True)) if envs.is_host(world.name) else ""


@functools.cache
def _obstacle(name: str, options: str) -> str:
    try:
        envs.make(name, **json.loads(options))
    except SettingError as error:
        return str(error)
    return ""
