"""What tests of whole commands share."""

import pytest


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave pictures away where tables are what is compared: drawing takes longer than all else."""
    monkeypatch.setattr("experiments.running.pages.draw", lambda *_: None)
    monkeypatch.setattr("experiments.validation.writing.draw_parity", lambda *_: [])
