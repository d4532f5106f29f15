"""wandb: one wandb run per seed, in a group with the name of the run's folder."""

from __future__ import annotations

import netrc
import os
import re
import threading
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from gpgrad.runs.loggers import sections
from gpgrad.runs.logs import STEPS, Row, read_manifest

FINISH_SECONDS = 120.0


def mode_of(setting: str) -> str:
    """The mode that `log.wandb` stands for: auto is WANDB_MODE if it is set, else online with a key, else offline."""
    if setting == "auto":
        return os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    return setting


class WandbLogger:
    """Mirrors rows to wandb by environment steps.

    The summary of a wandb run has the last value of each curve, and the final test under final/. An offline run that is
    resumed has all earlier rows again, so that the newest offline folder of a seed is complete: `wandb sync` of a
    second folder with the same id would replace the rows of the first.
    """

    def __init__(
        self,
        mode: str,
        project: str,
        run: Path,
        seeds: Sequence[int],
        settings: Row,
        folder: Path,
        earlier: Sequence[Row] = (),
    ) -> None:
        """Start the wandb runs.

        mode: online or offline. run: the run's folder, which names the group. settings: by dotted names. folder: where
        wandb's files go, the run's or a seed's. earlier: rows of a resumed run.
        """
        import wandb

        self._runs: dict[int, Any] = {}
        self._folder = folder
        group, identifier = run.resolve().name, wandb_id(run)
        # Older versions have no limit of their own, which also holds at the end of the process.
        limit: Row = {"finish_timeout": FINISH_SECONDS} if "finish_timeout" in wandb.Settings.model_fields else {}
        for seed in seeds:
            made = self._runs[seed] = wandb.init(
                project=project,
                group=group,
                name=f"{group}-{seed}",
                id=_agents_id(seed, seeds) or f"{identifier}-{seed}",
                resume="allow",
                config={**settings, "seed": seed},
                tags=[settings["env"], settings["label"], settings["preset"]],
                dir=str(folder),
                mode=mode,  # type: ignore[arg-type]
                reinit="create_new",
                settings=wandb.Settings(silent=True, **limit),
            )
            made.define_metric("*", step_metric=STEPS)
        for row in earlier:
            if row["seed"] in self._runs and row[STEPS] >= self._runs[row["seed"]].step:
                self.write(row)

    def write(self, row: Row) -> None:
        """See `Logger`."""
        if row["seed"] in self._runs:
            self._runs[row["seed"]].log(sections.sectioned(row), step=row[STEPS])

    def diverged(self, row: Row) -> None:
        """See `Logger`."""
        self._summarise(row["seed"], {"diverged": True})

    def final(self, row: Row) -> None:
        """See `Logger`."""
        self._summarise(row["seed"], sections.final(row))

    def show(self, seed: int, steps: int, images: Mapping[str, bytes], films: Sequence[Path] = ()) -> None:
        """See `Logger`."""
        if seed not in self._runs or not (images or films):
            return
        import wandb
        from PIL import Image

        media: Row = {f"media/{name}": wandb.Image(Image.open(BytesIO(data))) for name, data in images.items()}
        media |= {f"media/{path.stem}": wandb.Video(str(path), format="gif") for path in films}
        self._runs[seed].log({**media, STEPS: steps}, step=steps)

    def close(self, seconds: float = FINISH_SECONDS) -> None:
        """Finish all wandb runs, which may have much to send. Raises TimeoutError after so many seconds."""
        failures: list[Exception] = []

        def finish() -> None:
            try:
                for run in list(self._runs.values()):
                    run.finish()
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=finish, daemon=True)
        thread.start()
        thread.join(seconds)
        self._runs = {} if not thread.is_alive() else self._runs
        if thread.is_alive():
            raise TimeoutError(f"not everything was sent in {seconds:g} s; run wandb sync on {self._folder / 'wandb'}")
        if failures:
            raise failures[0]

    def _summarise(self, seed: int, row: Row) -> None:
        if seed in self._runs:
            self._runs[seed].summary.update(row)


def wandb_id(run: Path) -> str:
    """What names a run in wandb: its manifest's id, or for a run without one its folder's name in wandb's alphabet."""
    return read_manifest(run).get("id") or re.sub(r"[^\w.-]", "_", run.resolve().name)


def _agents_id(seed: int, seeds: Sequence[int]) -> str | None:
    """The id that the agent of a wandb sweep gave to this process, for the first seed; None outside of sweeps."""
    return os.environ.get("WANDB_RUN_ID") if seed == seeds[0] and os.environ.get("WANDB_SWEEP_ID") else None


def has_key() -> bool:
    """Whether a key for wandb is set, in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False
