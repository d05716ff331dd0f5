"""Control charts by numpy and scipy, for the tests of `drift-monitor`.

    python scripts/verify/charts.py > crates/theriac-defenses/tests/golden/charts.csv

One line a chart: how many values tell what is usual, what one sample changes, the error rate of one statistic, the values, then the limit
and how far each later value lies out, in units of the usual spread.
"""

import numpy as np
from scipy import stats

print("calibration,resolution,alpha,values then limit then deviations")
draw = np.random.default_rng(20261127)
for chart in range(40):
    m = int(draw.integers(2, 15))
    later = int(draw.integers(1, 6))
    resolution = float(draw.choice([0.0, 0.0125, 0.1]))
    alpha = round(float(10 ** draw.uniform(-4, -0.5)), 6)
    values = np.round(draw.normal(0.9, 10 ** draw.uniform(-4, -1), m + later), 5)
    usual = values[:m]
    spread = max(usual.std(ddof=1), resolution, 1e-12)
    limit = stats.t(m - 1).ppf(1 - alpha / 2) * np.sqrt(1 + 1 / m)
    out = np.abs(values[m:] - usual.mean()) / spread
    print(",".join([f"{m}", f"{resolution}", f"{alpha}"] + [f"{x}" for x in values] + [f"{limit:.9g}"] + [f"{x:.9g}" for x in out]))
