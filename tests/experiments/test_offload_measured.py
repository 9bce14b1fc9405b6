"""KV in the host's memory beside a measured run, rate by rate."""

from experiments.validation.offload import MEASURED, Stage, stages


def test_signs_are_those_of_the_measurement_at_every_rate() -> None:
    simulated: list[Stage] = list(stages(replicas=1))
    assert [stage.rate_per_s for stage in simulated] == list(MEASURED)
    for stage in simulated:
        known = MEASURED[stage.rate_per_s]
        for measured, found in ((known.ttft_s, stage.ttft_s), (known.e2e_s, stage.e2e_s)):
            assert measured[1] <= measured[0]
            assert found[1] < found[0], stage
        # Without the host: from when on the queue grows, and how far.
        assert 0.5 < stage.ttft_s[0] / known.ttft_s[0] < 2, stage
        assert 0.5 < stage.e2e_s[0] / known.e2e_s[0] < 2, stage
    # Before the GPU is full the host buys little; behind that, nearly everything.
    assert simulated[0].e2e_s[0] - simulated[0].e2e_s[1] < 0.2
    assert simulated[-1].e2e_s[0] > 5 * simulated[-1].e2e_s[1]
