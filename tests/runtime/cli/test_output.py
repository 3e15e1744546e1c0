from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from aweigh.runtime.cli.output import console, emit_file, emit_json, log_console, progress, without_progress
from aweigh.runtime.errors import BadInput


def test_one_json_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"name": "Zürich"})
    assert capsys.readouterr().out == '{"name": "Zürich"}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        emit_json(float("nan"))


def test_a_file_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.json"
    path.write_text("[\n{}]\n", encoding="utf-8")
    emit_file(path)
    assert capsys.readouterr().out == "[\n{}]\n"


def test_lines_are_neither_wrapped_nor_interpreted(capsys: pytest.CaptureFixture[str]) -> None:
    line = "/data/[red]" + "x" * 300
    console().print(line)
    log_console().print(line)
    assert capsys.readouterr() == (line + "\n", line + "\n")
    log_console(quiet=True).print(line)
    assert capsys.readouterr().err == ""


def test_names_give_no_orders_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b[31mcat\x1b]0;title\x07\x9b2J\r\ud800"
    shown = r"\x1b[31mcat\x1b]0;title\x07\x9b2J\r\ud800"
    console().print(f"a.jpg: 3 {name}\tä")
    log_console().print(name)
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)
    console().print(table)
    printed = capsys.readouterr()
    assert printed.err == shown + "\n"
    assert printed.out.startswith(f"a.jpg: 3 {shown}")
    assert printed.out.count(shown) == 4
    assert str(BadInput(f"class {name}\nsecond line")) == f"class {shown}\nsecond line"


def test_a_table_fills_160_columns_of_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table()
    table.add_column(overflow="fold")
    table.add_row("x" * 1000)
    console().print(table)
    assert {len(line) for line in capsys.readouterr().out.splitlines()} == {160}


def test_progress_is_drawn_on_a_terminal_alone() -> None:
    shown, piped = (Console(file=io.StringIO(), force_terminal=terminal, width=120) for terminal in (True, False))
    for target in (shown, piped):
        with progress(target, detail=True) as bar:
            task = bar.add_task("bench", total=8, detail="loss 1.5")
            bar.advance(task, 2)
            bar.refresh()
    assert isinstance(shown.file, io.StringIO)
    assert isinstance(piped.file, io.StringIO)
    assert all(part in shown.file.getvalue() for part in ("bench", "2/8", "25%", "loss 1.5"))
    assert piped.file.getvalue() == ""


def test_no_progress_is_drawn_for_a_reader_of_json() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    with without_progress(), progress(terminal) as bar:
        bar.add_task("bench", total=8)
        bar.refresh()
    assert isinstance(terminal.file, io.StringIO)
    assert terminal.file.getvalue() == ""
    with without_progress(False), progress(terminal) as bar:
        bar.add_task("bench", total=8)
        bar.refresh()
    assert "0/8" in terminal.file.getvalue()
