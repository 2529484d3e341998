"""The `medvlm` command: a thin dispatcher, so that help and errors answer at once.

A command is a typed function in `medvlm/commands/`; its signature and docstring are its options and its help. Heavy
packages are imported inside the functions, never at the top of a command module. `fit`, `validate`, `test` and
`predict` belong to Lightning's own CLI (`medvlm/training/cli.py`).
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NoReturn, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, Namespace

import medvlm
from medvlm.content import add_content_roots
from medvlm.errors import MedVLMError

# name → (module, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "quickstart": ("medvlm.commands.quickstart", "the whole path in minutes: phantom clinic, training, report"),
    "phantom": ("medvlm.commands.phantom", "make synthetic studies with known truth"),
    "study": ("medvlm.commands.study", "print what a study holds, what would be used and why"),
    "deidentify": ("medvlm.commands.deidentify", "write DICOM images without identity"),
    "experts": ("medvlm.commands.experts", "list, show and train experts"),
    "annotate": ("medvlm.commands.annotate", "run experts over a cohort and write their findings"),
    "data": ("medvlm.commands.data", "build conversations and prepare public data sets"),
    "pathway": ("medvlm.commands.pathway", "lint, simulate, score and show clinical pathways"),
    "curriculum": ("medvlm.commands.curriculum", "run the ordered stages that specialise one model"),
    "preview": ("medvlm.commands.preview", "what a training run will learn, leave out, train and cost"),
    "plan": ("medvlm.commands.plan", "parameters, memory, hours and dollars of a training run, before it is started"),
    "fit": ("medvlm.training.cli", "fine-tune a vision-language model (LightningCLI)"),
    "validate": ("medvlm.training.cli", "validation loss of a model (LightningCLI)"),
    "test": ("medvlm.training.cli", "score a model on held-out questions (LightningCLI)"),
    "predict": ("medvlm.training.cli", "answer a file of questions (LightningCLI)"),
    "evaluate": ("medvlm.commands.evaluate", "the closed loop on held-out questions, with and without experts"),
    "ask": ("medvlm.commands.ask", "ask a fine-tuned model about a study; it calls experts by itself"),
    "serve": ("medvlm.commands.serve", "an OpenAI-compatible server for a fine-tuned model"),
    "report": ("medvlm.commands.report", "write a report for a DICOM folder, NIfTI file or image"),
    "reader-study": ("medvlm.commands.reader_study", "design, export, collect and analyse a blinded reader study"),
}
LIGHTNING = {"fit", "validate", "test", "predict"}


class Parser(ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        first = " ".join(str(message).split())
        raise MedVLMError(f"{first.rstrip('.')}. See '{self.prog} --help'.")


def function_parser(prog: str, function: Callable[..., object]) -> Parser:
    """A parser made from a typed function: its parameters, `--config` and `--print_config`.

    A required parameter is positional; a keyword-only one (behind `*`) is an option that must be given. A positional
    list takes one word or more, as a shell writes `answers/*.json`.
    """
    summary, _, rest = (function.__doc__ or "").partition("\n")
    example = rest.partition("Example:\n")[2].partition("\n\n")[0]
    parser = Parser(prog=prog, description=summary)
    if example:
        lines = [line.strip() for line in example.splitlines() if line.strip()]
        parser.epilog = "Example:  " + "   ".join(lines)
    parser.add_argument("--config", action="config", help="YAML file with any of the options below.")
    parser.add_argument("--content", type=list[str], default=[], help="Folders with experts/, curricula/, configs/.")
    parameters = inspect.signature(function).parameters.values()
    options = {item.name for item in parameters if item.kind is inspect.Parameter.KEYWORD_ONLY}
    others = {item.name for item in parameters} - options
    hints = get_type_hints(function)
    required = {item.name for item in parameters if item.default is inspect.Parameter.empty}
    lists = {name for name in others & required if get_origin(hints[name]) is list}
    for positional, skip in ((True, options | lists), (False, others)):
        parser.add_function_arguments(
            function, as_group=False, as_positional=positional, fail_untyped=True, skip=set(skip)
        )
    for name in lists:
        described = (function.__doc__ or "").partition(f"{name}: ")[2].splitlines()
        parser.add_argument(name, type=get_args(hints[name])[0], nargs="+", help=described[0] if described else "")
    for action in parser._actions:  # `from_` is how Python writes an option that is one of its own words
        for option in [text for text in action.option_strings if text.endswith("_")]:
            parser._option_string_actions[option[:-1]] = parser._option_string_actions.pop(option)
            action.option_strings = [text.removesuffix("_") for text in action.option_strings]
    return parser


def run_function(prog: str, function: Callable[..., object], argv: Sequence[str]) -> None:
    """Parse `argv` for a typed function and call it."""
    parser = function_parser(prog, function)
    settings: Namespace = parser.parse_args(list(argv))
    arguments = parser.instantiate(settings).as_dict()
    arguments.pop("config", None)
    add_content_roots(arguments.pop("content"))
    function(**arguments)


def run_command(name: str, argv: Sequence[str]) -> None:
    """Run one command with its own arguments.

    A command module has `COMMAND` (a function), `COMMANDS` (subcommand name → function) or `MAIN` (takes arguments).
    """
    if name in LIGHTNING:
        from medvlm.training.cli import main as lightning_main

        lightning_main([name, *argv])
        return
    module = importlib.import_module(COMMANDS[name][0])
    prog = f"medvlm {name}"
    if hasattr(module, "MAIN"):  # takes the options of `medvlm fit`, which are no function's
        module.MAIN(argv)
        return
    if not hasattr(module, "COMMAND") and (not argv or argv[0] in ("-h", "--help")):
        print(group_help(prog, COMMANDS[name][1], module.COMMANDS))
        return
    run_function(*find_function(prog, module, argv))


def find_function(prog: str, module: ModuleType, argv: Sequence[str]) -> tuple[str, Callable[..., object], list[str]]:
    """How a command module takes its arguments: what the program is called, the function, and what is left for it.

    Raises:
        MedVLMError: no such subcommand.
    """
    subcommands: dict[str, Callable[..., object]] = getattr(module, "COMMANDS", {})
    named = argv[0] if argv else ""
    if named in subcommands:
        return f"{prog} {named}", subcommands[named], list(argv[1:])
    if not hasattr(module, "COMMAND"):
        raise MedVLMError(f"{prog}: no subcommand '{named}'; there are: {', '.join(subcommands)}.")
    # A module's POSITIONAL names the option that a first bare argument stands for.
    bare = getattr(module, "POSITIONAL", None)
    given = [f"--{bare}", *argv] if bare is not None and named and not named.startswith("-") else list(argv)
    return prog, module.COMMAND, given


def group_help(prog: str, summary: str, subcommands: dict[str, Callable[..., object]]) -> str:
    """The help text of a command that only has subcommands."""
    width = max(len(name) for name in subcommands) + 2
    lines = [f"usage: {prog} SUBCOMMAND [options]", "", summary, "", "subcommands:"]
    for name, function in subcommands.items():
        lines.append(f"  {name:<{width}}{(function.__doc__ or '').splitlines()[0]}")
    lines += ["", f"Example:  {prog} {next(iter(subcommands))} --help"]
    return "\n".join(lines)


def main_help() -> str:
    """The text of `medvlm --help`."""
    lines = ["usage: medvlm COMMAND [options]", "", "Specialise vision-language models for medicine.", "", "commands:"]
    lines += [f"  {name:<14}{summary}" for name, (_, summary) in COMMANDS.items()]
    lines += [
        "",
        "Every command has --help, --config FILE.yaml and --print_config.",
        "Example:  medvlm report path/to/dicom --out out/",
        "",
        "Research software: nothing it writes is for diagnosis.",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script; exits with 2 and one sentence on bad input."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(main_help())
        return
    if argv[0] == "--version":
        print(f"medvlm {medvlm.__version__}")
        return
    try:
        if argv[0] not in COMMANDS:
            raise MedVLMError(f"no command '{argv[0]}'; see 'medvlm --help'.")
        run_command(argv[0], argv[1:])
    except MedVLMError as error:
        if os.environ.get("MEDVLM_DEBUG"):
            raise
        print(f"medvlm: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("medvlm: interrupted.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`medvlm ... | head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
