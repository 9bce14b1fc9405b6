"""A request that is alone."""

from sim.engine.stages.pipelined_prefill import PipelinedBatch
from sim.pipelined import stages_of_pool
from sim.settings.pools import Pool


def lone_steps_s(pool: Pool, prompt_tokens: int) -> float:
    """Return the time of the steps that compute a prompt, chunk by chunk.

    Through pipeline stages chunks follow each other without waiting for what the last stage makes.
    """
    most = pool.token_budget
    if pool.engine.scheduler != "chunked_prefill":
        most = max(most, prompt_tokens)
    chunks = [(min(most, prompt_tokens - past), past) for past in range(0, prompt_tokens, most)]
    classes = len(pool.price.windows)
    if pool.pipeline is None:
        none = [0] * classes
        return float(sum(pool.price.step_s(0, none, (chunk,)) for chunk in chunks))
    stages, end_s = stages_of_pool(pool, pool.pipeline), 0.0
    for chunk in chunks:
        batch = PipelinedBatch(classes)
        batch.chunks = [chunk]
        stages.compute(batch, 0.0)
        end_s = batch.end_s
    return end_s
