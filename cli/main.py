"""`sglang COMMAND ...`: commands, exit codes and signals.

0  every requested file was written      2    a mistake of the user
1  a failure                             130  Ctrl-C (143: SIGTERM)
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence

from cli.signals import Terminated, handled, raise_arrived

HELP = """usage: sglang COMMAND [flags]

  generate   make pictures or clips from a prompt
  inspect    how a picture or a clip was made
  graphs     list the graphs that can be run
  version    print versions
  serve      an OpenAI-compatible HTTP server

sglang COMMAND --help explains a command. The shortest one that draws:
  sglang generate --prompt "a red circle on a blue background\""""

Command = Callable[[Sequence[str]], int]


def script() -> None:
    """Run `sglang` as a process of its own.

    Importing torch and the models' classes makes a million objects that live to the end. The
    cycle collector would walk through them again and again, and once more at exit.
    """
    gc.disable()
    code = main()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # at exit there is nothing left to unwind
    gc.freeze()
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `sglang` with arguments (those of the process where none are given); the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    command, rest = (words[0], words[1:]) if words else ("", [])
    if command in {"-h", "--help", "help", ""}:
        print(HELP, file=sys.stdout if command else sys.stderr)
        return 0 if command else 2
    command = "version" if command in {"--version", "-V"} else command
    return _run(command, rest)


def _run(command: str, rest: Sequence[str]) -> int:
    shown = f"sglang {command}" if command in COMMANDS else "sglang"
    try:
        with handled():
            try:
                return _command(command)(rest)
            except Exception:
                raise_arrived()  # a failure that an interrupted import made of it
                raise
    except KeyboardInterrupt:
        print(f"{shown}: interrupted", file=sys.stderr)
        return 130
    except Terminated:
        print(f"{shown}: terminated", file=sys.stderr)
        return 143
    except BrokenPipeError:
        # Whoever read our output is gone; a second failure at exit would print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as problem:
        return _failed(problem, command, rest)


def _failed(problem: Exception, command: str, rest: Sequence[str]) -> int:
    """Say what went wrong; the exit code. Imported late, so that Ctrl-C is handled early."""
    from cli.console import report
    from cli.request_flags import graph_named
    from runtime import UserError

    shown = f"sglang {command}" if command in COMMANDS else "sglang"
    flags = "serve" if command == "serve" else "generate"
    report(problem, shown, command=flags, graph=graph_named(rest), debug="--debug" in rest)
    return 2 if isinstance(problem, UserError) else 1


def _command(name: str) -> Command:
    if name in COMMANDS:
        return COMMANDS[name]
    from cli.flags import nearest
    from runtime import UserError

    if name.startswith("-"):
        raise UserError(f"`{name}` comes before a command", help=f"sglang generate {name} ...")
    best = nearest(name, COMMANDS)
    raise UserError(
        f"there is no command `{name}`",
        help=f"did you mean `{best}`?" if best else f"there are: {', '.join(COMMANDS)}",
    )


def _generate(argv: Sequence[str]) -> int:
    from cli.generate import generate

    return generate(argv)


def _inspect(argv: Sequence[str]) -> int:
    from cli.inspect import inspect

    return inspect(argv)


def _graphs(argv: Sequence[str]) -> int:
    from cli.graphs import graphs

    return graphs(argv)


def _version(argv: Sequence[str]) -> int:
    from cli.version import version

    return version(argv)


def _serve(argv: Sequence[str]) -> int:
    from cli.serve import serve

    return serve(argv)


COMMANDS: dict[str, Command] = {
    "generate": _generate,
    "inspect": _inspect,
    "graphs": _graphs,
    "version": _version,
    "serve": _serve,
}


if __name__ == "__main__":
    script()
