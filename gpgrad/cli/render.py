"""`render`: an episode of a run's team, to watch."""

from __future__ import annotations

from pathlib import Path

import click

from gpgrad.cli.arguments import PATH, RUN, Number
from gpgrad.cli.command import command


@command(
    "render",
    "an episode of a run's team as GIF or MP4, by default into RUN",
    needs="the folder of a run, as in: gpgrad render runs/NAME",
)
@click.argument("folder", metavar="RUN", type=RUN)
@click.option("--seed", type=Number(int), metavar="N", help="which seed, by default the first")
@click.option("--episode", type=Number(int, 0, 9999), default=0, metavar="N", help="which episode of the test")
@click.option("--out", type=PATH, metavar="FILE", help="a name ending in .gif or .mp4, by default in RUN/pictures")
@click.option("--fps", type=Number(float, 0.5, 50), metavar="N", help="frames per second, 0.5 to 50")
def main(folder: Path, seed: int | None, episode: int, out: Path | None, fps: float | None) -> int:
    """Draw a greedy episode of the test of the last parameters, and print where it is."""
    from gpgrad import plots

    plots.require()
    from gpgrad.viz.render import check, render
    from gpgrad.viz.render.external import REPLAY

    name = f"seed{seed}-" if seed is not None else ""
    out = out or folder / "pictures" / f"{name}episode{episode}.gif"
    check(out)
    played = render(folder, out, seed, episode, fps)
    out = out if out.exists() else out.with_suffix(REPLAY)
    size = out.stat().st_size / 1e6
    print(f"{out}: {played.length} steps, return {played.reward.sum():g}, {size:.2f} MB")
    return 0
