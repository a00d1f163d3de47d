"""A Ray Serve application: raw pixels in (one sample, or several behind each other), classes out. Replicas are where boards are.

    serve run deployment:app model=mnist_cnn shape=28,28,1
    curl --data-binary @digit.raw http://localhost:8000/
"""
import asyncio

import numpy as np
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from boards import RESOURCE, Boards


@serve.deployment(num_replicas=1, max_ongoing_requests=16, ray_actor_options={"num_cpus": 0, "resources": {RESOURCE: 1}})
class Classifier:
    def __init__(self, model, shape):
        self.boards, self.shape = Boards(model), shape

    async def __call__(self, request: Request):
        pixels = np.frombuffer(await request.body(), np.uint8)
        size = int(np.prod(self.shape))
        if not pixels.size or pixels.size % size:
            return JSONResponse({"error": f"{pixels.size} bytes; a sample has {size} ({self.shape})"}, status_code=400)
        y, board = await asyncio.to_thread(self.boards.infer, pixels.reshape(-1, *self.shape))
        return {"classes": y.reshape(len(y), -1).argmax(axis=1).tolist(), "board": board}


def app(arguments):
    """What `serve run` calls: model, shape, replicas."""
    shape = [int(n) for n in arguments["shape"].split(",")]
    return Classifier.options(num_replicas=int(arguments.get("replicas", 1))).bind(arguments["model"], shape)
