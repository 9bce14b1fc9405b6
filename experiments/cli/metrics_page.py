"""docs/metrics.md: every column of every table that a run leaves behind."""

from experiments.cli.markdown import table
from experiments.cli.study_schema import WRITTEN_BY
from experiments.reporting.stats import WITHOUT_INTERVAL
from experiments.running.pieces import MARKS
from experiments.running.pool_tables import POOL_COLUMNS
from sim.measuring.latencies import LATENCIES
from sim.measuring.metrics import ALL_METRICS, POOL_SHARES
from sim.measuring.replica_use import REPLICA_USE
from sim.measuring.routing_metrics import REPLICAS
from sim.measuring.transfer_use import TRANSFER_METRICS
from sim.recording.handovers import HANDOVER_COLUMNS
from sim.recording.result import CLAIM_COLUMNS, REQUEST_COLUMNS, SEGMENT_COLUMNS, SESSION_COLUMNS


def metrics_page() -> str:
    """Return the page."""
    parts = [
        "# Metrics and columns",
        f"<!-- {WRITTEN_BY} -->",
        "Times are in seconds and shares are within 0 to 1, in every file. Only the terminal and "
        "the report show milliseconds and percent.",
        *_points_and_runs(),
        *_metrics(),
        *_requests(),
        *_pools_and_segments(),
    ]
    return "\n\n".join(parts) + "\n"


def _points_and_runs() -> list[str]:
    """summary.csv and runs.csv."""
    return [
        "## summary.csv",
        "One row per point: `point` (from 1), the swept keys, `seeds`, then every metric. "
        "Percentiles are those of all measured requests of all seeds together, everything else is "
        "a mean over seeds; rates of steady traffic that a point can hold are corrected for the "
        "luck of its arrivals. A metric is followed by `<metric>_lo` and `<metric>_hi`, the ends "
        "of its 95% interval: Wilson's for shares (within 0 to 1), symmetric on a log scale for "
        "all others (above 0), each with Student's t over seeds. Both are empty when there is no "
        "interval (equal values but for `slo_attainment`, one that is not finite, a percentile "
        "that rests on fewer than 10 independent requests of the tail, one seed of everything but "
        "percentiles). `capacity_per_s` is what a short overload run shows that the point can "
        "serve, `load` the rate over it, `design_effect` how much the variance of TTFT's tail "
        "exceeds that of independent requests at that load, `relaxation_requests` and "
        "`relaxation_s` after how many requests and seconds a queue forgets how it was (all empty "
        "for traces, days, users and points that are saturated): see "
        "[statistics.md](statistics.md). "
        "No interval belongs to "
        f"{', '.join(f'`{name}`' for name in WITHOUT_INTERVAL)}. The last column, `notes`, holds "
        "what a reader must know of the point.",
        "## runs.csv",
        "One row per point and seed: `point`, the swept keys, `seed`, then every metric. A study "
        "with `calibration_draws` has one row per point, draw and seed, and a column `draw` here "
        "and in requests.parquet, `draws` in summary.csv.",
    ]


def _metrics() -> list[str]:
    """What is measured."""
    latencies = [name for name in ALL_METRICS if name.rsplit("_", 2)[0] in LATENCIES]
    return [
        "## Metrics",
        table(
            ("metric", "meaning"),
            [(f"`{name}`", text) for name, text in ALL_METRICS.items() if name not in latencies],
        ),
        "### Latencies",
        "Latencies are those of the requests that arrived after the warm-up. Rejected requests "
        "have none. An unfinished one has an infinite E2E and TPOT, so a percentile that reaches "
        "it is infinite.",
        table(
            ("latency", "meaning", "metrics"),
            [
                (
                    "queueing" if name == "queue" else name.upper(),
                    meaning,
                    " ".join(f"`{m}`" for m in latencies if m.startswith(f"{name}_")),
                )
                for name, meaning in LATENCIES.items()
            ],
        ),
    ]


def _requests() -> list[str]:
    """requests.parquet."""
    return [
        "## requests.parquet",
        "One row per request per run.",
        table(
            ("column", "meaning"),
            [
                ("`point`", "point of the sweep, from 1"),
                ("`seed`", "seed of the run"),
                ("swept keys", "their values at the point, a column each"),
                *((f"`{name}`", text) for name, text in (REQUEST_COLUMNS | MARKS).items()),
            ],
        ),
        "With `workload.sessions` at some point, these stand before `measured`; a request that "
        "stands alone has -1 in them.",
        table(
            ("column", "meaning"),
            [(f"`{name}`", text) for name, text in SESSION_COLUMNS.items()],
        ),
        "With a router that looks at caches at some point, these come next.",
        table(
            ("column", "meaning"),
            [(f"`{name}`", text) for name, text in CLAIM_COLUMNS.items()],
        ),
        "With pools that prefill for others ([disaggregation.md](disaggregation.md)) at some "
        "point, these stand before `measured` as well; times are NaN for a request that one "
        "replica served alone.",
        table(
            ("column", "meaning"),
            [(f"`{name}`", text) for name, text in HANDOVER_COLUMNS.items()],
        ),
        "A study with `cluster.pools` has a column `pool` behind `replica`, the pool's name.",
    ]


def _pools_and_segments() -> list[str]:
    """pools.csv, and what is not written."""
    return [
        "## pools.csv",
        "Where a study has `cluster.pools`: one row per point and pool, with every metric of its "
        "own replicas and of the requests that were sent to them, over the window of the whole "
        "run, estimated over the seeds as in summary.csv. `point`, the swept keys, then",
        table(
            ("column", "meaning"),
            [
                *((f"`{name}`", text) for name, text in POOL_COLUMNS.items()),
                *((f"`{name}`", text) for name, text in POOL_SHARES.items()),
            ],
        ),
        "Where pools prefill for others, then",
        table(
            ("column", "meaning"),
            [(f"`{name}`", text) for name, text in TRANSFER_METRICS.items()],
        ),
        "## replicas.csv",
        "Where there are several replicas: one row per run and replica. `point`, the swept keys, "
        "`seed`, `replica` (from 0), `pool` (its name, if it has one), then",
        table(
            ("column", "meaning"),
            [(f"`{name}`", text) for name, text in (REPLICAS | REPLICA_USE).items()],
        ),
        "## Segments",
        "From Python, `sim.simulation.simulate` returns the same requests and, in `segments`, one "
        "row per run of equal steps. They are not written to disk.",
        table(
            ("column", "meaning"),
            [(f"`{name}`", text) for name, text in SEGMENT_COLUMNS.items()],
        ),
    ]
