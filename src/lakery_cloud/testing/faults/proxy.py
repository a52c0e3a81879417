"""A proxy that makes faults happen on the wire between a storage and its server, by rules that are data.

It notes every request, draws from one seed, and fails the test if a fault that was asked for never happened.
"""

from collections.abc import Iterable

from lakery_cloud.testing.faults.dialect import NEUTRAL_OPERATIONS, Dialect
from lakery_cloud.testing.faults.dialects import DIALECTS
from lakery_cloud.testing.faults.exchange import Exchange
from lakery_cloud.testing.faults.flows import RequestBody
from lakery_cloud.testing.faults.forwarding import NO_FAULT, ForwardingProxy
from lakery_cloud.testing.faults.rules import ArmedRule, FaultNotFired, Meeting, Rule


class FaultProxy(ForwardingProxy):
    """A proxy in front of `upstream`, on a free port of 127.0.0.1, for the length of an `async with` block.

    Bodies are streamed both ways. Rules decide by the order in which requests arrive: the same requests in the same order
    meet the same faults.

    Args:
        upstream: URL of the server, such as `http://127.0.0.1:8333`.
        rules: What goes wrong. More can be armed later.
        seed: What is drawn where a rule leaves something open: its probability, and positions of None.
        dialect: The API that the server speaks: `s3`, `gcs`, `azure`, or one of your own. By default each request tells.

    Attributes:
        url: URL of the proxy.
        exchanges: What passed, in order of arrival.

    Raises:
        ValueError: An operation, or the dialect, is not known.
        FaultNotFired: At the end of the block, if no other exception ends it: a rule did not fire as often as it had to.
    """

    def __init__(
        self, upstream: str, rules: Iterable[Rule] = (), *, seed: int = 0, dialect: str | Dialect | None = None
    ) -> None:
        if isinstance(dialect, str) and dialect not in DIALECTS:
            raise ValueError(f"no dialect: {dialect!r}; known are {', '.join(DIALECTS)}")
        super().__init__(upstream, dialect=DIALECTS[dialect] if isinstance(dialect, str) else dialect)
        self._seed = seed
        self._armed: list[ArmedRule] = []
        for rule in rules:
            self.arm(rule)

    def arm(self, rule: Rule) -> ArmedRule:
        """Put one more rule in force, after the others. It counts requests from now on.

        Raises:
            ValueError: Its operation is not known.
        """
        dialects = [self._dialect] if self._dialect else DIALECTS.values()
        known = NEUTRAL_OPERATIONS.union(*(dialect.operations for dialect in dialects))
        if rule.operation is not None and rule.operation not in known:
            raise ValueError(f"no operation: {rule.operation!r}; known are {', '.join(sorted(known))}")
        armed = ArmedRule(rule, seed=f"{self._seed}/{len(self._armed)}")
        self._armed.append(armed)
        return armed

    def disarm(self, armed: ArmedRule) -> None:
        """Let a fault stop: no further request meets it. It must have fired as often as it had to all the same."""
        armed.is_stopped = True

    def unfired(self) -> list[ArmedRule]:
        """Rules that have not yet fired as often as they must."""
        return [armed for armed in self._armed if armed.is_due]

    def exchanges_of(self, operation: str) -> list[Exchange]:
        """What passed of one operation, by the provider's name or the one that all clouds share."""
        return [exchange for exchange in self.exchanges if operation in (exchange.operation, exchange.neutral)]

    async def __aexit__(self, *raised: object) -> None:
        await super().__aexit__(*raised)
        unfired = self.unfired()
        if unfired and raised[0] is None:
            raise FaultNotFired("faults that did not happen:\n" + "\n".join(map(str, unfired)))

    async def _meet(self, exchange: Exchange, body: RequestBody) -> Meeting:
        self.exchanges.append(exchange)
        met = NO_FAULT
        for armed in self._armed:
            met = armed.meet(exchange, is_free=met is NO_FAULT) or met
        return met
