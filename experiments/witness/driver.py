"""vLLM's own scheduler and KV cache manager, for whoever asks.

    python -m experiments.witness.driver MODEL_FOLDER < scenarios > outcomes

Runs inside an environment that has vLLM, and needs nothing else but the standard library. It says
first what this release lacks; then one scenario per line of JSON comes in, one outcome per line
goes out (``experiments.witness.scenario`` says what they hold).
"""

import json
import sys

from experiments.witness import v0
from experiments.witness.stepwise import Run
from experiments.witness.vllm_objects import Config, lacking


def main() -> None:
    """Answer every line."""
    config = Config(sys.argv[1])
    print(json.dumps({"lacks": lacking() + v0.lacking()}), flush=True)
    for line in sys.stdin:
        scenario = json.loads(line)
        of_v0 = scenario["scheduler"] == "prefill_first"
        if scenario.get("handover"):
            from experiments.witness.pair import Pair  # releases that have it

            outcome = Pair(scenario, config).serve()
        elif scenario.get("stages"):
            from experiments.witness.staged import Staged

            outcome = Staged(scenario, config.scheduler(scenario)).serve()
        else:
            engine = v0.Scheduler(scenario) if of_v0 else config.scheduler(scenario)
            outcome = Run(scenario, engine).serve()
        print(json.dumps({"id": scenario["id"], **outcome}), flush=True)


if __name__ == "__main__":
    main()
