"""vLLM's CPU worker, mended for seeds.

When a step leaves a prompt unfinished, vLLM 0.32 samples a token for it nonetheless, throws it away, and takes the draw
back by the offset of the request's generator. Generators of a CPU have none: ``RuntimeError: CPU Generator does not use
offset`` ends the engine, and with it every request. GPUs are not concerned.
"""

from typing import TYPE_CHECKING

import numpy as np
from vllm.v1.worker.cpu_worker import CPUWorker

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import GrammarOutput
    from vllm.v1.outputs import AsyncModelRunnerOutput, ModelRunnerOutput


class SeededCPUWorker(CPUWorker):  # type: ignore[misc]
    """A CPU worker on which a seed neither crashes nor depends on how a prompt was cut into chunks."""

    def sample_tokens(self, grammar_output: "GrammarOutput | None") -> "ModelRunnerOutput | AsyncModelRunnerOutput":
        if self.use_v2_model_runner:
            return super().sample_tokens(grammar_output)
        # A token that is thrown away needs no seed: without its generator there is no draw to take back.
        runner = self.model_runner
        unfinished = np.flatnonzero(runner.discard_request_mask.np[: runner.input_batch.num_reqs])
        generators = runner.input_batch.generators
        set_aside = {int(row): generators.pop(row) for row in unfinished if row in generators}
        try:
            return super().sample_tokens(grammar_output)
        finally:
            generators.update(set_aside)
