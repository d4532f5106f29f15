"""`render`: an episode of a run's team, to watch."""

from __future__ import annotations

from pathlib import Path

import click

from gpgrad.cli.arguments import PATH, TEAM, Number
from gpgrad.cli.command import command


@command(
    "render",
    "an episode of a team as GIF or MP4, by default into RUN",
    needs="the folder of a run, as in: gpgrad render runs/NAME; or team:NAME",
)
@click.argument("source", metavar="RUN", type=TEAM)
@click.option("--seed", type=Number(int), metavar="N", help="which seed, by default the first")
@click.option("--episode", type=Number(int, 0, 9999), default=0, metavar="N", help="which episode of the test")
@click.option("--out", type=PATH, metavar="FILE", help="a name ending in .gif or .mp4, by default in RUN/pictures")
@click.option("--best", is_flag=True, help="the team of the best test, if checkpoint.keep_best kept it")
@click.option("--fps", type=Number(float, 0.5, 50), metavar="N", help="frames per second, 0.5 to 50")
def main(source: Path, seed: int | None, episode: int, out: Path | None, fps: float | None, best: bool) -> int:
    """Draw a greedy episode of the test of the last parameters, and print where it is.

    RUN is the folder of a run, of which an unfinished one has the team of its newest checkpoint; a file of gpgrad
    export --for gpgrad; or team:NAME, a team of the package, which is drawn in the current folder.
    """
    from gpgrad import plots

    plots.require()
    from gpgrad.viz.render import check, render
    from gpgrad.viz.render.external import REPLAY

    name = f"{f'seed{seed}-' if seed is not None else ''}{'best-' if best else ''}episode{episode}.gif"
    out = out or (Path(f"{source.stem}-{name}") if source.is_file() else source / "pictures" / name)
    check(out)
    played = render(source, out, seed, episode, fps, best)
    out = out if out.exists() else out.with_suffix(REPLAY)
    size = out.stat().st_size / 1e6
    print(f"{out}: {played.length} steps, return {played.reward.sum():g}, {size:.2f} MB")
    return 0
