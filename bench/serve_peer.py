"""The peer of `jishi serve`: FastAPI with PyTorch serves the weights of a finished run of the recipe `breast-cancer`.

`python bench/serve_peer.py runs/breast-cancer 8200` listens at that port; `bench/serve.py` compares. Needs fastapi, uvicorn, torch and
safetensors. Numbers are standardised as the run's package says; a request is checked by its types, as FastAPI's own guide does it.
"""

import json
import pathlib
import sys

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import create_model
from safetensors.torch import load_file

model = pathlib.Path(sys.argv[1]) / "model"
features = json.loads((model / "model.json").read_text())["preprocessing"]["features"]
names = [f["column"] for f in features]
scalers = [f["encoding"]["value"]["scaler"] for f in features]
mean = torch.tensor([s["mean"] for s in scalers])
deviation = torch.tensor([s["deviation"] for s in scalers])
weights = load_file(model / "model.safetensors")
classes = ["benign", "malignant"]
torch.set_num_threads(1)

Row = create_model("Row", **{name: (float, ...) for name in names})
Request = create_model("Request", inputs=(list[Row], ...))
app = FastAPI()


@app.post("/predict")
async def predict(request: Request):
    rows = [[getattr(row, name) for name in names] for row in request.inputs]
    with torch.inference_mode():
        x = (torch.tensor(rows) - mean) / deviation
        x = torch.relu(x @ weights["layers.0.weight"] + weights["layers.0.bias"])
        logits = x @ weights["output.weight"] + weights["output.bias"]
        shares = torch.softmax(logits, 1).tolist()
    told = [
        {"prediction": classes[share[1] > share[0]], "probability_benign": share[0], "probability_malignant": share[1]}
        for share in shares
    ]
    return {"predictions": told}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), access_log=False, log_level="warning")
