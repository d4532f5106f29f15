"""Whether an arm can run on this machine: external environments need their simulator and maps."""

from __future__ import annotations

import functools
import json

from gpgrad import envs
from gpgrad.errors import SettingError
from gpgrad.experiments.schema import Setup

NOT_TESTABLE = "not testable here"


def obstacle(setup: Setup) -> str:
    """What an external environment lacks on this machine, in a sentence; empty if nothing."""
    env = setup.config.env
    return _obstacle(env.name, json.dumps(env.options, sort_keys=True)) if envs.is_external(env.name) else ""


@functools.cache
def _obstacle(name: str, options: str) -> str:
    try:
        envs.make(name, **json.loads(options))
    except SettingError as error:
        return str(error)
    return ""
