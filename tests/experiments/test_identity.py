"""What a run depends on, told once for all points that share it."""

from pathlib import Path

from study_files import write_study

from experiments.running import identity
from experiments.study.build import scenario_of
from experiments.study.document import read_raw
from experiments.study.overrides import parse_overrides
from experiments.study.points import prepare


def test_points_with_one_calibration_write_it_once(tmp_path: Path) -> None:
    overrides = parse_overrides(['sweep={"engine.max_num_seqs": [3, 5, 7]}', "cluster.gpu=l40s"])
    plan = prepare(read_raw(write_study(tmp_path), overrides))
    identity._of_calibrations.cache_clear()
    found = [identity.run_identity(point.study, 0) for point in plan.points]
    assert identity._of_calibrations.cache_info().misses == 1
    assert len({each["point"] for each in found}) == 3
    (pool,) = scenario_of(plan.points[0].study, 0).pools
    expected = identity.digest_of([pool.calibration.model_dump_json()])
    assert {each["calibration"] for each in found} == {expected}
