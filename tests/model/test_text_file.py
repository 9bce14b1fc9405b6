"""Texts of others: kinds of files, encodings, sizes."""

import os
from pathlib import Path

import pytest

from model.text_file import DEEPEST, TextFileError, check_size, read_json, read_text


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbfname: \xc3\xa9\n")
    assert read_text(path) == "name: é\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a".encode("utf-16"), "UTF-16 text, expected UTF-8"),
        ("a".encode("utf-32"), "UTF-32 text, expected UTF-8"),
        (b"a\0b", "binary, expected UTF-8"),
        (b"a: b\nc: \xff\n", "not UTF-8 text: line 2 has other bytes"),
        (b"x" * 101, "101 bytes, expected at most 100"),
    ],
)
def test_other_contents(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(TextFileError, match=message):
        read_text(path, 100)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    for name, message in {
        "": "is a folder, expected a file",
        "pipe": "is a pipe, expected a file",
        "link": "No such file",
        "x" * 300: "name too long",
        "/dev/zero": "is a device, expected a file",
        "a\0b": "null byte",
    }.items():
        with pytest.raises(TextFileError, match=message):
            read_text(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        (
            "[" * (DEEPEST + 2) + "]" * (DEEPEST + 2),
            f"expected at most {DEEPEST} levels",
        ),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ("{", "not JSON"),
        ("[" + "0," * 200_000 + "0]", "too large, expected at most 200,000 values"),
    ],
)
def test_other_json(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(TextFileError, match=message):
        read_json(path)


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, {"b": null}]}')
    assert read_json(path) == {"a": [1, {"b": None}]}
    path.write_text("3")
    assert read_json(path) == 3


def test_what_holds_itself_is_too_deep() -> None:
    itself: list[object] = []
    itself.append(itself)
    with pytest.raises(TextFileError, match="nested too deeply"):
        check_size(itself)


def test_aliases_count_what_they_stand_for() -> None:
    level: list[object] = ["x"] * 10
    for _ in range(9):
        level = [level] * 10
    with pytest.raises(TextFileError, match="too large"):
        check_size(level)
