"""Weights of data sources by scipy, for the tests of `source-weighting`.

    python scripts/verify/sources.py > crates/theriac-defenses/tests/golden/source_weights.csv

Minimises sum_s alpha_s d_s + lambda sqrt(sum_s alpha_s^2 / m_s) over the simplex with SLSQP, from several starts. One line a problem:
lambda, the number of sources, their discrepancies, their sizes, their weights.
"""

import numpy as np
from scipy.optimize import minimize

print("lambda,sources,discrepancies then sizes then weights")
draw = np.random.default_rng(20261127)
for problem in range(40):
    k = int(draw.integers(2, 13))
    d = np.round(draw.uniform(0, 0.6, k) ** 2, 4)
    m = draw.integers(50, 3000, k)
    lam = round(float(10 ** draw.uniform(-0.5, 1.5)), 4)

    def objective(a):
        return a @ d + lam * np.sqrt(np.sum(a**2 / m))

    def slope(a):
        return d + lam * (a / m) / np.sqrt(np.sum(a**2 / m))

    best = None
    for start in [m / m.sum(), np.eye(k)[np.argmin(d)] * 0.9 + 0.1 / k, draw.dirichlet(np.ones(k))]:
        found = minimize(objective, start, jac=slope, method="SLSQP", bounds=[(0, 1)] * k,
                         constraints={"type": "eq", "fun": lambda a: a.sum() - 1, "jac": lambda a: np.ones(k)},
                         options={"maxiter": 5000, "ftol": 1e-16})
        if best is None or found.fun < best.fun:
            best = found
    print(",".join([f"{lam}", f"{k}"] + [f"{x}" for x in d] + [f"{x}" for x in m] + [f"{x:.7f}" for x in best.x]))
