"""When requests arrive: point processes, and the closed loop that has none.

Every open process draws one sequence of unit-exponential gaps first and bends it into shape. Two
rates, or two processes, with the same seed therefore see the same luck (common random numbers),
and a longer sample begins with the shorter one.

Not covered: correlated renewal gaps.
"""

import math
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from workloads.config import LATEST_S, Config, Count, NonNegative, Positive, Seconds, Variation
from workloads.modulated import CHUNK, inverted, modulated_times, unit_times
from workloads.requests import Floats
from workloads.thinking import ThinkLaw, think_times_s

_DAY_S = 86400.0


Hour = Annotated[float, Field(ge=0, lt=24)]
"""Time of the day, hours from midnight."""


class Process(Config):
    """What all open processes share: their times are numbers, or an error."""

    pace: ClassVar[tuple[str, ...]] = ()
    """The keys that stretch time."""

    def times_s(self, count: int, rng: np.random.Generator) -> Floats:
        """Return ``count`` sorted arrival times in seconds, from the start of the workload.

        Raises:
            ValueError: rates so low, or periods so long, that a time is beyond ``LATEST_S``; or
                more changes of state than can be drawn.
        """
        with np.errstate(all="ignore"):  # what overflows here is found below
            times = self._draw_s(count, rng)
        if not (times <= LATEST_S).all():
            raise self._beyond()
        return times

    @abstractmethod
    def _draw_s(self, count: int, rng: np.random.Generator) -> Floats:
        """Draw the times, whether finite or not."""

    def _beyond(self) -> ValueError:
        given = ", ".join(f"{key}(={_plain(getattr(self, key))})" for key in self.pace)
        return ValueError(
            f"{given} of process {getattr(self, 'process', '')} gives arrival times beyond "
            f"{LATEST_S:g} s, expected rates and periods that occur in practice"
        )


class Poisson(Process):
    """Independent users: exponential gaps."""

    process: Literal["poisson"] = "poisson"
    rate_per_s: Positive
    """Requests per second."""
    is_random: ClassVar[bool] = True
    pace = ("rate_per_s",)

    def _draw_s(self, count: int, rng: np.random.Generator) -> Floats:
        return unit_times(count, rng) / self.rate_per_s


class Gamma(Process):
    """Independent gamma gaps: burstier than Poisson for ``cv`` > 1, smoother for ``cv`` < 1.

    Shape 1/cv^2 and mean 1/rate. At ``cv`` 1 the law is Poisson's (the sample is another).
    """

    process: Literal["gamma"] = "gamma"
    rate_per_s: Positive
    """Requests per second."""
    cv: Variation
    """Coefficient of variation of the gaps: standard deviation over mean."""
    is_random: ClassVar[bool] = True
    pace = ("rate_per_s", "cv")

    def _draw_s(self, count: int, rng: np.random.Generator) -> Floats:
        try:
            shape = self.cv**-2
        except OverflowError:
            raise self._beyond() from None
        return np.cumsum(rng.standard_gamma(shape, count)) / (shape * self.rate_per_s)


class Deterministic(Process):
    """A metronome: request i (from 1) arrives at i / rate."""

    process: Literal["deterministic"] = "deterministic"
    rate_per_s: Positive
    """Requests per second."""
    is_random: ClassVar[bool] = False
    pace = ("rate_per_s",)

    def _draw_s(self, count: int, rng: np.random.Generator) -> Floats:
        return np.arange(1, count + 1) / self.rate_per_s


class AllAtOnce(Process):
    """Everything arrives at time 0: offline batch inference."""

    process: Literal["all_at_once"] = "all_at_once"
    is_random: ClassVar[bool] = False

    def _draw_s(self, count: int, rng: np.random.Generator) -> Floats:
        return np.zeros(count)


