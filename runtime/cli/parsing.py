"""How the command line is read: flags, ``key=value``, words without a flag; what is wrong is said in one line."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Collection, Sequence
from typing import NoReturn

from aweigh.runtime.errors import BadInput

MODEL_SUFFIXES = (".pt", ".onnx", ".engine", ".plan")
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, without the list of all flags before it."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{_after_aweigh(self.prog)}{message}; {self.prog} --help lists what there is")


def _after_aweigh(prog: str) -> str:
    verb = prog.partition(" ")[2]
    return f"{verb}: " if verb else ""


def unknown_verb(verb: str, known: Collection[str]) -> BadInput:
    """The error for a verb that does not exist.

    Example:
        >>> str(unknown_verb("predct", ["predict", "train"]))
        "no verb 'predct'; did you mean predict? aweigh --help lists all"
    """
    return BadInput(f"no verb {verb!r};{_suggestion(verb, known)} aweigh --help lists all")


def unknown_words(verb: str, words: Sequence[str], parser: argparse.ArgumentParser) -> BadInput:
    """The error for flags and words that a verb does not take."""
    word = words[0]
    flags = list(flags_of(parser))
    if word.startswith("-"):
        name = word.partition("=")[0]
        return BadInput(f"{verb}: there is no flag {name};{_suggestion(name, flags)} aweigh {verb} --help lists all")
    key, equals, _ = word.partition("=")
    if equals and "/" not in key:
        return BadInput(
            f"{verb}: there is no key {key!r};{_suggestion(f'--{key}', flags)} aweigh {verb} --help lists all"
        )
    return BadInput(f"{verb}: {word!r} is left over: the flags that it could belong to have their values already")


def _suggestion(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" did you mean {close[0]}?" if close else ""


def flags_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The actions of a parser by name, such as ``--model``."""
    return {flag: action for action in parser._actions for flag in action.option_strings}


def add_outside_images(parser: argparse.ArgumentParser) -> None:
    """The flag of the verbs that read a data set."""
    parser.add_argument(
        "--outside-images",
        action="store_true",
        help="read images outside of the data set's folder, where its annotations name such",
    )


def normalise(arguments: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Arguments of a verb as argparse takes them.

    * ``key=value`` becomes ``--key=value``, and ``_`` in the names of flags ``-``, where the verb has such a flag.
    * ``--exist-ok=true`` becomes ``--exist-ok``, ``=false`` its opposite.
    * A word without a flag is the model (the second one: what it is compared with) where it ends as a model file
      does, else the source, or the data; not where that flag is given.

    Anything else is left as it is: the value of a flag may hold an equals sign itself.

    Raises:
        BadInput: a flag that the verb does not have; a value but true or false for a flag that is one of the two.
    """
    verb, flags = parser.prog.partition(" ")[2], flags_of(parser)
    result: list[str] = []
    words: list[int] = []
    values = 0.0  # that the last flag still takes
    for argument in arguments:
        if values >= 1 and not _is_flag(argument, flags):
            values -= 1
            result.append(argument)
            continue
        name, equals, value = argument.partition("=")
        flag = "--" + name.removeprefix("--").replace("_", "-")
        if flag in flags and (equals or name.startswith("--")):
            switch = bool(equals) and flags[flag].nargs == 0
            values = 0 if equals else _values(flags[flag])
            result.append(_switch(flag, value, flags) if switch else f"{flag}{equals}{value}")
            continue
        if name.startswith("--") and name != "--":
            raise unknown_words(verb, [argument], parser)
        values = _values(flags[argument]) if argument in flags else 0
        if not argument.startswith("-") and (not equals or "://" in name):
            words.append(len(result))
        result.append(argument)
    given = {word.partition("=")[0] for word in result}
    for at in words:
        place = _place(result[at], flags, given)
        if place is not None:
            given.add(place)
            result[at] = f"{place}={result[at]}"
    return result


def _is_flag(argument: str, flags: Collection[str]) -> bool:
    return argument.startswith("--") and argument.partition("=")[0].replace("_", "-") in flags


def _values(action: argparse.Action) -> float:
    """How many values a flag takes at most."""
    if action.nargs in ("*", "+"):
        return float("inf")
    if isinstance(action.nargs, int):
        return action.nargs
    return 1


def _switch(flag: str, value: str, flags: Collection[str]) -> str:
    opposite = f"--no-{flag.removeprefix('--')}"
    if value.lower() in _YES:
        return flag
    if value.lower() in _NO and opposite in flags:
        return opposite
    expected = "true or false" if opposite in flags else "true; leave it out otherwise"
    raise BadInput(f"{flag}={value}: expected {expected}")


def _place(word: str, flags: Collection[str], given: Collection[str]) -> str | None:
    is_model = word.startswith("hf:") or word.partition("#")[0].lower().endswith(MODEL_SUFFIXES)
    wanted = ("--model", "--against", "--to") if is_model else ("--source", "--data")
    return next((flag for flag in wanted if flag in flags and flag not in given), None)
