"""What a measured server is predicted to do: the same requests, simulated with its own prices."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from experiments.calibrating.decoder_vs_simulation import capacity_per_s as capacity_of
from experiments.calibrating.fit import Fit, Target, fit, pooled
from experiments.calibrating.measure import Measurement, Shape
from experiments.witness.served.host import HostTimes, host_times
from experiments.witness.served.setting import CONFIG, Drawn, Engine, Traffic, drawn
from hardware.calibration import Calibration
from hardware.gpu import Gpu
from model.from_config import spec_from_config
from model.precision import precision
from model.spec import DecoderSpec
from sim.recording.result import Result
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.scenario import API_TIMES, Scenario, build_scenario
from sim.simulation import simulate

Data = Mapping[str, Any]
API = tuple(f"api_{name}" for name in API_TIMES)
"""Of a calibration: times of the API server."""
CAPACITY_REQUESTS = 400
CURVE_PROMPT = 16
"""Tokens of every prompt of a curve."""
MOST_BUSY = 0.95
"""A core that is busier is a queue that grows: what waits is no longer told by its load."""


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


def scenario_of(data: Data, calibration: Calibration, shared: bool = False) -> Scenario:
    """Return the server as a scenario; ``shared``: its API process reads and sends in one loop."""
    engine = Engine(**data["engine"])
    settings = {
        **engine._asdict(),
        "version": ".".join(data["vllm"].split(".")[:2]),
        "dtype": "float32",
        "async_scheduling": False,  # vLLM has none on CPUs
        "enable_prefix_caching": engine.caching,
        "sampling": "greedy",
        "api_shared_loop": shared,
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
        """Return seconds of one step; ``context`` tokens behind each decode."""
        return float(price.step_s(decodes, [decodes * context], chunks))

    def churn(times: HostTimes, phase: Data) -> float:
        """Return the mean TPOT of a phase of streams that follow each other, seconds."""
        count, each = phase["requests"], phase["tokens"] // phase["requests"]
        rows = Drawn(np.arange(count), np.full(count, phase["prompt"]), np.full(count, each))
        scenario = scenario_of(data, with_host(calibration, times, of_light(times)))
        columns = simulate(scenario, rows.rows(0, phase["streams"], [])).requests
        tpot_s = (columns["finish_s"] - columns["first_token_s"]) / (each - 1)
        return float(tpot_s.mean())

    points = [
        {"requests": one["streams"], "prompt": CURVE_PROMPT, **one}
        for one in data.get("points", ())
        if not one["again"]
    ]
    return host_times(data["phases"], step_s, churn, points)


class Front(NamedTuple):
    """The core that the API server's loop shares with its client: seconds that both take."""

    way_in_s: float
    """Of a request alone, to the scheduler and back with its first token,"""
    request_s: float
    """of which both are busy so long with it;"""
    prompt_token_s: float
    step_s: float
    output_s: float

    def busy_s(self, result: Result) -> float:
        """All that they do in a run."""
        columns = result.requests
        steps = int(np.asarray(result.segments["steps"]).sum())
        return float(
            self.request_s * len(columns["sent_s"])
            + self.prompt_token_s * columns["prompt_tokens"].sum()
            + self.step_s * steps
            + self.output_s * columns["output_tokens"].sum()
        )


def of_light(times: HostTimes) -> Front:
    """With the light client, which takes next to nothing."""
    return Front(
        times.request_s, times.loop_request_s, times.loop_token_s, times.loop_step_s,
        times.loop_output_s,
    )  # fmt: skip


