"""The live page of a small study, for all tests of a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_study import STUDY, TOKEN


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explore") / "small.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def client(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Whoever asks the page; only files that found starlette and httpx want it."""
    from starlette.testclient import TestClient

    from experiments.exploring.knobs import knobs_of
    from experiments.exploring.points import base_of
    from experiments.exploring.server import Explorer, application
    from experiments.exploring.workers import Workers
    from experiments.study.document import read_raw

    base = base_of(read_raw(study, []), 2)
    workers = Workers(1, tmp_path_factory.mktemp("pieces"))
    explorer = Explorer(base, knobs_of(base.study()), workers)
    with TestClient(
        application(explorer, TOKEN, 9), base_url="http://127.0.0.1", follow_redirects=False
    ) as found:
        assert found.get(f"/?token={TOKEN}").status_code == 307
        yield found
