"""Counting what of a list of published models can be read."""

import json
from pathlib import Path

import pytest

from benchmarks.coverage import main

LIST = """\
model,recipes,rows,gpus,remark
Qwen/Qwen3-32B,1,380,h100 b200,dense
nobody/Nothing-7B,2,5,h100 abacus,3
deepseek-ai/DeepSeek-R1,1,1740,,
"""
TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "vocab_size": 101,
    "max_position_embeddings": 50,
}


def write(folder: Path, text: str) -> str:
    file = folder / "list.csv"
    file.write_text(text)
    return str(file)


def test_counts_are_those_of_models_that_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, config in {"one": TINY, "two": {**TINY, "model_type": "newcomer"}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    assert main([write(tmp_path, LIST), "--configs", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["2 of 3 models are read", "2 of 4 recipes", "2,120 of 2,125 rows"]
    assert lines[3].startswith("refused: nobody/Nothing-7B: model = 'nobody/Nothing-7B' is neither")
    assert lines[4:6] == ["refused: gpu abacus", "1 of 2 folders with a config.json are read"]
    assert lines[6].startswith("refused: two: ")
    assert "newcomer" in lines[6]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,recipes\na,1\n", "expected a column model, found name, recipes"),
        ("model,words\na,b\n", "expected a column of whole numbers beside model"),
        ("", "expected a column model, found none"),
    ],
)
def test_lists_that_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    assert main([write(tmp_path, text)]) == 2
    assert words in capsys.readouterr().err


def test_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "no.csv")]) == 2
    assert "no.csv: No such file" in capsys.readouterr().err
    assert main([write(tmp_path, LIST), "--configs", str(tmp_path / "no")]) == 2
    assert "no: no such folder" in capsys.readouterr().err
