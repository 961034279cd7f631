"""argv to settings. Nothing is abbreviated or interpolated; values stay as they were typed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cli.flag import Flag
from cli.flags import Table, flag_table, flat_name
from cli.keys import find, flag_settings, flat_path, is_known, path_of, seems_key, unknown
from cli.request_flags import graph_named
from cli.suggestions import for_flag, for_word
from runtime import Position, Raw, Setting, UserError
from runtime.graph import catalog
from runtime.settings.common_names import common_option

HERE = Position("command line")
FLAG = re.compile(r"(--[A-Za-z0-9][\w.-]*)(?:=(.*))?", re.DOTALL)
KEY = re.compile(r"(\w[\w-]*(?:\.[\w-]+)*)=(.*)", re.DOTALL)
DASHES = re.compile(r"[\u2010-\u2015\u2212]+([A-Za-z][\w-]*)")
NUMBERS = frozenset({"int", "float", "seed"})


@dataclass
class CommandLine:
    """A parsed command line.

    settings      in the order typed; later ones win
    config_files  paths of --config, in order
    ignored       server-only flags as typed
    replay        the file to replay
    unknown       words that name no setting, as errors (--allow-unused turns them into notes)
    graph         name or file of the graph whose request fields are flags too
    page          of the help: `all`, a group's name, or empty
    """

    settings: list[Setting] = field(default_factory=list)
    config_files: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    unknown: list[UserError] = field(default_factory=list)
    graph: str = ""
    help: bool = False
    page: str = ""
    debug: bool = False
    allow_unused: bool = False
    replay: str = ""


def parse(argv: Sequence[str], command: str = "generate") -> CommandLine:
    """The settings of a command line; a UserError names the word at fault."""
    graph = graph_named(argv)
    return _Reader(flag_table(graph), list(argv), command, graph).read()


def is_flag(word: str) -> bool:
    """Whether a word can only be a flag; `--a b` with a space, or `-1`, is a value."""
    return word in {"-h", "--"} or FLAG.fullmatch(word) is not None


class _Reader:
    """One pass over the words."""

    def __init__(self, flag_table: Table, words: list[str], command: str, graph: str) -> None:
        self.table, self.words, self.command = flag_table, words, command
        self.at = 0
        self.result = CommandLine(graph=graph)
        self.lists: dict[str, list[Any]] = {}

    def read(self) -> CommandLine:
        """Consume all words."""
        only_keys = False
        while self.at < len(self.words):
            word = self._next()
            if word == "--" and not only_keys:
                only_keys = True
            elif is_flag(word) and not only_keys:
                self._flag(word)
            else:
                self._key(word)
        return self.result

    def _next(self) -> str:
        self.at += 1
        return self.words[self.at - 1]

    def _peek(self) -> str | None:
        return self.words[self.at] if self.at < len(self.words) else None

    def _flag(self, word: str) -> None:
        matched = FLAG.fullmatch(word)
        typed, text = (matched[1], matched[2]) if matched else ("--help", None)
        flag = find(self.table, tuple(flat_name(typed).split(".")))
        if flag is None:
            raise self._unknown_flag(typed)
        value = self._value(flag, typed, text)
        if flag.own and self.command in flag.commands:
            self._own(flag, value)
        elif flag.server_only and self.command == "generate":
            self.result.ignored.append(typed)
        elif self.command not in flag.commands:
            raise self._of_other_command(flag, typed, value)
        else:
            if flag.append:
                value = self._appended(flag, value)
            self.result.settings += flag_settings(flag, value, typed, HERE)

    def _unknown_flag(self, typed: str) -> UserError:
        help = for_flag(self.table, typed, self.command, self._graph())
        root = typed.removeprefix("--").partition(".")[0]
        if "." in typed and root in self.table.roots:
            help = f"a config path is written without dashes: {typed.removeprefix('--')}=VALUE"
        return UserError(f"there is no flag `{typed}`", help=help, field=typed)

    def _graph(self) -> str:
        """The graph for suggestions: the named one, else the default."""
        named = any(word.startswith(("--model", "--backend", "model_path")) for word in self.words)
        return self.result.graph or ("" if named else default_graph_name())

    def _of_other_command(self, flag: Flag, typed: str, value: Any) -> UserError:
        """The error for a flag of another command; a server takes request fields as KEY=VALUE."""
        value_text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        values = flag.also.items() if flag.also else [(flag.path, value_text)]
        fields = [f"{'.'.join(path)}={setting}" for path, setting in values if path[0] == "request"]
        return UserError(
            f"{typed} belongs to `sglang {flag.commands[0]}`",
            help=f"for every request of the server: {' '.join(fields)}" if fields
            else f"see `sglang {self.command} --help`",
            field=".".join(flag.path),
        )  # fmt: skip

    def _value(self, flag: Flag, typed: str, text: str | None) -> Any:
        if flag.path == ("cli", "help"):
            return self._help(text)
        if flag.type == "bool":
            return self._bool(typed, text)
        if text is not None:
            return Raw(text)
        following = self._peek()
        if following is None or is_flag(following):
            reason = f", but `{following}` follows" if following else ""
            dashes = f"; one that begins with dashes is written {typed}=--..."
            raise UserError(
                f"{typed} needs a value{reason}",
                help=f"write {typed} VALUE{dashes if following else ''}", field=flat_path(flag),
            )  # fmt: skip
        words = [Raw(self._next())]
        while flag.many and self._continues(flag):
            words.append(Raw(self._next()))
        return words if len(words) > 1 else words[0]

    def _continues(self, flag: Flag) -> bool:
        """Whether the next word is one more value of a list."""
        following = self._peek()
        if following is None or is_flag(following) or DASHES.fullmatch(following):
            return False
        matched = KEY.fullmatch(following)
        if matched is None:
            return True
        segments = matched[1].split(".")
        if flag.type == "map":  # its own words are NAME=VALUE
            return len(segments) == 1 and find(self.table, tuple(segments)) is None
        return flag.type not in NUMBERS and not seems_key(self.table, segments)

    def _bool(self, typed: str, text: str | None) -> bool:
        following = self._peek()
        if text is None and following is not None and following.isalnum():
            text = self._next()  # true, false, or a misspelling of them
        if text is None:
            return True
        if text.lower() not in {"true", "false"}:
            raise UserError(
                f'{typed} is true or false, got "{text}"',
                help=f"write {typed}, or {typed} false", field=typed,
            )  # fmt: skip
        return text.lower() == "true"

    def _help(self, text: str | None) -> bool | str:
        """`--help`, or `--help GROUP`."""
        following = self._peek()
        if text is None and following is not None and following.isalpha():
            text = self._next()
        if text is None or text.lower() in {"true", "false"}:
            return text is None or text.lower() == "true"
        return text

    def _appended(self, flag: Flag, value: Any) -> Any:
        """The value with those of earlier uses of the flag."""
        listed = self.lists.setdefault(flag.name, [])
        listed += value if isinstance(value, list) else [value]
        return list(listed) if len(listed) > 1 else listed[0]

    def _own(self, flag: Flag, value: Any) -> None:
        name = flag.path[1]
        if name in {"debug", "allow_unused"}:
            setattr(self.result, name, value)
        elif name == "help":
            self.result.help, self.result.page = value is not False, _page(value)
        elif name == "help_all":
            self.result.help, self.result.page = value, "all"
        elif name == "replay":
            self.result.replay = str(value)
        elif name == "config":
            self.result.config_files += map(str, value if isinstance(value, list) else [value])
        else:
            for word in value if isinstance(value, list) else [value]:
                self._key(word)

    def _key(self, word: str) -> None:
        """One `key=value`."""
        matched = KEY.fullmatch(word)
        if matched is None:
            raise _unexpected(self.table, word, self.command)
        key, value = matched[1], Raw(matched[2])
        take_entry(self.table, self.result, (key, value), HERE, self.command)


def _page(value: bool | str) -> str:
    return value if isinstance(value, str) else ""


def take_entry(
    flag_table: Table, into: CommandLine, entry: tuple[str, Any], at: Position, command: str
) -> None:
    """Add one key and its value, from the command line or a file, to the parsed command line."""
    key, value = entry
    segments = tuple(key.split("."))
    flag = find(flag_table, segments)
    if flag and flag.own:
        into.unknown.append(
            UserError(f"`{key}` is a flag of the command line only", help=f"write {flag.name}")
        )
    elif flag and flag.server_only and command == "generate":
        into.ignored.append(key)
    elif flag:
        into.settings += flag_settings(flag, value, key, at)
    elif segments[0] == "server" and command == "generate":
        into.ignored.append(key)
    elif len(segments) == 1 and not is_known(flag_table, segments):
        into.unknown.append(unknown(flag_table, key, at))
    else:
        into.settings.append(Setting(path_of(flag_table, segments), value, key, at))


def default_graph_name() -> str:
    """The graph that runs where neither a graph nor a model is named."""
    return str(catalog.read_yaml(catalog.packaged("conf") / "default.yaml").get("graph", ""))


def _unexpected(flag_table: Table, word: str, command: str) -> UserError:
    dashed = DASHES.match(word)
    if dashed:
        return UserError(
            f"`{word}` begins with a long dash",
            help=f"write two short ones: --{dashed[1]}",
        )
    if word.startswith("-"):
        name = word.partition("=")[0]
        help = for_flag(flag_table, name, command) if common_option(name) else ""
        return UserError(f"there is no flag `{name}`", help=help or "flags begin with two dashes")
    shortened = word if len(word) <= 40 else f"{word[:37]}..."
    return UserError(
        f"unexpected word `{shortened}`",
        help=for_word(flag_table, word, command),
    )