class OnOff(Process):
    """Poisson bursts: exponential on and off periods (interrupted Poisson when off is silent).

    Stationary from time 0: on with probability mean_on / (mean_on + mean_off).
    """

    process: Literal["on_off"] = "on_off"
    rate_on_per_s: Positive
    """Requests per second while on."""
    rate_off_per_s: NonNegative = 0.0
    """Requests per second while off."""
    mean_on_s: Seconds
    """Mean length of an on period, seconds."""
    mean_off_s: Seconds
    """Mean length of an off period, seconds."""
    is_random: ClassVar[bool] = True
    pace = ("rate_on_per_s", "rate_off_per_s", "mean_on_s", "mean_off_s")

    def _draw_s(self, count: int, rng: np.random.Generator) -> Floats:
        rates = (self.rate_on_per_s, self.rate_off_per_s)
        return modulated_times(count, rng, rates, (self.mean_on_s, self.mean_off_s))


class Markov(Process):
    """Markov-modulated Poisson: the rate jumps between states after exponential dwells.

    The next state is any other, each equally likely. Stationary from time 0: a state is first
    with probability proportional to its mean dwell.
    """

    process: Literal["markov"] = "markov"
    rates_per_s: Annotated[tuple[NonNegative, ...], Field(min_length=2)]
    """Requests per second in each state."""
    mean_dwell_s: Annotated[tuple[Seconds, ...], Field(min_length=2)]
    """Mean time spent in each state, seconds."""
    is_random: ClassVar[bool] = True
    pace = ("rates_per_s", "mean_dwell_s")

    @model_validator(mode="after")
    def _check(self) -> Self:
        rates, dwells = self.rates_per_s, self.mean_dwell_s
        if len(rates) != len(dwells):
            raise ValueError(
                f"mean_dwell_s has {len(dwells)} states, expected {len(rates)} as in rates_per_s"
            )
        if max(rates) == 0:
            raise ValueError(f"rates_per_s(={list(rates)}) must hold one rate > 0")
        return self

    def _draw_s(self, count: int, rng: np.random.Generator) -> Floats:
        return modulated_times(count, rng, self.rates_per_s, self.mean_dwell_s)


class Step(Config):
    """One stretch of constant rate."""

    duration_s: Seconds
    """Length of the stretch, seconds."""
    rate_per_s: NonNegative
    """Requests per second."""


class Piecewise(Process):
    """Poisson arrivals with a rate that is constant on stretches: ramps, spikes, pauses.

    Exact, by inversion of the cumulative rate. After the last step its rate goes on for ever,
    unless ``repeat``.
    """

    process: Literal["piecewise"] = "piecewise"
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    """The stretches in order, from time 0."""
    repeat: bool = False
    """Begin again with the first step after the last."""
    is_random: ClassVar[bool] = True
    pace = ("steps",)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.repeat and all(step.rate_per_s == 0 for step in self.steps):
            raise ValueError("steps must hold one rate_per_s > 0")
        if not self.repeat and self.steps[-1].rate_per_s == 0:
            raise ValueError(
                "rate_per_s(=0) of the last step must be > 0, as it goes on for ever; "
                "or set repeat: true"
            )
        return self

    def _draw_s(self, count: int, rng: np.random.Generator) -> Floats:
        unit = unit_times(count, rng)
        durations = np.array([step.duration_s for step in self.steps])
        rates = np.array([step.rate_per_s for step in self.steps])
        if not self.repeat:
            return np.maximum.accumulate(inverted(unit, durations, rates))
        laps, rest = np.divmod(unit, np.cumsum(durations * rates)[-1])
        times = laps * np.cumsum(durations)[-1] + inverted(rest, durations, rates)
        return np.maximum.accumulate(times)


