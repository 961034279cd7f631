"""`sglang COMMAND ...`: commands, exit codes and signals.

0  every requested file was written      2    a mistake of the user
1  a failure                             130  Ctrl-C (143: SIGTERM)
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path

from cli.signals import Terminated, handled, raise_arrived

HELP = """usage: sglang COMMAND [flags]

  generate   make pictures or clips from a prompt
  plan       what a request needs on a machine: memory, work, time
  inspect    how a picture or a clip was made
  graphs     list the graphs that can be run
  nodes      list the nodes that graphs are made of
  version    print versions
  serve      an OpenAI-compatible HTTP server

sglang COMMAND --help explains a command. A first picture:
  sglang generate --prompt "a red circle on a blue background\""""

PACKAGES = ("runtime", "nodes", "server", "graphs", "conf", "demo")
Command = Callable[[Sequence[str]], int]


def script() -> None:
    """Run `sglang` as a process of its own.

    Importing torch and the models' classes makes a million objects that live to the end. The
    cycle collector would walk through them again and again, and once more at exit.
    """
    gc.disable()
    find_own_packages()
    try:
        code = main(own_process=True)
    except KeyboardInterrupt:  # once more, while the first was being reported
        code = 130
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # at exit there is nothing left to unwind
    gc.freeze()
    sys.exit(code)


def find_own_packages() -> None:
    """Put this distribution first where a folder before it has a file named as a package of ours.

    `python -m` looks into the current folder first, and many have a `server.py` or `nodes.py`.
    """
    root = Path(__file__).parents[1]
    before = takewhile(lambda folder: Path(folder).resolve() != root, sys.path)
    for folder in before:
        here = Path(folder)
        if any((here / f"{name}.py").is_file() or (here / name).is_dir() for name in PACKAGES):
            sys.path.insert(0, str(root))
            return


def main(argv: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Run `sglang` with arguments (those of the process where none are given); the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    command, rest = (words[0], words[1:]) if words else ("", [])
    command = "version" if command in {"--version", "-V"} else command
    prefix = f"sglang {command}" if command in COMMANDS else "sglang"
    try:
        with handled():
            try:
                return _run(command, rest, own_process=own_process)
            except Exception:
                raise_arrived()  # an import turned Ctrl-C into another exception
                raise
    except KeyboardInterrupt:
        print(f"{prefix}: interrupted", file=sys.stderr)
        return 130
    except Terminated:
        print(f"{prefix}: terminated", file=sys.stderr)
        return 143
    except Exception as problem:
        return _failed(problem, command, rest)


def _run(command: str, rest: Sequence[str], *, own_process: bool) -> int:
    """Run a command. Everything is imported here and below, where Ctrl-C is handled."""
    if own_process:
        from runtime.standard_streams import open_standard_streams

        open_standard_streams()
    if command in {"-h", "--help", "help", ""}:
        print(HELP, file=sys.stdout if command else sys.stderr)
        code = 0 if command else 2
    else:
        code = _command(command, rest)(rest)
    if sys.stdout is not None:
        sys.stdout.flush()  # a full disk or a closed pipe is reported, and not at exit
    return code


def _failed(problem: Exception, command: str, rest: Sequence[str]) -> int:
    """Say what went wrong; the exit code. Imported late, so that Ctrl-C is handled early."""
    from cli.console import report
    from cli.request_flags import graph_named
    from runtime import UserError
    from runtime.standard_streams import drop_stdout, is_stdout_failure

    if is_stdout_failure(problem):
        drop_stdout()
        if isinstance(problem, BrokenPipeError):
            return 1  # the reader of our output has closed the pipe, as `| head` does
    prefix = f"sglang {command}" if command in COMMANDS else "sglang"
    flags = "serve" if command == "serve" else "generate"
    report(problem, prefix, command=flags, graph=graph_named(rest), debug="--debug" in rest)
    return 2 if isinstance(problem, UserError) else 1


def _command(name: str, rest: Sequence[str]) -> Command:
    if name in COMMANDS:
        return COMMANDS[name]
    from cli.flags import nearest_name
    from cli.suggestions import for_command
    from runtime import UserError

    if name.startswith("-"):
        raise UserError(f"`{name}` comes before a command", help=f"sglang generate {name} ...")
    best = nearest_name(name, COMMANDS)
    raise UserError(
        f"there is no command `{name}`",
        help=for_command([name, *rest])
        or (f"did you mean `{best}`?" if best else f"there are: {', '.join(COMMANDS)}"),
    )


def _generate(argv: Sequence[str]) -> int:
    from cli.generate import generate

    return generate(argv)


def _plan(argv: Sequence[str]) -> int:
    from cli.plan import plan_command

    return plan_command(argv)


def _inspect(argv: Sequence[str]) -> int:
    from cli.inspect import inspect

    return inspect(argv)


def _graphs(argv: Sequence[str]) -> int:
    from cli.graphs import graphs

    return graphs(argv)


def _nodes(argv: Sequence[str]) -> int:
    from cli.nodes import nodes

    return nodes(argv)


def _version(argv: Sequence[str]) -> int:
    from cli.version import version

    return version(argv)


def _serve(argv: Sequence[str]) -> int:
    from cli.serve import serve

    return serve(argv)


COMMANDS: dict[str, Command] = {
    "generate": _generate,
    "plan": _plan,
    "inspect": _inspect,
    "graphs": _graphs,
    "nodes": _nodes,
    "version": _version,
    "serve": _serve,
}


if __name__ == "__main__":
    script()
