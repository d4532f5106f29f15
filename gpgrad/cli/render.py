"""`render`: an episode of a run's team, to watch."""

from __future__ import annotations

from collections.abc import Sequence

from gpgrad.cli.arguments import options, path_of, run_of
from gpgrad.errors import SettingError, suggest

USAGE = """\
  render RUN [--seed N] [--episode N] [--out FILE.gif|FILE.mp4] [--fps N]
                                                      an episode of a run's team as GIF or MP4, by default into RUN"""
OPTIONS = {
    "seed N": "which seed, by default the first",
    "episode N": "which episode of the test, by default 0",
    "out FILE": "a name ending in .gif or .mp4, by default in RUN/pictures",
    "fps N": "frames per second, 0.5 to 50",
}
KNOWN = ("seed", "episode", "out", "fps")


def main(arguments: Sequence[str]) -> int:
    """Draw a greedy episode of the test of the last parameters, and say where it is."""
    if not arguments or arguments[0].startswith("--"):
        raise SettingError("render needs the folder of a run, as in: gpgrad render runs/NAME")
    folder, given = path_of(arguments[0]), options(arguments[1:])
    for name in given:
        if name not in KNOWN:
            raise SettingError(f"unknown option --{name}{suggest(name, KNOWN)}")
    from gpgrad import plots
    from gpgrad.config import validate

    seed = validate.coerce(given["seed"], int, "--seed") if "seed" in given else None
    episode = validate.coerce(given.get("episode", "0"), int, "--episode")
    fps = validate.coerce(given["fps"], float, "--fps") if "fps" in given else None
    if not 0 <= episode < 10_000:
        raise SettingError(f"--episode must be between 0 and 9,999 (got {episode})")
    if fps is not None and not 0.5 <= fps <= 50:
        raise SettingError(f"--fps must be between 0.5 and 50 (got {fps:g})")
    run_of(arguments[0])
    plots.require()
    from gpgrad.viz.render import check, render

    name = f"seed{seed}-" if seed is not None else ""
    out = path_of(given["out"]) if "out" in given else folder / "pictures" / f"{name}episode{episode}.gif"
    check(out)
    played = render(folder, out, seed, episode, fps)
    size = out.stat().st_size / 1e6
    print(f"{out}: {played.length} steps, return {played.reward.sum():g}, {size:.2f} MB")
    return 0
