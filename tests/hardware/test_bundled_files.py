from pathlib import Path

import pytest

import hardware
from hardware.yaml_file import read_bundled, read_yaml

FOLDER = Path(hardware.__file__).parent


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_bundled_file_says_the_same_in_yaml_1_1_and_1_2(path: Path) -> None:
    assert read_bundled(path) == read_yaml(path)
