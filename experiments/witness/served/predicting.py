"""What a measured server is predicted to do: the same requests, simulated with its own prices."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from experiments.calibrating.decoder_vs_simulation import capacity_per_s as capacity_of
from experiments.calibrating.fit import Fit, Target, fit, pooled
from experiments.calibrating.measure import Measurement, Shape
from experiments.validation.levels import API
from experiments.witness.served.host import HostTimes, host_times
from experiments.witness.served.setting import CONFIG, Drawn, Engine, Traffic, drawn
from hardware.calibration import Calibration
from hardware.gpu import Gpu
from model.from_config import spec_from_config
from model.precision import precision
from model.spec import DecoderSpec
from sim.cluster_config import ClusterConfig
from sim.engine_config import EngineConfig
from sim.result import Result
from sim.scenario import Scenario, build_scenario
from sim.simulation import simulate

Data = Mapping[str, Any]
CAPACITY_REQUESTS = 400


def spec() -> DecoderSpec:
    """Of the model that is served."""
    return spec_from_config(CONFIG, "witness", source="the served witness")


def calibration_of(data: Data) -> Calibration:
    """Return prices of the engine's steps, by all that was timed of them; host times apart."""
    gpu = Gpu.model_validate(data["device"])
    target = Target(spec(), gpu, precision("float32"))
    fits = [_fit(target, rows, data) for rows in data["steps"]]
    found = fits[0] if len(fits) == 1 else pooled(target, fits[0], fits[1])
    return found.calibration.model_copy(update={"device": gpu})


def _fit(target: Target, rows: Sequence[Data], data: Data) -> Fit:
    return fit(
        target,
        measurements(rows),
        name="witness",
        source=f"whole steps of vLLM {data['vllm']}'s engine core, one core, {data['measured_on']}",
        software=f"vLLM {data['vllm']}",
    )


def measurements(rows: Sequence[Data]) -> list[Measurement]:
    """Read what was kept of timed steps."""
    found = []
    for row in rows:
        shape = row["shape"]
        chunks = tuple((chunk, past) for chunk, past in shape["chunks"])
        found.append(
            Measurement(
                Shape(tuple(shape["contexts"]), chunks), row["seconds"], row["repeats"],
                row["mean_s"],
            )
        )  # fmt: skip
    return found


def scenario_of(data: Data, calibration: Calibration) -> Scenario:
    """Return the server as a scenario."""
    engine = Engine(**data["engine"])
    settings = {
        **engine._asdict(),
        "version": ".".join(data["vllm"].split(".")[:2]),
        "dtype": "float32",
        "async_scheduling": False,  # vLLM has none on CPUs
        "enable_prefix_caching": engine.caching,
        "sampling": "greedy",
    }
    del settings["caching"]
    gpu = calibration.device
    assert gpu is not None
    config = EngineConfig.model_validate(settings)
    return build_scenario(spec(), gpu, ClusterConfig(gpu=gpu.name), config, calibration)


def host_of(data: Data, calibration: Calibration) -> HostTimes:
    """Fit what the server spends outside its steps."""
    price = scenario_of(data, calibration).pool.price

    def step_s(decodes: int, context: int, chunks: Sequence[tuple[int, int]]) -> float:
        return float(price.step_s(decodes, [decodes * context], chunks))

    def churn(times: HostTimes, phase: Data) -> tuple[float, float]:
        count, each = phase["requests"], phase["tokens"] // phase["requests"]
        rows = Drawn(np.arange(count), np.full(count, phase["prompt"]), np.full(count, each))
        scenario = scenario_of(data, with_host(calibration, times, (0.0, 0.0)))
        columns = simulate(scenario, rows.rows(0, phase["streams"], [])).requests
        first_s, last_s = columns["first_token_s"], columns["finish_s"]
        ttft_s, tpot_s = first_s - columns["sent_s"], (last_s - first_s) / (each - 1)
        return float(ttft_s.mean()), float(tpot_s.mean())

    return host_times(data["phases"], step_s, churn)


def with_host(
    calibration: Calibration, times: HostTimes, client_s: tuple[float, float]
) -> Calibration:
    """Return prices with what is spent outside of steps.

    Args:
        calibration: of steps alone.
        times: of the server.
        client_s: what the client, which shares a core with the server's loop, takes for a request
            and for a token.
    """
    request_s, output_s = client_s
    return calibration.model_copy(
        update={
            "step_overhead_s": calibration.step_overhead_s + times.step_s,
            "sequence_overhead_s": calibration.sequence_overhead_s + times.sequence_s,
            "chunk_overhead_s": calibration.chunk_overhead_s + times.engine_request_s,
            "api_request_s": times.busy_request_s + request_s,
            "api_token_s": times.token_s,
            "api_loop_request_s": times.loop_request_s + request_s,
            "api_loop_output_s": times.loop_output_s + output_s,
        }
    )


def fitted(data: Data) -> dict[str, Any]:
    """Return what follows from the measurements: ``prices``, ``host`` and ``client_s``."""
    calibration = calibration_of(data)
    times = host_of(data, calibration)
    of_client = client_s(data, times)
    prices = with_host(calibration, times, of_client)
    return {
        "prices": prices.model_dump(mode="json", exclude_none=True),
        "host": asdict(times),
        "client_s": of_client,
    }


def prices_of(data: Data) -> Calibration:
    """Return the prices of a server, and of the client that shares a core with it."""
    return Calibration.model_validate(data["prices"])


def client_s(data: Data, times: HostTimes) -> tuple[float, float]:
    """Seconds that the client takes for a request and for a token.

    Of the light client of a curve: what it spent. Of the bench client: its CPU time above that of
    its start, dealt to both in the ratio of the server's own.
    """
    if "points" in data:
        spent = sum(one["client_cpu_s"] for one in data["points"])
        return 0.0, float(spent / sum(one["tokens"] for one in data["points"]))
    ratio = times.loop_request_s / times.loop_output_s if times.loop_output_s else 0.0
    spent = requests = tokens = 0.0
    for run in data["runs"]:
        spent += run["client_cpu_s"] - data["client_start_s"]
        requests += run["count"]
        tokens += int(drawn(Traffic(**data["traffic"]), run["count"]).output.sum())
    output_s = max(0.0, spent) / (tokens + ratio * requests)
    return ratio * output_s, output_s


def capacity_per_s(data: Data) -> float:
    """Requests/s that the engine serves if all wait at once, with what it spends between steps."""
    calibration = calibration_of(data)
    prices = with_host(calibration, host_of(data, calibration), (0.0, 0.0))
    engine = prices.model_copy(update=dict.fromkeys(API, 0.0))
    requests = drawn(Traffic(**data["traffic"]), CAPACITY_REQUESTS)
    rows = requests.rows(data["traffic"]["prefix_tokens"], None, [0.0] * CAPACITY_REQUESTS)
    return capacity_of(scenario_of(data, engine), rows)


def simulated(data: Data, run: Data, prices: Calibration) -> Result:
    """Simulate a run: its requests, when its client sent them, or as streams became free."""
    requests = drawn(Traffic(**data["traffic"]), run["count"])
    rows = requests.rows(data["traffic"]["prefix_tokens"], run["streams"], run["sent_s"])
    return simulate(scenario_of(data, prices), rows)
