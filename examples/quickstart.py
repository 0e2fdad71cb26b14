"""The smallest program: a pipeline of one node, which counts words."""

import asyncio

from remotemedia import execute_pipeline_with_input


class WordCount:
    """A node: any object with a method process()."""

    def __init__(self) -> None:
        self.total = 0

    def process(self, text: str) -> int:
        self.total += len(text.split())
        return self.total


counter = WordCount()
outputs = asyncio.run(execute_pipeline_with_input([counter], ["live objects", "run from Rust"]))
print(outputs)
print(counter.total)
