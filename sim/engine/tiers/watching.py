"""What becomes of blocks that a request still wants to offer, and that its window leaves behind.

    an offer is refused    [c0] [c1] [c2]     no room in the host: it is tried again
    the window moves on     .    .   [c2]     c0 and c1 are free on the GPU, and still there
    somebody takes c0       x    .   [c2]     it can no longer be copied: c1 and c2 are offered

The same of the last chunk of one that has ended, which is offered when the next step was planned.
As ``OffloadingConnectorScheduler._update_req_states`` of vLLM, which forgets a block of a window as
soon as it is given out anew, also to somebody who has found it.
"""

from sim.engine.caches.block_tables import Table, runs_of
from sim.engine.caches.runs import Run


def watch(tables: list[Table], windows: list[int]) -> None:
    """Note of these groups what they give back from now on."""
    for number in windows:
        tables[number].be_watched()


def is_there(table: Table, block: int, others: list[Table]) -> bool:
    """Whether a block that a table gave back was not given out since.

    Args:
        table: was watched then.
        block: of its text.
        others: the same group's, of those who look for blocks in this step.
    """
    for run in table.left:
        if run.first <= block < run.end:
            if run.holders:
                return not found(run, block, others)
            if run.after is not None:
                return True
    return False


def found(own: Run | None, block: int, others: list[Table]) -> bool:
    """Whether somebody of those found a block in a run that somebody has or had."""
    if own is None:
        return False
    return own in [run_at(other, block) for other in others if block < other.hit]


def run_at(table: Table, block: int) -> Run | None:
    """The run of a table that has a block; None: that block has no name."""
    for run in runs_of(table):
        if run.first <= block < run.end:
            return run
    return None
