"""Whether the runs of blocks that requests hold, those in the queue and those with names agree."""

from sim.engine.caches.block_tables import Table, runs_of
from sim.engine.caches.runs import ANONYMOUS, Run
from sim.engine.caches.texts import Texts


def check_runs(tables: list[Table], free: list[Run], texts: Texts) -> None:
    """Compare holders and names with what tables hold, run by run.

    Args:
        tables: of everybody who runs.
        free: runs in the queue.
        texts: where blocks with names are.

    Raises:
        AssertionError: names what disagrees.
    """
    holders: dict[Run, int] = {}
    for table in tables:
        for run in runs_of(table):
            holders[run] = holders.get(run, 0) + 1
    for run, requests in holders.items():
        if run.holders != requests or run.after is not None:
            raise AssertionError(
                f"stream {run.stream} from block {run.first} on counts {run.holders} holders, "
                f"{requests} requests hold it"
            )
    named = {run for run in free if run.stream != ANONYMOUS and not run.loose}
    known = texts.everyone()
    if known != named | set(holders):
        raise AssertionError(
            f"{len(known)} runs can be found, {len(named)} free and {len(holders)} held ones "
            "have a name: expected the same runs"
        )
