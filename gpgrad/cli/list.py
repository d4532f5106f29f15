"""`list`: names of worlds, algorithms and presets."""

from __future__ import annotations

import sys

import click

from gpgrad.cli.arguments import ENV
from gpgrad.cli.command import command
from gpgrad.errors import SettingError, suggest

TOPICS = ("worlds", "algorithms", "presets", "teams")


@command("list", "names; with presets, every setting of each")
@click.argument("topic", default="", metavar="[worlds|algorithms|presets|teams]")
@click.option("--env", **ENV, help="with presets: the environment whose settings are shown, by default pp_small")
@click.option("--plugin", multiple=True, metavar="MODULE", help="module that registers parts or environments")
def main(topic: str, env: str | None, plugin: tuple[str, ...]) -> int:
    """Print the names of environments, algorithms and presets; with `presets`, every setting of each.

    With `teams`, print the trained teams of the package.
    """
    from gpgrad import envs
    from gpgrad.config import plugins, presets, validate
    from gpgrad.methods import registry

    if topic and topic not in TOPICS:
        raise SettingError(f"unknown topic {topic!r}{suggest(topic, TOPICS)}")
    plugins.load(validate.coerce(",".join(plugin) if plugin else (), tuple[str, ...], "--plugin"))
    if env is not None and topic != "presets":
        raise SettingError("--env is only for list presets, as in: gpgrad list presets --env pp_p2")
    if topic == "presets":
        return show_presets(env or "pp_small")
    if topic == "teams":
        from gpgrad.policies import bundled, card

        for name in bundled.names():
            print(f"team:{name}  {card.shown(bundled.read_card(bundled.find(name)))}")
        return 0
    parts = {f"{kind}s": registry.names(kind) for kind in registry.KINDS}
    lists = {"worlds": [*envs.names(), *envs.patterns()], **parts}
    lists |= {"named combinations": presets.available("algo"), "presets": presets.available("preset")}
    of_algorithms = (*parts, "named combinations")
    for name, values in lists.items():
        if topic in ("", name) or (topic == "algorithms" and name in of_algorithms):
            print(f"{name}: {' '.join(values)}")
    if topic in ("", "algorithms"):
        print(
            "--algo takes a decomposition, a sharing scheme (on qmix), DECOMPOSITION_SHARING such as vdn_gradps, or a "
            "named combination;\n--weighting is apart: --algo qplex --weighting gpvd"
        )
        print(f"sharing of algorithms that name none, by preset: {schemes()}; list presets --env NAME shows a world's")
    return 0


def schemes() -> str:
    """The sharing scheme that each training preset gives to algorithms whose names say nothing of it."""
    from gpgrad.config import precedence, presets

    nothing = {"parts": {}}
    found = {
        p: precedence.scheme(nothing, [(f"preset/{p}", presets.read("preset", p))]) for p in presets.available("preset")
    }
    return ", ".join(f"{preset} {scheme}" for preset, scheme in found.items())


def show_presets(env: str) -> int:
    """A table of every setting with a column per training preset."""
    from rich.console import Console
    from rich.table import Table

    from gpgrad import config
    from gpgrad.config import presets

    names = presets.available("preset")
    columns = [config.flat(config.load(env, "qmix", {"preset": preset})) for preset in names]
    table = Table("setting", *names, title=f"every setting with qmix on {env}, by training preset")
    for name in columns[0]:
        values = [config.text(column.get(name)) for column in columns]
        style = "bold" if len(set(values)) > 1 else ""
        table.add_row(name, *values, style=style)
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    return 0
