"""Every mutant, in the order of the report."""

from __future__ import annotations

from typing import Final

from tests.mutants.faults.checkpoints import CHECKPOINTS
from tests.mutants.faults.chunks import CHUNKS
from tests.mutants.faults.client import CLIENT
from tests.mutants.faults.control import CONTROL
from tests.mutants.faults.loads import LOADS
from tests.mutants.faults.passes import PASSES
from tests.mutants.faults.publishing import PUBLISHING
from tests.mutants.faults.queue import QUEUE
from tests.mutants.faults.recovery import RECOVERY
from tests.mutants.faults.retrying import RETRYING
from tests.mutants.faults.sampling import SAMPLING
from tests.mutants.faults.steps import STEPS
from tests.mutants.faults.transport import TRANSPORT
from tests.mutants.faults.wire import WIRE
from tests.mutants.mutant import Mutant

MUTANTS: Final[dict[str, Mutant]] = {
    mutant.id: mutant
    for mutant in (
        *PASSES,
        *STEPS,
        *LOADS,
        *CHECKPOINTS,
        *PUBLISHING,
        *SAMPLING,
        *QUEUE,
        *RECOVERY,
        *CONTROL,
        *WIRE,
        *CLIENT,
        *CHUNKS,
        *RETRYING,
        *TRANSPORT,
    )
}
"""Every mutant by its id."""
