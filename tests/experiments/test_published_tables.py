"""Published tables that a comparison reads from a file: what is kept of them, or an error."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import shared_prefix_routing as routing
from experiments.validation import apart, draft_gains, offload
from experiments.validation.apart import APART, PLAIN, Means, signs
from experiments.validation.offload import Measured, Stage, signs_right

PD = (
    "layout,ttft_mean_s,e2e_mean_s,itl_mean_ms,tpot_mean_ms\n"
    "16 x TP1 behind a k8s service,0.532,6.7,25,\n"
    "8 x TP1 prefill + 2 x TP4 decode (llm-d),1.157,2.775,4.89,5.70\n"
)
GLM = "layout,mtp,concurrency,itl_p50_ms\n1P1D DEP16,yes,32,9\n3P1D DEP16,yes,64,15.5\n" + "".join(
    f"1P1D DEP16,{mtp},{users},{ms}\n"
    for users, both in draft_gains.MEASURED.items()
    for mtp, ms in zip(("no", "yes"), both, strict=True)
)
OFFLOAD = "target_qps,config,ttft_mean_s,e2e_mean_s\n" + "".join(
    f"{rate},{name},{known.ttft_s[place]},{known.e2e_s[place]}\n"
    for rate, known in offload.MEASURED.items()
    for place, name in enumerate(("hbm_only", "cpu_offload"))
)
ROUTING = "qps,scorer,output_tok_s,ttft_mean_s\n" + "".join(
    f"{rate},{scorer},{output},{ttft}\n"
    for scorer, name in routing.SCORERS.items()
    for (rate, _), (ttft, output) in zip(routing.STAGES[1:], routing.MEASURED[name], strict=True)
)
Read = Callable[[Path], object]


def written(folder: Path, text: str) -> Path:
    path = folder / "measured.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("read", "text", "known"),
    [
        (apart.read_measured, PD, apart.MEASURED),
        (draft_gains.read_measured, GLM, draft_gains.MEASURED),
        (offload.read_measured, OFFLOAD, offload.MEASURED),
        (routing.read_measured, ROUTING, routing.MEASURED),
    ],
)
def test_a_published_table_is_what_is_kept(
    tmp_path: Path, read: Read, text: str, known: object
) -> None:
    assert read(written(tmp_path, text)) == known
    header, *rows = text.splitlines()
    with pytest.raises(ValueError, match=f"no column {header.split(',')[0]}, expected"):
        read(written(tmp_path, text.replace(header.split(",")[0], "other", 1)))
    with pytest.raises(ValueError, match=r"no row|expected a layout"):
        read(written(tmp_path, "\n".join([header, *rows[:-1]])))
    with pytest.raises(ValueError, match="= 'fast', expected a number"):
        read(written(tmp_path, "\n".join([header, rows[-1].rpartition(",")[0] + ",fast"])))
    with pytest.raises(ValueError, match="cannot be read"):
        read(tmp_path / "none.csv")


def test_signs_are_those_of_means() -> None:
    assert signs({PLAIN: Means(0.5, 0.02, 6.0), APART: Means(0.6, 0.01, 3.0)}) == (
        True, False, False,
    )  # fmt: skip
    helped, hurt = ((0.5, 0.4), (2.0, 1.8)), ((0.5, 0.6), (2.0, 1.8))
    same = Measured((0.5, 0.5), (2.0, 2.0))
    assert signs_right({5: Measured(*helped)}, [Stage(5, *helped)]) == 1
    assert signs_right({5: Measured(*helped)}, [Stage(5, *hurt)]) == 0
    assert signs_right({5: same}, [Stage(5, *hurt)]) == 1


def test_the_order_is_of_prefixes_known() -> None:
    ttft_s = {"precise": 0.1, "approximate": 0.5, "random": 0.9, "load": 0.8}
    assert routing.in_order(ttft_s)
    assert not routing.in_order(ttft_s | {"load": 0.4})
    assert not routing.in_order(ttft_s | {"precise": 0.6})
