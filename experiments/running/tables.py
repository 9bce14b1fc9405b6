"""The tables of a study whose runs have all ended, and their files."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.reporting.records import Records
from experiments.running import assemble
from experiments.running.lengths import Lengths
from experiments.running.pool_tables import has_pools, noted, pools_table
from experiments.running.pooling import loaded_points, loads_of
from experiments.running.reasons import reasons
from experiments.running.replica_tables import replicas_table
from experiments.running.sweep import Run
from experiments.running.workers import shared_by


class Tables(NamedTuple):
    """What is known of a study once its runs have ended."""

    runs: Records
    """One row per run."""
    summary: Records
    """One row per point."""
    differences: Records
    """Of each point from its baseline; empty without another point."""
    parts: Records
    """Where TTFT and E2E go, and what binds."""
    pools: Records | None
    """One row per point and pool; None where no pool has a name."""
    replicas: Records
    """One row per run and replica; empty where no point has several."""


def written_tables(lengths: Lengths, runs: Sequence[Run], folder: Path, jobs: int) -> Tables:
    """Make every table, and write its file into ``folder``; up to ``jobs`` processes help."""
    from experiments.reporting.differences import differences_table
    from experiments.reporting.formats import long_table

    plan = lengths.plan
    table = assemble.runs_table(plan, runs)
    spread = shared_by(jobs)
    loads = lengths.loads or loads_of(loaded_points(plan, table), spread)
    summary = assemble.summary_table(plan, table, runs, loads, lengths.asked)
    pools = None
    if has_pools(plan):
        pools = pools_table(plan, runs)
        summary = noted(summary, pools)
        assemble.write_csv(pools, folder / "pools.csv")
    replicas = replicas_table(plan, runs)
    if len(replicas):
        assemble.write_csv(replicas, folder / "replicas.csv")
    parts, bound, hopeless = reasons(runs, spread)
    told = [
        "; ".join(filter(None, (notes, *hopeless.get(number, ()))))
        for number, notes in zip(summary["point"], summary["notes"], strict=True)
    ]
    summary = summary.having(notes=told)
    assemble.write_csv(parts, folder / "decomposition.csv")
    assemble.write_csv(bound, folder / "binding.csv")
    differences = differences_table(table, summary, plan.keys, plan.baselines)
    if len(differences):
        assemble.write_csv(differences, folder / "differences.csv")
    assemble.write_csv(table, folder / "runs.csv")
    assemble.write_csv(long_table(summary, ["point", *plan.keys]), folder / "summary_long.csv")
    assemble.write_csv(summary, folder / "summary.csv")
    assemble.write_study(plan, folder / "study.yaml")
    return Tables(table, summary, differences, parts, pools, replicas)
