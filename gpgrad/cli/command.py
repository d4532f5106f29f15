"""Commands, options and their mistakes: what all files of gpgrad/cli share of click."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import click
import click.shell_completion

import gpgrad
from gpgrad.cli import COMMANDS
from gpgrad.cli.arguments import options
from gpgrad.errors import SettingError, suggest

CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda name: name.replace("-", "_"),  # --t-max is --t_max
    "show_default": True,
    "max_content_width": 110,
}
COMPLETE = "_GPGRAD_COMPLETE"  # the variable with which a shell's completion script asks for words


class Command(click.Command):
    """A command of which every mistake is one sentence.

    needs: the end of "NAME needs ..." where an argument is missing. passes: beginnings of options that are settings and
    belong to no list here; "" is every setting. They reach the callback as the dict `settings`. elsewhere: a hint for
    unknown options. alone: the text to print where the command has no arguments.
    """

    def __init__(
        self,
        *args: Any,
        needs: str = "",
        passes: Sequence[str] = (),
        elsewhere: str = "",
        alone: Callable[[], str] | None = None,
        **kwargs: Any,
    ):
        context = {**CONTEXT, "allow_extra_args": True, "ignore_unknown_options": bool(passes)}
        super().__init__(*args, context_settings=context, **kwargs)
        self.needs, self.passes, self.elsewhere, self.alone = needs, tuple(passes), elsewhere, alone

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parameters and settings. Raises SettingError, or a UsageError that `sentence` explains."""
        if ctx.resilient_parsing:  # a shell asks for words, which may be incomplete
            return super().parse_args(ctx, args)
        if not args and self.alone:
            click.echo(self.alone())
            ctx.exit()
        words, own = self._split(ctx, args)
        self._check(ctx, own)
        settings = options([*words, *super().parse_args(ctx, own)])
        if self.passes:
            ctx.params["settings"] = settings
        return []

    def _split(self, ctx: click.Context, args: Sequence[str]) -> tuple[list[str], list[str]]:
        """The words of settings, and the words that click parses.

        Click would take the value of an unknown option for an argument. Raises NoSuchOption for a setting that the
        command does not pass.
        """
        flags = {opt.lstrip("-").replace("-", "_"): getattr(p, "is_flag", False) for p in self.params for opt in p.opts}
        flags |= {"help": True}
        words: list[str] = []
        own: list[str] = []
        taker: list[str] | None = None  # which of them has the value of the option before
        for word in args:
            if not _is_option(word):
                (own if taker is None else taker).append(word)
                taker = None
                continue
            name, equals, _ = word[2:].replace("-", "_").partition("=")
            if name not in flags and not name.startswith(self.passes):
                raise click.NoSuchOption(word.partition("=")[0], ctx=ctx)
            place = own if name in flags else words
            place.append(word)
            taker = None if equals or flags.get(name) else place
        return words, own

    def _check(self, ctx: click.Context, args: Sequence[str]) -> None:
        """What click allows: an option that is given twice, the next option as a value."""
        try:
            values, _, order = self.make_parser(ctx).parse_args(list(args))
        except click.UsageError as error:
            error.ctx = ctx  # which click leaves out where a value is missing
            raise
        for param in order:
            value = values.get(param.name or "")
            if isinstance(param, click.Option):
                if _is_option(value):
                    raise SettingError(no_value(param))
                if order.count(param) > 1 and not param.multiple and not param.is_flag:
                    raise SettingError(f"{param.opts[0]} is given twice")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[click.shell_completion.CompletionItem]:
        """Options, and settings of pp_small with qmix where a command takes every setting."""
        found = super().shell_complete(ctx, incomplete)
        if "" in self.passes and incomplete.startswith("-"):
            from gpgrad import config

            names = {item.value for item in found}
            settings = (f"--{name}" for name in ("preset", *config.types(config.load())))
            new = (name for name in settings if name.startswith(incomplete) and name not in names)
            found += [click.shell_completion.CompletionItem(name) for name in new]
        return found


class Group(click.Group):
    """Commands by name. Alone it prints its help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Print the help where there are no arguments."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's. Raises SettingError for an unknown name."""
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            raise SettingError(f"unknown command {args[0]!r}{suggest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which they were added."""
        return list(self.commands)


class Program(Group):
    """Commands that are imported when they are asked for: `main` of the file of each name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        module = f"gpgrad.cli.{cmd_name.replace('-', '_')}"
        return importlib.import_module(module).main if cmd_name in COMMANDS else None


def command(name: str, summary: str, **kwargs: Any) -> Callable[[Callable[..., int]], Command]:
    """The decorator of a command. `gpgrad --help` lists its summary, and its own help begins with its docstring."""
    return click.command(name, cls=Command, short_help=summary, **kwargs)


@click.group(
    "gpgrad",
    cls=Program,
    context_settings=CONTEXT,
    epilog="COMMAND --help describes the options of a command, train --help every setting with its value. Completion: "
    'eval "$(gpgrad completion bash)", also zsh and fish.',
)
@click.version_option(gpgrad.__version__, "-V", "--version", message="gpgrad %(version)s")
def program() -> None:
    """JAX value-decomposition MARL with conflict-aware gradients."""


def execute(arguments: Sequence[str]) -> int:
    """Run a command; its exit code. Raises SettingError for a user's mistake."""
    if asked := os.environ.get(COMPLETE):
        return click.shell_completion.shell_complete(program, {}, "gpgrad", COMPLETE, asked)
    try:
        with program.make_context("gpgrad", list(arguments)) as ctx:
            return program.invoke(ctx)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        raise SettingError(sentence(error)) from None


def sentence(error: click.UsageError) -> str:
    """What was wrong, what it must be and the nearest valid name."""
    owner = error.ctx.command if error.ctx else program
    found = {opt.lstrip("-"): param for param in owner.params for opt in param.opts if isinstance(param, click.Option)}
    if isinstance(error, click.NoSuchOption):
        known = [*(name.replace("-", "_") for name in found), *(f"{p}*" for p in getattr(owner, "passes", ()) if p)]
        elsewhere = getattr(owner, "elsewhere", "")
        hint = suggest(error.option_name.lstrip("-"), known)
        return f"unknown option {error.option_name}{hint}{elsewhere and f'; {elsewhere}'}"
    if isinstance(error, click.BadOptionUsage):
        option = next((p for n, p in found.items() if n.replace("-", "_") == error.option_name.lstrip("-")), None)
        if option is not None:
            return f"{option.opts[0]} takes no value" if option.is_flag else no_value(option)
    if isinstance(error, click.MissingParameter) and error.param is not None:
        if isinstance(owner, Command) and isinstance(error.param, click.Argument):
            return f"{owner.name} needs {owner.needs}"
        if isinstance(error.param, click.Option):
            return f"{owner.name} needs {error.param.opts[0]}, {error.param.help}"
    return " ".join(error.format_message().split())


def no_value(option: click.Option) -> str:
    """The sentence about an option without a value."""
    return f"{option.opts[0]} has no value; must be {option.opts[0]} VALUE"


def _is_option(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("--") and len(value) > 2
