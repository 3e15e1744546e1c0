"""The root of the command line: ``aweigh VERB --key value`` (``key=value`` is taken too).

Each stage registers its verbs through the entry-point group ``aweigh.verbs``; a stage whose extra is not installed
leaves its verbs known by name, so that calling one reports what to install.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

from aweigh.runtime.cli.output import without_progress
from aweigh.runtime.cli.parsing import Parser, normalise, unknown_verb, unknown_words
from aweigh.runtime.cli.provided import Provided
from aweigh.runtime.errors import AweighError, BadInput, CannotRun, install_advice
from aweigh.runtime.images.header import MAX_PIXELS
from aweigh.runtime.machine.termination import Ending, Terminated, termination_unwinds

# Set by what `register-python-argcomplete aweigh` prints.
COMPLETION_VARIABLE = "_ARGCOMPLETE"
TRACEBACK_VARIABLE = "AWEIGH_TRACEBACK"
DESCRIPTION = "Train object detectors, export them whole, prove the file, run it without torch."

# Known without importing the stage, so that a missing extra can be named.
VERBS = {
    "train": ("train", "train a detector"),
    "val": ("train", "evaluate a checkpoint or an exported file: average precision"),
    "export": ("export", "export a checkpoint as one graph, from uint8 image to boxes, with its receipt"),
    "verify": ("export", "compare any two of checkpoint, ONNX file and engine, with a receipt"),
    "predict": ("cpu", "detect in images, folders, videos and cameras"),
    "label": ("cpu", "write boxes for labelling tools: COCO, CVAT, Label Studio"),
    "bench": ("cpu", "measure latency by stage, percentiles and memory"),
    "compare": ("cpu", "compare the detections of two exported files in the same images"),
    "serve": ("serve", "answer requests over HTTP and gRPC"),
    "inspect": ("cpu", "show what a model file holds"),
    "card": ("cpu", "write a model card: what the file and its receipt say, for people and for hubs"),
    "push": ("cpu", "upload a model file to a Hugging Face hub, with its receipt and card"),
    "pull": ("cpu", "fetch a model file from a Hugging Face hub, with its receipt"),
    "convert": ("train", "write a data set in another format: COCO, YOLO or Pascal VOC"),
    "import": ("train", "convert released weights of mmdet, cvpods or the papers' authors into a checkpoint"),
    "doctor": ("cpu", "check this installation, or a data set"),
    "assign": ("train", "show what each method assigns in one image, as a page"),
    "methods": ("train", "list the label-assignment methods"),
    "conformance": ("train", "compare the methods with numbers of their authors' code"),
    "demo": ("export", "generate data, train, export, prove and run, in three minutes"),
}

Run = Callable[[argparse.Namespace], int | None]
Fill = Callable[[argparse.ArgumentParser], None]


class Verbs:
    """What a stage's ``register`` function gets: add verbs to it.

    Attributes:
        parsers: by verb.
        provided: what a stage does for the verbs of others; the arguments of every verb hold it as ``provided``.
    """

    def __init__(self, subparsers: Any) -> None:
        self._subparsers = subparsers
        self.parsers: dict[str, argparse.ArgumentParser] = {}
        self.provided = Provided()
        self._fills: dict[str, Fill] = {}

    def add(self, name: str, run: Run, fill: Fill | None = None) -> argparse.ArgumentParser:
        """A parser for the verb; ``run`` gets the parsed arguments and returns the exit code (None is 0).

        ``fill`` adds flags that cost an import: it is called before the arguments of this verb are parsed, and not
        where another verb is run.

        Every verb has ``--json``: one JSON object on stdout, everything else on stderr.
        """
        summary = VERBS[name][1]
        parser: argparse.ArgumentParser = self._subparsers.add_parser(
            name, help=summary, description=summary, allow_abbrev=False
        )
        parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
        parser.set_defaults(run=run, provided=self.provided)
        self.parsers[name] = parser
        if fill is not None:
            self._fills[name] = fill
        return parser

    def complete(self, name: str) -> argparse.ArgumentParser:
        """The parser of the verb that is run, with all its flags."""
        if name in self._fills:
            self._fills.pop(name)(self.parsers[name])
        return self.parsers[name]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code (0 done, 1 a check failed, 2 bad usage or input, 3 cannot run here)."""
    # OpenCV and its codecs print a line for every damaged image; the exceptions report it with the file's name.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))  # read when OpenCV is imported
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with termination_unwinds() as ending:
            return _ended_as_asked(arguments, ending)
    except SystemExit as leaving:  # argparse, after --help or a wrong flag
        return leaving.code if isinstance(leaving.code, int) else BadInput.exit_code
    except AweighError as error:
        print(f"aweigh: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        print(f"aweigh: {error}", file=sys.stderr)
        return BadInput.exit_code
    except OSError as error:
        # The ones a user meets: disk full, no permission.
        print(f"aweigh: {error}", file=sys.stderr)
        return CannotRun.exit_code
    except Terminated as error:
        print(f"aweigh: ended by {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("aweigh: interrupted", file=sys.stderr)
        return 130
    except MemoryError as error:
        print(f"aweigh: not enough memory ({error or 'MemoryError'})", file=sys.stderr)
        return CannotRun.exit_code
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        print(f"aweigh: {_defect(error)}", file=sys.stderr)
        return AweighError.exit_code


def _ended_as_asked(arguments: list[str], ending: Ending) -> int:
    """``_dispatch``, whose errors are interrupts where these caused them.

    Libraries make errors of their own of what is raised while they are loaded or their compiled code calls Python.
    """
    try:
        return _dispatch(arguments)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__cause__ or cause.__context__
        cause = cause or ending.asked
        if cause is None:
            raise
        raise cause from None


def _defect(error: Exception) -> str:
    """One line on an exception that no verb expected: what, where, and how to see more."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    what = " ".join(f"{type(error).__name__}: {error!s}".split())[:300]
    what = what.encode(errors="backslashreplace").decode()
    return (
        f"a defect of aweigh, please report it: {what} ({Path(place.filename).name}:{place.lineno}); "
        f"{TRACEBACK_VARIABLE}=1 in the environment shows the traceback"
    )


def _dispatch(arguments: list[str]) -> int:
    parser = Parser(prog="aweigh", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"aweigh {version('aweigh')}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    verbs = Verbs(subparsers)
    absent_modules = register_stages(verbs)
    for name in VERBS:
        if name not in verbs.parsers:
            extra, summary = VERBS[name]
            subparsers.add_parser(name, help=f"{summary} (needs aweigh[{extra}])", add_help=False)
    if COMPLETION_VARIABLE in os.environ:
        _complete(parser, verbs)
    if not arguments:
        parser.print_help(sys.stderr)
        return BadInput.exit_code
    verb = arguments[0]
    if verb in VERBS and verb not in verbs.parsers:
        raise _missing(verb, absent_modules.get(VERBS[verb][0]))
    if verb not in VERBS and not verb.startswith("-"):
        raise unknown_verb(verb, VERBS)
    if verb in verbs.parsers:
        arguments = [verb, *normalise(arguments[1:], verbs.complete(verb))]
    namespace, left_over = parser.parse_known_args(arguments)
    if left_over:
        raise unknown_words(verb, left_over, verbs.parsers.get(verb, parser))
    try:
        with without_progress(namespace.json):
            return int(namespace.run(namespace) or 0)
    except ModuleNotFoundError as error:
        if _is_of_aweigh(error):
            raise
        raise _missing(verb, error.name) from error


def _complete(parser: argparse.ArgumentParser, verbs: Verbs) -> None:
    """Answer the shell, which asks what may come next in the line that is being typed; ends the process."""
    import argcomplete

    words = os.environ.get("COMP_LINE", "").split()
    if len(words) > 1 and words[1] in verbs.parsers:
        verbs.complete(words[1])
    argcomplete.autocomplete(parser)


def register_stages(verbs: Verbs) -> dict[str, str]:
    """Let each installed stage add its verbs; returns, by stage, the module that kept one from doing so."""
    absent_modules = {}
    for point in sorted(entry_points(group="aweigh.verbs"), key=lambda p: p.name):
        try:
            point.load()(verbs)
        except ModuleNotFoundError as error:
            if _is_of_aweigh(error):
                raise
            absent_modules[point.name] = error.name or str(error)
    return absent_modules


def _is_of_aweigh(error: ModuleNotFoundError) -> bool:
    """A missing module of aweigh itself is a broken installation, not a missing extra."""
    return (error.name or "").split(".")[0] == "aweigh"


def _missing(verb: str, module: str | None) -> CannotRun:
    extra = VERBS[verb][0] if verb in VERBS else "dev"
    what = f"the module {module!r}" if module else "more than is installed"
    return CannotRun(f"aweigh {verb} needs {what}: {install_advice(extra)}")
