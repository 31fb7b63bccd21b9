#!/usr/bin/env python3
"""Seconds of LAPACK's eigh in float64 (numpy, all threads), on covariances as the bench has them. Prints JSON.

    python lapack_eigh.py [--sizes 576 1536] [--repeats 3]

The matrices are covariances of rank above their size, with spectra that fall off as those of activations do. Run with
OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE unset.
"""

import argparse
import json
import time

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description="seconds of LAPACK's eigh")
    parser.add_argument("--sizes", type=int, nargs="+", default=[576, 1536])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(json.dumps({
        "what": "numpy.linalg.eigh, float64",
        "numpy": np.__version__,
        "seconds": {str(n): best_seconds(n, args.repeats) for n in args.sizes},
    }, indent=2))


def best_seconds(n: int, repeats: int) -> float:
    generator = np.random.default_rng(n)
    scales = 1 / np.arange(1, n + 1)
    samples = generator.standard_normal((2 * n, n)) * scales @ np.linalg.qr(generator.standard_normal((n, n)))[0]
    matrix = samples.T @ samples / len(samples)
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        np.linalg.eigh(matrix)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


if __name__ == "__main__":
    main()
