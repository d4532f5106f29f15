"""The record of one trained team."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from gpgrad.config.schema import Config
from gpgrad.learning import iteration
from gpgrad.learning.learner import Parts
from gpgrad.learning.program import Actor
from gpgrad.learning.rollout import Team


class TrainedTeam(NamedTuple):
    """The team of one seed of a run.

    config: the run's, with this seed alone. parts: what the run is composed of. actor: the trained arrays, without the
    seed axis. steps: environment steps that the team has learned from, None if it was trained to the end. card: what is
    known of its training, see `card.of_run`.
    """

    seed: int
    config: Config
    parts: Parts
    actor: Actor
    steps: int | None
    card: Mapping[str, Any] = {}

    @property
    def members(self) -> Team:
        """Every agent's own parameters, as acting takes them."""
        return iteration.team(self.parts, self.actor.params, self.actor.sharing)
