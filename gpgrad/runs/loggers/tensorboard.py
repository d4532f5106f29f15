"""TensorBoard event files by tensorboardX, one TensorBoard run per seed: RUN/tensorboard/seed0 and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from gpgrad.runs.loggers import sections
from gpgrad.runs.logs import STEPS, Row

FOLDER = "tensorboard"


class TensorboardLogger:
    """Writes scalars and pictures by environment steps, under the names of `sections`."""

    def __init__(self, run: Path, earlier: Sequence[Row]) -> None:
        """`run`: the run's folder. `earlier`: rows of a resumed run; later ones in old event files are hidden."""
        self._folder = run / FOLDER
        self._steps = {row["seed"]: row[STEPS] for row in earlier}
        self._writers: dict[int, Any] = {}

    def write(self, row: Row) -> None:
        """See `Logger`."""
        seed, steps = row["seed"], row[STEPS]
        for name, value in sections.sectioned(row).items():
            if name not in sections.BARE and value is not None:
                self._writer(seed).add_scalar(name, value, steps)
        self._steps[seed] = steps
        self._writer(seed).flush()

    def diverged(self, row: Row) -> None:
        """See `Logger`."""
        self._writer(row["seed"]).add_text("diverged", f"after {row[STEPS]:,} environment steps", row[STEPS])

    def final(self, row: Row) -> None:
        """See `Logger`. The final test is drawn at the last step of the seed."""
        steps = self._steps.get(row["seed"], 0)
        for name, value in sections.final(row).items():
            if value is not None:
                self._writer(row["seed"]).add_scalar(name, value, steps)

    def show(self, seed: int, steps: int, images: Mapping[str, bytes], films: Sequence[Path] = ()) -> None:
        """See `Logger`. Films are left out: TensorBoard shows none without further packages."""
        from PIL import Image

        for name, data in images.items():
            pixels = np.asarray(Image.open(BytesIO(data)).convert("RGB"))  # [H, W, 3]
            self._writer(seed).add_image(f"media/{name}", pixels, steps, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _writer(self, seed: int) -> Any:
        if seed not in self._writers:
            from tensorboardX import SummaryWriter

            folder, known = self._folder / f"seed{seed}", self._steps.get(seed)
            purge = None if not folder.exists() else 0 if known is None else known + 1
            self._writers[seed] = SummaryWriter(str(folder), purge_step=purge)
        return self._writers[seed]
