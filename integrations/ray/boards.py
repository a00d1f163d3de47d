"""The boards of the node this process runs on, by the node's akida-serve."""
import os
import threading
import time

import numpy as np
import tritonclient.http as v2
from tritonclient.utils import InferenceServerException

RESOURCE = "akida_board"


class Boards:
    """Infers batches. Ray keeps one of these for each board (`resources={"akida_board": 1}`) on the node that has it."""

    def __init__(self, model, patience=60.0):
        # Ray gives the environment of the node's `ray start` to every worker of that node.
        self.address = os.environ.get("AKIDA_SERVE", "127.0.0.1:8000")
        self.model, self.patience = model, patience
        # A client of tritonclient belongs to the thread that made it (gevent), and Ray calls from several.
        self.of_thread = threading.local()
        self.input = self.client().get_model_metadata(model)["inputs"][0]["name"]

    def client(self):
        if not hasattr(self.of_thread, "client"):
            self.of_thread.client = v2.InferenceServerClient(self.address, network_timeout=self.patience, connection_timeout=self.patience)
        return self.of_thread.client

    def infer(self, array):
        """(first output, name of the board that made it) of an array, samples first.

        uint8 arrays of (samples, height, width, channels) are raw pixels, float32 arrays have the layout of the ONNX input."""
        array = np.ascontiguousarray(array)
        tensor = v2.InferInput(self.input, array.shape, {"uint8": "UINT8", "float32": "FP32"}[str(array.dtype)])
        tensor.set_data_from_numpy(array, binary_data=True)
        end = time.monotonic() + self.patience
        while True:
            try:
                answer = self.client().infer(self.model, [tensor])
                break
            except InferenceServerException as e:
                # Full queues are no failure: the request was not taken.
                if "503" not in str(e.status()) or time.monotonic() > end:
                    raise
                time.sleep(0.05)
        response = answer.get_response()
        return answer.as_numpy(response["outputs"][0]["name"]), response.get("parameters", {}).get("device", "")

    def __call__(self, batch):
        """A batch of Ray Data: column `x` in; columns `y` and `board` instead of it out."""
        y, board = self.infer(np.stack(list(batch.pop("x"))))
        return {**batch, "y": y, "board": np.full(len(y), f"{board} at {self.address}")}
