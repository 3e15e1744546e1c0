"""Class names of a data.yaml are what is written there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aweigh.runtime.errors import BadInput
from aweigh.train.data.open import load_split
from tests.support.cases import case


@pytest.fixture
def names_of(tmp_path: Path, picture: Callable[..., Path]) -> Callable[[str], dict[int, str]]:
    picture(tmp_path / "images" / "a.jpg")

    def read(names: str) -> dict[int, str]:
        (tmp_path / "data.yaml").write_text(f"train: images\nnames: {names}\n", encoding="utf-8")
        return load_split(tmp_path, "train").names

    return read


def test_the_sample_s_names_are_as_written(tmp_path: Path) -> None:
    root = case("yolo-names-retyped", tmp_path)
    names = ["on", "off", "010", "12:30", "1e3", "null", "007", "1_000"]
    assert list(load_split(root / "names-list", "train").names.values()) == names
    assert list(load_split(root / "leading-zero", "train").names.values()) == ["02146", "21008", "21010"]
    with pytest.raises(BadInput, match=r"data.yaml: names: expected .* integer keys"):
        load_split(root / "keys-yes-no", "train")


@pytest.mark.parametrize(
    "word", ["yes", "NO", "True", "~", "0x1F", "0o17", "0b1", "1.50", ".inf", ".nan", "-0", "2020-01-01", "190:20:30"]
)
def test_no_word_is_retyped(names_of: Callable[[str], dict[int, str]], word: str) -> None:
    assert names_of(f"[cat, {word}]") == {0: "cat", 1: word}
    assert names_of(f"{{0: cat, 1: {word}}}") == {0: "cat", 1: word}
    assert names_of(f"[cat, '{word}']") == {0: "cat", 1: word}


def test_an_alias_is_its_name(names_of: Callable[[str], dict[int, str]]) -> None:
    assert names_of("[&a cat, *a]") == {0: "cat", 1: "cat"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("{00: cat, 010: dog}", "integer keys"),  # 8 to YAML 1.1, 10 to YAML 1.2
        ("{0.0: cat}", "integer keys"),
        ("{9999999999999999999: cat}", "64 bits"),
        ("{0: cat, 0: dog}", "the key '0' stands twice"),
        ("{0: cat, 00: dog}", "ids used twice"),
        ("{? [0] : cat}", "is no text"),
        ("[cat, '']", "category 1: expected a name"),
        ("[cat, ]\n  - dog", "not YAML"),
        ("[cat, [dog]]", "category 1: expected a name"),
        ('["\\ud800"]', "category 0: expected a name"),
        ("[*nothing]", "alias of nothing"),
        ("&a [*a]", "alias of nothing"),
        ("[" * 3000, "more than 20 levels"),
        ("[cat]\n---\nnames: [dog]", "one YAML document"),
        ("!!python/object/apply:os.system [true", "not YAML"),
    ],
)
def test_names_that_cannot_be_used(names_of: Callable[[str], dict[int, str]], names: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        names_of(names)
    assert "data.yaml" in str(caught.value)


def test_aliases_of_aliases_are_not_written_out(names_of: Callable[[str], dict[int, str]]) -> None:
    levels = ["[x]", *(f"[{', '.join([f'*l{i}'] * 9)}]" for i in range(11))]  # 9 ** 11 times x
    with pytest.raises(BadInput, match="expected a name") as caught:
        names_of("".join(f"\n  - &l{i} {level}" for i, level in enumerate(levels)))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("count", ["2", "2.0", "null", "~"])
def test_a_count_that_is_right_or_left_out(names_of: Callable[[str], dict[int, str]], count: str) -> None:
    assert names_of(f"[cat, dog]\nnc: {count}") == {0: "cat", 1: "dog"}


@pytest.mark.parametrize("count", ["3", "1", "two", "[2]", "-2"])
def test_a_count_that_is_not_that_of_the_names(names_of: Callable[[str], dict[int, str]], count: str) -> None:
    for names in ("[cat, dog]", "{0: cat, 5: dog}"):
        with pytest.raises(BadInput, match=r"data.yaml: nc is .*, and names has 2 classes"):
            names_of(f"{names}\nnc: {count}")
