"""The service under test as one rule sees it: clients, small valid data, the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from loops_core.types.datum import Datum, ModelInput
from loops_core.types.tensor import TensorData
from loops_core.types.training import IGNORED_TARGET
from loops_mock.contract import features
from loops_mock.contract.recording import CallLog, Made
from loops_mock.contract.rule import NotOffered

if TYPE_CHECKING:
    from loops_core.client.sampling import SamplingClient
    from loops_core.client.service import ServiceClient
    from loops_core.client.training import TrainingClient
    from loops_core.clock import Clock
    from loops_core.protocols import Transport
    from loops_mock.contract.target import Target
    from loops_mock.contract.wire import Wire

RANK: Final = 4
LENGTH: Final = 6
"""Positions of a datum: one length in all rules, so that a compiling backend compiles it once."""

_FIRST_TOKEN: Final = 3
_LAST_TOKEN: Final = 31
"""Token ids that every vocabulary has, and that are no control tokens in those of ours."""


@final
class Subject:
    """A service under test, for one rule; closes what it opened.

    Attributes:
        target: what all rules share.
        seed: of the random numbers.
        rng: random numbers; the same for the same seed.
        log: the calls that were made.
    """

    def __init__(self, target: Target, *, seed: int, num_rows: int) -> None:
        """Open nothing yet; `Target.subject` makes subjects."""
        self.target = target
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.log = CallLog(secrets=target.secrets)
        self._num_rows = num_rows
        self._opened = ExitStack()

    @property
    def url(self) -> str:
        """Return where the service is."""
        return self.target.url

    @property
    def api_key(self) -> str | None:
        """Return the key that the service asks for."""
        return self.target.api_key

    @property
    def base_model(self) -> str:
        """Return the model to train."""
        return self.target.base_model

    @property
    def calls(self) -> list[Made]:
        """Return the calls made so far."""
        return self.log.made()

    def new_service(self) -> ServiceClient:
        """Return one more client of the service, with a session of its own."""
        return self._opened.enter_context(self.target.open_service(self.log))

    def service_over(
        self, wrap: Callable[[Transport], Transport], *, clock: Clock | None = None
    ) -> ServiceClient:
        """Return a client of the service with something between it and the transport.

        Args:
            wrap: makes of the transport the one that the client uses.
            clock: the client's clock, unless the target has one; None = the machine's.
        """
        opened = self.target.open_service(self.log, wrap=wrap, clock=clock)
        return self._opened.enter_context(opened)

    @cached_property
    def _service(self) -> ServiceClient:
        return self.new_service()

    def service(self) -> ServiceClient:
        """Return this subject's client of the service."""
        return self._service

    def trainer(
        self, *, rank: int = RANK, seed: int | None = 7, with_sampler: bool = False
    ) -> TrainingClient:
        """Return a client of a new run with a fresh adapter; the same adapter for the same seed."""
        return self.service().create_lora_training_client(
            self.base_model, rank=rank, seed=seed, with_sampler=with_sampler, ready_timeout=120
        )

    def sampler(self, *, model_path: str | None = None) -> SamplingClient:
        """Return a client of a sampler: the base model's, or a checkpoint's."""
        base_model = self.base_model if model_path is None else None
        return self.service().create_sampling_client(
            base_model=base_model, model_path=model_path, ready_timeout=120
        )

    def close_later(self, client: Any) -> Any:
        """Return the client, which is closed when the subject is."""
        self._opened.callback(client.close)
        return client

    @cached_property
    def raw(self) -> Wire:
        """The service over plain HTTP, for rules about the wire.

        Raises:
            NotOffered: the service is not reached over HTTP.
        """
        from loops_mock.contract.wire import Wire

        if not self.target.is_http:
            raise NotOffered(f"{self.target.shown_url} is not reached over HTTP")
        return Wire(self)

    def tokens(self, num_tokens: int = LENGTH) -> list[int]:
        """Return random token ids."""
        return self.rng.integers(_FIRST_TOKEN, _LAST_TOKEN + 1, num_tokens).tolist()

    def datum(
        self,
        tokens: Sequence[int] | None = None,
        *,
        ignored: int = 0,
        inputs: Mapping[str, np.ndarray[Any, Any] | list[float]] | None = None,
    ) -> Datum:
        """Return a datum that predicts each next token.

        Args:
            tokens: the whole text, N + 1 tokens for N positions; None draws one.
            ignored: so many first positions are ignored targets.
            inputs: further loss inputs; a list is float32.
        """
        text = self.tokens(LENGTH + 1) if tokens is None else list(tokens)
        targets = np.asarray(text[1:], dtype=np.int64)
        targets[:ignored] = IGNORED_TARGET
        tensors: dict[str, np.ndarray[Any, Any]] = {"target_tokens": targets}
        for name, values in (inputs or {}).items():
            tensors[name] = (
                np.asarray(values, dtype=np.float32) if isinstance(values, list) else values
            )
        return Datum(
            model_input=ModelInput.from_ints(text[:-1]),
            loss_fn_inputs={name: TensorData.from_numpy(value) for name, value in tensors.items()},
        )

    def data(self, num_rows: int | None = None, *, ignored: int = 1) -> list[Datum]:
        """Return small random datums of one length; as many as the runner likes, unless told."""
        count = self._num_rows if num_rows is None else num_rows
        return [self.datum(ignored=ignored) for _ in range(count)]

    def offers(self, feature: str) -> bool:
        """Tell whether the service has a feature, such as `loss:ppo`; asked once a target."""
        known = self.target.known
        if feature not in known:
            with self.target.subject(seed=self.seed) as asking:
                known[feature] = features.probe(asking, feature)
        return known[feature]

    def require(self, *wanted: str) -> None:
        """Return if the service has these features.

        Raises:
            NotOffered: it lacks one; the text names it.
        """
        for feature in wanted:
            if not self.offers(feature):
                raise NotOffered(feature)

    def close(self) -> None:
        """Close the clients and end the runs that were made."""
        self._opened.close()
        for run_id in self.log.run_ids:
            self.target.deactivate(run_id)
        self.log.run_ids.clear()

    def __enter__(self) -> Subject:
        """Return the subject."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()
