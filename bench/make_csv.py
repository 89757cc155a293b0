"""Writes a big mixed CSV: numbers, whole numbers, categories, booleans, dates, missing values, a target.

    python make_csv.py out.csv --mb 1000 [--seed 0]

The same size and seed give the same file. The target depends on numbers, categories and the date, so that
a model can learn it. Needs: numpy, pyarrow.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

ROWS = 50_000  # rows a block; every block has a random stream of its own
MISSING = 0.05
CITIES = [f"city_{i:03d}" for i in range(200)]
COLOURS = ["red", "green", "blue", "dark grey", "off-white, matt", 'the "best"']
GRADES = ["poor", "fair", "typical", "good", "excellent"]


def block(seed, index):
    """Rows of block `index` as a pyarrow table."""
    rng = np.random.default_rng([seed, index])
    absent = lambda: rng.random(ROWS) < MISSING
    columns = {"id": pa.array(np.arange(index * ROWS, (index + 1) * ROWS))}

    numbers = rng.standard_normal((12, ROWS))
    for j, values in enumerate(numbers):
        scale, digits = 10.0 ** (j % 5 - 1), 4 if j % 5 < 2 else 2
        mask = absent() if j % 3 == 0 else None
        columns[f"x{j}"] = pa.array(np.round(values * scale, digits), mask=mask)
    counts = rng.poisson(4.0, (4, ROWS))
    for j, values in enumerate(counts):
        columns[f"n{j}"] = pa.array(values, mask=absent() if j == 0 else None)

    city = rng.zipf(1.3, ROWS) % len(CITIES)
    colour = rng.integers(len(COLOURS), size=ROWS)
    grade = rng.integers(len(GRADES), size=ROWS)
    columns["city"] = pa.array(CITIES).take(pa.array(city, mask=absent()))
    columns["colour"] = pa.array(COLOURS).take(pa.array(colour))
    columns["grade"] = pa.array(GRADES).take(pa.array(grade, mask=absent()))
    sold = rng.random(ROWS) < 0.3
    columns["sold"] = pa.array(sold)
    day = rng.integers(10_957, 20_000, size=ROWS)  # 2000-01-01 to 2024-10-03, in days since 1970
    columns["date"] = pa.array(day.astype("datetime64[D]"), mask=absent())

    target = 3.0 * numbers[0] - 2.0 * np.abs(numbers[1]) + numbers[2] * numbers[3] + 0.5 * counts[0]
    target += np.sin(city) + 1.5 * grade + 2.0 * sold + 4.0 * (day - 10_957) / 9_043
    columns["y"] = pa.array(np.round(target + rng.standard_normal(ROWS), 4))
    return pa.table(columns)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--mb", type=float, default=1000.0, help="size in MB (10^6 bytes), to a block")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    first = block(args.seed, 0)
    options = csv.WriteOptions(quoting_style="needed")
    blocks = 0
    with open(args.out, "wb") as file, csv.CSVWriter(file, first.schema, write_options=options) as writer:
        while blocks == 0 or file.tell() < args.mb * 1e6:
            writer.write_table(first if blocks == 0 else block(args.seed, blocks))
            blocks += 1
    print(f"{args.out}: {blocks * ROWS} rows, {Path(args.out).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
