"""What the prices of a plan rest on stands in its answer and on its page."""

from pathlib import Path

from test_plan import study

from experiments.planning.plan.basis import basis_notes
from experiments.planning.plan.candidates import built
from experiments.planning.plan.reading import read_plan
from experiments.study.document import read_raw

BORROWED = "prices measured on a100-80gb-sxm are applied to t4"


def test_a_gpu_that_borrows_its_prices_is_named(tmp_path: Path) -> None:
    served = [one for one in built(read_plan(read_raw(study(tmp_path)))) if not one.lost]
    told = basis_notes(served)
    (borrowed,) = [text for text in told if BORROWED in text]
    assert borrowed.startswith(
        "opt-125m t4 TP1, max_num_seqs 4; opt-125m t4 TP1, max_num_seqs 16; "
    )
    assert "l40s TP1" not in borrowed
    of_all = [text for text in told if text.startswith("vLLM")]
    assert len(of_all) == 1  # about all of them, so nobody is named
    (alone,) = [text for text in basis_notes(served[:1]) if BORROWED in text]
    assert alone.startswith("calibration ")
