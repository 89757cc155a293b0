"""The house-price job in Keras: linear regression on the Ames sales, whole process timed.

    python house_prices_keras.py ames.csv [--out DIR]

Reads the CSV, holds out 20 % for the test and 20 % of the rest for validation, one-hot encodes categories
and standardises numbers and target (all fitted on the training rows alone), trains one dense layer for 100
epochs with Adam, and writes what a Jishi run writes: loss curve, model with its preprocessing, metrics. The
last line printed is JSON.

`--standardise all` standardises the one-hot columns too, which makes rare categories large inputs and the
test RMSE worse; `numbers`, the default, is what Jishi does.

Needs: keras, tensorflow-cpu, scikit-learn, pandas, matplotlib.
"""

import time

START = time.perf_counter()

import argparse
import json
import os
import pickle
import resource
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

TARGET = "Sale_Price"
VALIDATION = 0.2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv")
    parser.add_argument("--out", default="keras-run")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--standardise", choices=["numbers", "all"], default="numbers")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    keras.utils.set_random_seed(args.seed)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)

    frame = pd.read_csv(args.csv, keep_default_na=False)
    target = frame.pop(TARGET).to_numpy(np.float64)
    train, test, y_train, y_test = train_test_split(frame, target, test_size=0.2, random_state=42)
    features = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
        sparse_threshold=0.0,
    )
    if args.standardise == "all":
        features = make_pipeline(features, StandardScaler())
    # Keras validates on the last fifth.
    fitted = int(len(train) * (1.0 - VALIDATION))
    features.fit(train[:fitted])
    x_train = features.transform(train).astype(np.float32)
    x_test = features.transform(test).astype(np.float32)
    scaler = StandardScaler().fit(y_train[:fitted, None])
    z_train = scaler.transform(y_train[:, None]).astype(np.float32)

    model = keras.Sequential([keras.Input((x_train.shape[1],)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(), loss="mse")
    history = model.fit(
        x_train, z_train, epochs=args.epochs, batch_size=32, validation_split=VALIDATION, verbose=0
    ).history

    predicted = scaler.inverse_transform(model.predict(x_test, batch_size=1024, verbose=0))[:, 0]
    test_rmse = float(np.sqrt(np.mean((predicted - y_test) ** 2)))

    figure, axes = plt.subplots(figsize=(8, 5))
    for name in ("loss", "val_loss"):
        axes.plot(range(1, len(history[name]) + 1), history[name], label=name)
    axes.set(xlabel="epoch", ylabel="loss", yscale="log")
    axes.legend()
    figure.savefig(out / "curves.png", dpi=120)
    model.save(out / "model.keras")
    (out / "preprocessing.pkl").write_bytes(pickle.dumps({"features": features, "target": scaler}))
    (out / "history.json").write_text(json.dumps(history))

    result = {
        "test_rmse": test_rmse,
        "seconds": time.perf_counter() - START,
        # Linux counts it in KiB.
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    (out / "result.json").write_text(json.dumps(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
