"""A proxy that injects faults between a storage and its server by rules.

It records every request, takes all random numbers from one seed, and raises an error if a required fault never happened.
"""

from collections.abc import Iterable

from lakery_cloud.testing.faults.dialect import NEUTRAL_OPERATIONS, Dialect
from lakery_cloud.testing.faults.dialects import DIALECTS
from lakery_cloud.testing.faults.exchange import Exchange
from lakery_cloud.testing.faults.flows import RequestBody
from lakery_cloud.testing.faults.forwarding import NO_FAULT, ForwardingProxy
from lakery_cloud.testing.faults.rules import ArmedRule, FaultMatch, FaultNotFired, Rule


class FaultProxy(ForwardingProxy):
    """A proxy in front of `upstream`, on a free port of 127.0.0.1, for the duration of an `async with` block.

    It streams bodies both ways. The same requests in the same order get the same faults.

    Args:
        upstream: URL of the server, such as `http://127.0.0.1:8333`.
        rules: The faults. You can arm more later.
        seed: Seed of the random numbers for probabilities and for positions of None.
        dialect: The API of the server: `s3`, `gcs`, `azure`, or a `Dialect`. By default the proxy recognises it from each
            request.

    Attributes:
        url: URL of the proxy.
        exchanges: The requests, in order of arrival.

    Raises:
        ValueError: An operation or the dialect is unknown.
        FaultNotFired: At the end of the block, unless another exception ends it: a required fault did not happen.
    """

    def __init__(
        self, upstream: str, rules: Iterable[Rule] = (), *, seed: int = 0, dialect: str | Dialect | None = None
    ) -> None:
        if isinstance(dialect, str) and dialect not in DIALECTS:
            raise ValueError(f"unknown dialect {dialect!r}: use {', '.join(DIALECTS)} or a Dialect")
        super().__init__(upstream, dialect=DIALECTS[dialect] if isinstance(dialect, str) else dialect)
        self._seed = seed
        self._armed: list[ArmedRule] = []
        for rule in rules:
            self.arm(rule)

    def arm(self, rule: Rule) -> ArmedRule:
        """Add a rule after the others. It counts requests from now on.

        Raises:
            ValueError: The rule's operation is unknown.
        """
        dialects = [self._dialect] if self._dialect else DIALECTS.values()
        known = NEUTRAL_OPERATIONS.union(*(dialect.operations for dialect in dialects))
        if rule.operation is not None and rule.operation not in known:
            raise ValueError(f"unknown operation {rule.operation!r}: use one of {', '.join(sorted(known))}")
        armed = ArmedRule(rule, seed=f"{self._seed}/{len(self._armed)}")
        self._armed.append(armed)
        return armed

    def disarm(self, armed: ArmedRule) -> None:
        """Apply a rule to no further request. The rule must still fire as often as required."""
        armed.is_stopped = True

    def unfired(self) -> list[ArmedRule]:
        """Return the rules whose fault must still happen."""
        return [armed for armed in self._armed if armed.is_due]

    def exchanges_of(self, operation: str) -> list[Exchange]:
        """Return the requests of one operation, by the provider's name or the name shared by all clouds."""
        return [exchange for exchange in self.exchanges if operation in (exchange.operation, exchange.neutral)]

    async def __aexit__(self, *raised: object) -> None:
        await super().__aexit__(*raised)
        unfired = self.unfired()
        if unfired and raised[0] is None:
            raise FaultNotFired("required faults did not happen:\n" + "\n".join(map(str, unfired)))

    async def match_fault(self, exchange: Exchange, body: RequestBody) -> FaultMatch:
        self.exchanges.append(exchange)
        found = NO_FAULT
        for armed in self._armed:
            found = armed.match(exchange, has_fault=found is not NO_FAULT) or found
        return found
