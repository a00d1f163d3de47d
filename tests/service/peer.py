"""The same job as a Python service: FastAPI and ONNX Runtime, Open Inference Protocol v2 with binary tensors, no more than that."""

import json
import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request, Response

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
given, made = session.get_inputs()[0], session.get_outputs()[0]
app = FastAPI()


@app.get("/v2/health/ready")
def ready():
    return Response()


@app.get("/v2/models/{model}")
def metadata(model: str):
    shape = [-1, *given.shape[1:]]
    return {"name": model, "versions": ["1"], "platform": "onnx",
            "inputs": [{"name": given.name, "datatype": "FP32", "shape": shape}],
            "outputs": [{"name": made.name, "datatype": "FP32", "shape": [-1, *made.shape[1:]]}]}


def run(array):
    return session.run([made.name], {given.name: array})[0]


@app.post("/v2/models/{model}/infer")
async def infer(model: str, request: Request):
    body = await request.body()
    length = int(request.headers["inference-header-content-length"])
    first = json.loads(body[:length])["inputs"][0]
    array = np.frombuffer(body, np.float32, offset=length).reshape(first["shape"])
    result = run(array)
    head = json.dumps({"model_name": model, "model_version": "1", "outputs": [
        {"name": made.name, "datatype": "FP32", "shape": list(result.shape),
         "parameters": {"binary_data_size": result.nbytes}}]}).encode()
    return Response(head + result.tobytes(), media_type="application/octet-stream",
                    headers={"inference-header-content-length": str(len(head))})


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", http="httptools")
