"""The application that a programmer would write instead of `serve`: the same node behind FastAPI."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

from benchmarks.serving.nodes import Same
from remotemedia.audio import AudioFrame

SAMPLE_RATE = 16_000
FULL_SCALE = 32_768

app = FastAPI()
node = Same()


@app.post("/call")
async def call(request: Request) -> JSONResponse:
    """One item through the node: faster than to declare the type of the body."""
    return JSONResponse(node.process(await request.json()))


@app.websocket("/session")
async def session(websocket: WebSocket) -> None:
    """Chunks of audio through the node, as they come."""
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        while True:
            samples = np.frombuffer(await websocket.receive_bytes(), "<i2").astype(np.float32) / FULL_SCALE
            output = node.process(AudioFrame(samples, SAMPLE_RATE))
            await websocket.send_bytes((output.samples * FULL_SCALE).astype("<i2").tobytes())
