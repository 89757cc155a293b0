"""Peer for reading and encoding a table: polars, then scikit-learn, to a dense float32 matrix.

    python csv_peer.py data.csv [--target y] [--max-categories 1000]

Numbers are standardised (missing ones take the median), categories one-hot encoded (unknown ones ignored),
dates become year, month, day, weekday and days since 1970. The last line printed is JSON with the seconds
of every part. Needs: polars, scikit-learn, numpy.
"""

import time

START = time.perf_counter()

import argparse
import json
import os
import resource

import numpy as np
import polars as pl
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def expand_dates(frame):
    """Every date column as five numbers, missing ones as the median day."""
    for name, kind in frame.schema.items():
        if kind in (pl.Date, pl.Datetime):
            date = pl.col(name).cast(pl.Date)
            date = date.fill_null(date.to_physical().median().cast(pl.Int32).cast(pl.Date))
            parts = [date.dt.year(), date.dt.month(), date.dt.day(), date.dt.weekday(), date.to_physical()]
            names = ["year", "month", "day", "weekday", "days"]
            frame = frame.with_columns(p.alias(f"{name}_{n}") for p, n in zip(parts, names)).drop(name)
    return frame


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv")
    parser.add_argument("--target")
    parser.add_argument("--max-categories", type=int, default=1000)
    args = parser.parse_args()
    imported = time.perf_counter()

    frame = pl.read_csv(args.csv, try_parse_dates=True)
    read = time.perf_counter()

    if args.target:
        frame = frame.drop(args.target)
    frame = expand_dates(frame)
    numbers = [n for n, t in frame.schema.items() if t.is_numeric()]
    categories = [n for n in frame.columns if n not in numbers]
    # One missing value looks like another to scikit-learn: text for categories, NaN for numbers.
    frame = frame.with_columns(
        pl.col(categories).cast(pl.String).fill_null("(missing)"), pl.col(numbers).cast(pl.Float32)
    )
    frame = frame.with_columns(pl.col(numbers).fill_null(float("nan")))
    encoder = ColumnTransformer(
        [
            ("number", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            (
                "category",
                OneHotEncoder(
                    handle_unknown="ignore",
                    max_categories=args.max_categories,
                    dtype=np.float32,
                    sparse_output=False,
                ),
                categories,
            ),
        ],
        sparse_threshold=0.0,
    )
    prepared = time.perf_counter()
    encoder.fit(frame)
    fitted = time.perf_counter()
    matrix = np.ascontiguousarray(encoder.transform(frame), dtype=np.float32)
    done = time.perf_counter()

    size = os.path.getsize(args.csv)
    print(
        json.dumps(
            {
                "rows": matrix.shape[0],
                "columns": matrix.shape[1],
                "file_mb": size / 1e6,
                "import_seconds": imported - START,
                "read_seconds": read - imported,
                "prepare_seconds": prepared - read,
                "fit_seconds": fitted - prepared,
                "transform_seconds": done - fitted,
                "seconds": done - START,
                "read_mb_per_second": size / 1e6 / (read - imported),
                # Linux counts it in KiB.
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "checksum": float(matrix.sum(dtype=np.float64)),
            }
        )
    )


if __name__ == "__main__":
    main()