def front_of(data: Data, calibration: Calibration, times: HostTimes) -> Front:
    """With the client that drove the server.

    The light client of a curve: what it spent for a token. The bench client: its CPU time above
    that of its start, dealt to requests and tokens in the ratio of the server's own; its way in is
    what its requests had when they were alone, above what the engine takes for them.
    """
    light = of_light(times)
    if "points" in data:
        spent_s = sum(one["client_cpu_s"] for one in data["points"])
        tokens = sum(one["tokens"] for one in data["points"])
        return light._replace(output_s=light.output_s + spent_s / tokens)
    traffic, alone = Traffic(**data["traffic"]), data["alone"]
    ratio = times.loop_request_s / times.loop_output_s if times.loop_output_s else 0.0
    spent_s = sum(run["client_cpu_s"] - data["client_start_s"] for run in data["runs"])
    counts = [run["count"] for run in data["runs"]]
    tokens = sum(int(drawn(traffic, count).output.sum()) for count in counts)
    output_s = max(0.0, spent_s) / (tokens + ratio * sum(counts))
    requests = drawn(traffic, alone["count"])
    engine = with_host(calibration, times, light)
    engine = engine.model_copy(update=dict.fromkeys(API, 0.0))
    rows = requests.rows(traffic.prefix_tokens, 1, [])
    columns = simulate(scenario_of(data, engine), rows).requests
    beyond_s = np.array(alone["ttft_s"]) - (columns["first_token_s"] - columns["sent_s"])
    way_in_s = float(np.median(beyond_s)) - times.token_s * float(requests.prompt.mean())
    return light._replace(
        way_in_s=max(0.0, way_in_s),  # below it where steps were timed while others had the core
        request_s=light.request_s + ratio * output_s,
        output_s=light.output_s + output_s,
    )


def with_host(calibration: Calibration, times: HostTimes, front: Front) -> Calibration:
    """Return prices of steps with what is spent outside of them."""
    return calibration.model_copy(
        update={
            "step_overhead_s": calibration.step_overhead_s + times.step_s,
            "sequence_overhead_s": calibration.sequence_overhead_s + times.sequence_s,
            "chunk_overhead_s": calibration.chunk_overhead_s + times.engine_request_s,
            "api_request_s": front.way_in_s,
            "api_token_s": times.token_s,
            "api_loop_request_s": front.request_s,
            "api_loop_output_s": front.output_s,
        }
    )


def shared(scenario: Callable[[Calibration], Result], prices: Calibration, front: Front) -> Result:
    """Simulate a run whose client and server share a core.

    Each waits for the other: as jobs that share a processor, a request's work on it takes 1 / (1 -
    rho) times as long (processor sharing, whatever the distribution of work), where rho is the
    share of time in which the core is busy. A first simulation says how much there is to do.
    """
    first = scenario(prices)
    lasted_s = float(first.requests["finish_s"].max() - first.requests["sent_s"].min())
    rho = min(front.busy_s(first) / lasted_s, MOST_BUSY)
    once_s = front.request_s + front.step_s + front.output_s
    way_in_s = prices.api_request_s + once_s * rho / (1.0 - rho)
    return scenario(prices.model_copy(update={"api_request_s": way_in_s}))


def fitted(data: Data) -> dict[str, Any]:
    """Return what follows from the measurements: ``prices``, ``host`` and ``front``."""
    calibration = calibration_of(data)
    times = host_of(data, calibration)
    front = front_of(data, calibration, times)
    prices = with_host(calibration, times, front)
    return {
        "prices": prices.model_dump(mode="json", exclude_none=True),
        "host": asdict(times),
        "front": front._asdict(),
    }


def prices_of(data: Data) -> Calibration:
    """Return the prices of a server, and of the client that shares a core with it."""
    return Calibration.model_validate(data["prices"])


def capacity_per_s(data: Data) -> float:
    """Requests/s that the engine serves if all wait at once, with what it spends between steps."""
    calibration = calibration_of(data)
    times = host_of(data, calibration)
    prices = with_host(calibration, times, of_light(times))
    engine = prices.model_copy(update=dict.fromkeys(API, 0.0))
    requests = drawn(Traffic(**data["traffic"]), CAPACITY_REQUESTS)
    rows = requests.rows(data["traffic"]["prefix_tokens"], None, [0.0] * CAPACITY_REQUESTS)
    return capacity_of(scenario_of(data, engine), rows)


def simulated(data: Data, run: Data) -> Result:
    """Simulate a run: its requests, when its client sent them, or as streams became free."""
    requests = drawn(Traffic(**data["traffic"]), run["count"])
    rows = requests.rows(data["traffic"]["prefix_tokens"], run["streams"], run["sent_s"])

    def with_prices(prices: Calibration) -> Result:
        return simulate(scenario_of(data, prices), rows)

    return shared(with_prices, prices_of(data), Front(**data["front"]))
