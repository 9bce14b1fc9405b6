import pytest

from hardware.calibration import (
    DATASHEET,
    PARAMETERS,
    Calibration,
    UnknownCalibrationError,
    calibration_names,
    load_calibration,
)
from hardware.calibration_file import save_calibration
from hardware.evidence import Covariance, CoveredRange, Residuals

FITTED = Calibration(
    name="a100-test",
    source="a made-up measurement, 2025-01-01",
    gpu="a100-80gb-sxm",
    software="engine 1.0",
    gemm_flops=0.8,
    attention_decode_bytes=1.1,
    step_overhead_s=0.002,
    covariance=Covariance(
        parameters=("gemm_flops", "step_overhead_s"), matrix=((1e-4, 1e-7), (1e-7, 1e-8))
    ),
    residuals=Residuals(mean_absolute=0.03, worst_absolute=0.1, points=40),
    covered=CoveredRange(max_step_tokens=2048, max_context_tokens=8192, max_decodes=128),
)


def test_the_datasheet_has_peaks_and_no_overhead_and_says_so():
    assert "not measured" in DATASHEET.source
    assert not DATASHEET.measured
    assert FITTED.measured
    for name, value in PARAMETERS.items():
        assert getattr(DATASHEET, name) == value == (0.0 if name.endswith("_s") else 1.0)


def test_the_datasheet_covers_everything():
    assert DATASHEET.outside(10**6, 10**6, 10**6) == []


def test_outside_says_by_how_much():
    assert FITTED.outside(2048, 8192, 128) == []
    assert FITTED.outside(8192, 1, 256) == [
        "8192 tokens of a step are 4 times the 2048 that calibration a100-test covers",
        "256 decoding sequences are 2 times the 128 that calibration a100-test covers",
    ]


def test_a_saved_calibration_reads_back_equal(tmp_path):
    path = tmp_path / "fitted.yaml"
    save_calibration(FITTED, path)
    assert load_calibration(path) == FITTED
    assert load_calibration(str(path)) == FITTED
    assert load_calibration(path) is load_calibration(str(path)), "it was read before"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("name: ", "name: again-", 1), encoding="utf-8")
    assert load_calibration(path).name == f"again-{FITTED.name}"


def test_a_saved_calibration_explains_its_keys(tmp_path):
    path = tmp_path / "fitted.yaml"
    save_calibration(FITTED, path)
    text = path.read_text()
    assert "# Matrix products, arithmetic.\ngemm_flops: 0.8\n" in text
    assert "  # Context of one sequence.\n  max_context_tokens: 8192\n" in text


def test_names():
    assert calibration_names()[0] == "none"
    assert load_calibration("none") is DATASHEET
    assert load_calibration("datasheet") is DATASHEET


def test_an_unknown_name():
    with pytest.raises(UnknownCalibrationError, match=r"calibration = 'nome'.*did you mean 'none'"):
        load_calibration("nome")


def test_a_file_with_mistakes_names_file_line_key_and_value(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("name: x\ngemm_flop: 0.5\n\ngemm_bytes: 2.0\ncovered:\n  max_decodes: 0\n")
    with pytest.raises(ValueError, match="gemm_flop: unknown key; did you mean 'gemm_flops'") as e:
        load_calibration(path)
    lines = str(e.value).splitlines()
    assert f"{path}: source: missing" in lines
    assert f"{path}:2: gemm_flop: unknown key; did you mean 'gemm_flops'?" in lines
    assert f"{path}:4: gemm_bytes = 2.0: Input should be less than or equal to 1.5" in lines
    assert f"{path}:6: covered.max_decodes = 0: Input should be greater than 0" in lines


def test_a_file_that_is_not_yaml(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("name: x\nsource: [1, 2\n")
    with pytest.raises(ValueError, match=r"broken.yaml:\d+: not YAML"):
        load_calibration(path)
    path.write_text("name: x\nname: y\n")
    with pytest.raises(ValueError, match=r"broken.yaml:2: not YAML: .*duplicate key"):
        load_calibration(path)
    path.write_text("- 1\n")
    with pytest.raises(ValueError, match="expected a mapping, found CommentedSeq"):
        load_calibration(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"broken\.yaml: UTF-16 text, expected UTF-8"):
        load_calibration(path)


@pytest.mark.parametrize(
    ("parameters", "matrix", "message"),
    [
        (("gemm_flops",), ((1.0, 2.0),), "expected a matrix of 1 by 1"),
        (("gemm_flop",), ((1.0,),), "'gemm_flop' is not one of a calibration; did you mean"),
        (("gemm_flops", "gemm_bytes"), ((1.0, 2.0), (3.0, 1.0)), r"not symmetric at \(1, 0\)"),
    ],
)
def test_a_wrong_covariance(parameters, matrix, message):
    with pytest.raises(ValueError, match=message):
        DATASHEET.model_validate(
            {
                "name": "mine", "source": "a test",
                "covariance": {"parameters": parameters, "matrix": matrix},
            }
        )  # fmt: skip