class Diurnal(Process):
    """Poisson arrivals whose rate follows the day: mean (1 + a cos(2 pi (t - peak) / period)).

    The amplitude ``a`` is (r - 1) / (r + 1) for a peak-to-trough ratio r. The run begins at
    ``start_hour`` of the users' clock, midnight by default, and the rate is highest at
    ``peak_hour``. Its default is where production traffic peaks: in the two weeks of m-small, the
    busiest of the services published with ServeGen (Xiang et al., "ServeGen: Workload
    Characterization and Generation of Large Language Model Serving in Production",
    arXiv:2505.09999; github.com/alibaba/ServeGen), the wave of one day is highest at 17.3 h and
    lowest at 5.3 h, with a ratio of 1.6; the hours themselves range from 0.66 times the mean at 5 h
    to 1.46 times at 20 h. Exact, by thinning a Poisson process of the peak rate (Lewis and Shedler,
    1979, algorithm 1).
    """

    process: Literal["diurnal"] = "diurnal"
    mean_rate_per_s: Positive
    """Requests per second, averaged over a period."""
    peak_to_trough: Annotated[float, Field(ge=1, le=1e6)]
    """Highest rate over lowest rate."""
    period_s: Seconds = _DAY_S
    """Length of a day, seconds; its 24 hours are as much shorter as it is."""
    peak_hour: Hour = 17.0
    """Hour of the day at which the rate is highest; it is lowest 12 hours before and after."""
    start_hour: Hour = 0.0
    """Hour of the day at which the run begins."""
    is_random: ClassVar[bool] = True
    pace = ("mean_rate_per_s", "period_s")

    def rate_per_s(self, times_s: Floats) -> Floats:
        """Return the rate at each of ``times_s`` from the start: its shape, requests per second."""
        swing = (self.peak_to_trough - 1) / (self.peak_to_trough + 1)
        rate: Floats = self.mean_rate_per_s * (1 + swing * np.cos(self._phase(times_s)))
        return rate

    def _phase(self, times_s: Floats) -> Floats:
        """Angle since the last peak, radians."""
        since_peak = times_s / self.period_s - (self.peak_hour - self.start_hour) / 24
        angle: Floats = 2 * math.pi * since_peak
        return angle

    def _draw_s(self, count: int, rng: np.random.Generator) -> Floats:
        highest_per_s = 2 * self.mean_rate_per_s / (1 + 1 / self.peak_to_trough)
        coin = rng.spawn(1)[0]
        now_s, kept, found = 0.0, [np.empty(0)], 0
        while found < count:
            times = now_s + np.cumsum(rng.standard_exponential(CHUNK)) / highest_per_s
            if not np.isfinite(self._phase(times)).all():  # it would be rejected for ever
                raise self._beyond()
            accept = self.rate_per_s(times) / highest_per_s
            kept.append(times[coin.random(CHUNK) < accept])
            found += len(kept[-1])
            now_s = float(times[-1])
        return np.concatenate(kept)[:count]


class ClosedLoop(Config):
    """N users who wait for their answer, think, and ask again; they all begin to think at 0.

    Arrivals follow from how fast the system answers, so there are none to draw beforehand. With
    ``workload.sessions`` a user has one session after the other.
    """

    process: Literal["closed_loop"] = "closed_loop"
    users: Count
    """How many users, so the largest number of requests in the system."""
    think_s: NonNegative = 0.0
    """Mean time between an answer and the user's next request, seconds."""
    think_law: ThinkLaw = "exponential"
    """How think times vary about their mean. Users who think equally long (constant) go on coming
    together, as they have begun together."""

    @property
    def is_random(self) -> bool:
        """Whether think times depend on the seed."""
        return self.think_law == "exponential" and self.think_s > 0

    def think_times_s(self, count: int, rng: np.random.Generator) -> Floats:
        """Return think times in seconds, one before each request: shape (count,)."""
        return think_times_s(self.think_s, self.think_law, count, rng)


OpenArrivals = Poisson | Gamma | Deterministic | AllAtOnce | OnOff | Markov | Piecewise | Diurnal
Arrivals = Annotated[OpenArrivals | ClosedLoop, Field(discriminator="process")]


def _plain(value: object) -> str:
    """Write a number, or several, as in a study."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Step):
        return f"{{duration_s: {value.duration_s:g}, rate_per_s: {value.rate_per_s:g}}}"
    assert isinstance(value, tuple)
    return f"[{', '.join(map(_plain, value))}]"
