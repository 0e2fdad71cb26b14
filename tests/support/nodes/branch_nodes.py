"""Nodes whose results are of many kinds, for generated graphs with branches."""

from __future__ import annotations

import asyncio

INPUTS = [1, 2, 3]


class Unusual:
    """A `def` node whose results are of this kind; some are not known before it is called."""

    def __init__(self, kind, name, log):
        self.kind = kind
        self.name = name
        self.log = log
        self.calls = 0

    def process(self, item):
        return self.result((self.name, item))

    def result(self, output):
        self.calls += 1
        self.log.append(output)
        if self.kind == "fails" and self.calls == 2:
            raise ValueError(self.name)
        if self.kind == "drops" and self.calls % 2:
            return None
        return getattr(self, self.kind)(output) if self.kind in LATE else output

    def flush(self):
        return None if self.kind in {"drops", "fails"} else self.result(f"last of {self.name}")

    def generator(self, output):
        try:
            yield output
            yield (output, 2)
        finally:
            self.log.append(f"{self.name} ends")

    def failing_generator(self, output):
        # Other calls may come before its end.
        return self.outputs_of(output, fails=self.calls == 2)

    def outputs_of(self, output, *, fails):
        yield output
        if fails:
            raise ValueError(self.name)
        yield (output, 2)

    async def coroutine(self, output):
        await asyncio.sleep(0)
        return output

    async def async_generator(self, output):
        try:
            yield output
            await asyncio.sleep(0)
            yield (output, 2)
        finally:
            self.log.append(f"{self.name} ends")


class Coroutine(Unusual):
    async def process(self, item):
        return (self.name, item)


class Generator(Unusual):
    def process(self, item):
        yield from self.generator((self.name, item))


class AsyncGenerator(Unusual):
    async def process(self, item):
        async for output in self.async_generator((self.name, item)):
            yield output


class Source(Unusual):
    async def process(self):
        for item in INPUTS:
            yield item


COUNTS = ("items_in", "items_out", "errors", "failures", "retries", "skipped", "dead_lettered")


def counts(metrics):
    """Return the metrics that do not depend on the clock, of the pipeline and of its nodes."""
    of_nodes = [{name: node[name] for name in COUNTS} for node in metrics["node_metrics"]]
    return [metrics[name] for name in COUNTS], of_nodes


LATE = ("generator", "failing_generator", "coroutine", "async_generator")
