"""``kind: plan``: the study file."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from experiments.planning.lengths import FEWEST
from experiments.study.document import Study
from sim.measuring.slo import WINDOW_S, Slo

Usd = Annotated[float, Field(gt=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=64)]
Share = Annotated[float, Field(gt=0, le=0.5)]
Contract = Literal["on_demand", "reserved", "own"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class Prices(_Section):
    """What one GPU costs by the hour, by contract."""

    on_demand: Usd | None = None
    """Rented by the hour, USD."""
    reserved: Usd | None = None
    """Rented for a year or longer, USD per hour of it."""
    own: Usd | None = None
    """Bought: depreciation, power, room and people, USD per hour."""


class Risk(_Section):
    """What may go wrong, and how sure the plan has to be."""

    share: Share = 0.01
    """Of steady traffic: the largest probability that it is more than the deployment holds. Of
    traffic with a clock: the largest share of the windows (slo.window_s) that miss it, and the
    probability that growth is more than what is simulated."""
    confidence: float = Field(default=0.95, ge=0.5, le=0.999)
    """Of each verdict that a deployment keeps the slo, or does not."""


class Failures(_Section):
    """How often a replica fails, and how long it is away; all its GPUs with it."""

    mtbf_h: float = Field(gt=0, le=1e7)
    """Mean time between two failures of one replica, hours."""
    repair_h: float = Field(default=24.0, ge=0, le=1e5)
    """Mean time until another one can start, hours."""
    restart_s: float = Field(default=300.0, ge=0, le=1e6)
    """Until it serves, seconds: the weights are loaded, CUDA graphs captured."""

    @property
    def availability(self) -> float:
        """Share of the time that a replica serves."""
        return self.mtbf_h / (self.mtbf_h + self.repair_h + self.restart_s / 3600)


class PlanStudy(Study):
    """The cheapest deployment that keeps an SLO at a risk."""

    kind: Literal["plan"]  # type: ignore[assignment]
    """A search for the cheapest deployment that keeps the SLO at a risk."""
    slo: Slo
    """What has to be kept."""
    candidates: dict[str, list[Any]] | list[dict[str, Any]]
    """What may be bought: dotted keys of model, cluster, engine and calibration with lists of
    values (every combination), or a list of deployments. The number of replicas is solved for."""
    also: list[dict[str, Any]] = Field(default_factory=list)
    """Deployments beside the combinations of candidates."""
    ratios: Annotated[int, Field(ge=2, le=8)] | list[list[Count]] | None = None
    """Of candidates with several pools: how many replicas of each to so many of the others. A
    number tries every ratio of up to so many of each pool (3: 1:1, 1:2, 2:1, 1:3, 3:1, 2:3, 3:2), a
    list those in it, e.g. [[1, 2], [2, 3]]. Default: the replicas that a candidate's pools have."""
    growth: float = Field(default=1.0, gt=0, le=1e3)
    """So many times the traffic of the workload is planned for."""
    growth_cv: float = Field(default=0.0, ge=0, le=1)
    """How uncertain that is: standard deviation of its logarithm. The plan holds the traffic that
    is exceeded with the probability risk.share."""
    model_error_cv: float = Field(default=0.0, ge=0, le=0.5)
    """How far highest rates of servers are from simulated ones, beyond what calibration_draws
    tell: a standard deviation of the logarithm, e.g. 0.05."""
    risk: Risk = Risk()
    """What may go wrong."""
    failures: Failures | None = None
    """How often replicas are away. Default: the plan says whether one may be, and counts none."""
    prices: dict[str, Usd | Prices] = Field(default_factory=dict)
    """USD per hour of one GPU, by its name: a number, or one per contract; of GPUs that a candidate
    has. Default: cluster.gpu_usd_per_hour, or the catalogue's price, which is one on demand."""
    contract: Contract = "on_demand"
    """Which of a GPU's prices is paid."""
    runners_up: int = Field(default=2, ge=0, le=20)
    """So many other kinds of deployment (model, GPU, tensor-parallel size) are solved as well."""
    sensitivity: dict[str, list[int | float]] = Field(default_factory=dict)
    """Dotted keys with other values, of which the change of the highest rate is told. The lengths
    of prompts and outputs, 10% more and less, always are."""
    run_requests: int = Field(default=FEWEST, ge=500, le=10**8)
    """Requests of one run of steady traffic, at least."""
    most_replicas: int = Field(default=2048, gt=0, le=100_000)
    """Most replicas of one deployment."""


def window_s_of(slo: Slo) -> float:
    """Return the length of the windows of traffic with a clock, seconds."""
    return slo.window_s or WINDOW_S


OWN = tuple(name for name in PlanStudy.model_fields if name not in Study.model_fields)
"""Keys that a study of serving does not have."""
