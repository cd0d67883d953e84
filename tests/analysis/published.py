"""Published data sets of censored times, and as text what reads them: ``a-b`` lies in (a, b], ``a-`` above a, ``axk`` k times.

* ``COSMESIS``: months until the breast showed retraction, of women treated with radiation, and with chemotherapy as well
  (Finkelstein and Wolfe, Biometrics 41, 1985, 933).
* ``LEUKAEMIA``: weeks in remission with 6-mercaptopurine and with placebo (Freireich et al., Blood 21, 1963, 699).
* ``FLIES``: days that flies lived, with a microRNA and without (Walton's data in the Python package lifelines).
* ``DIABETES``: years until diabetic nephropathy at Steno Memorial Hospital (Borch-Johnsen et al. 1985; in lifelines too).
* ``SKEWED``: sixteen numbers whose bootstrap intervals R's package boot gives (in the tests of scipy).
"""

import math

import numpy as np

RADIATION = """
45- 6-10 0-7 46- 46- 7-16 17- 7-14 37-44 0-8 4-11 15- 11-15 22- 46- 46- 25-37 46- 26-40 46- 27-34 36-44 46- 36-48 37-
40- 17-25 46- 11-18 38- 5-12 37- 0-5 18- 24- 36- 5-11 19-35 17-25 24- 32- 33- 19-26 37- 34- 36-
"""
BOTH = """
8-12 0-22 24-31 17-27 17-23 24-30 16-24 13- 11-13 16-20 18-25 17-26 32- 23- 44-48 14-17 0-5 5-8 12-20 11- 33-40 31-
13-39 19-32 34- 13- 16-24 35- 15-22 11-17 22-32 10-35 30-34 13- 10-17 8-21 4-9 11- 14-19 4-8 34- 30-36 18-24 16-60
35-39 21- 11-20 48-
"""
COSMESIS = {"radiation": RADIATION, "both": BOTH}

LEUKAEMIA = {
    "6-MP": "6x3 7 10 13 16 22 23 6- 9- 10- 11- 17- 19- 20- 25- 32- 32- 34- 35-",
    "placebo": "1x2 2x2 3 4x2 5x2 8x4 11x2 12x2 15 17 22 23",
}

FLIES = {
    "miR-137": "6 9x3 13x3 15x2 19x3 22x4 26x5 29x5 33x2 36x2 43 47 62x2",
    "control": """7 17 32 33 38x2 41x7 45x9 48x8 51x3 53x7 54x2 56x18 58x4 60x15 61x9 63x9 66x3 68x9 69x12 75
        7- 45- 60- 61- 61- 68- 69-""",
}

DIABETES = """
2x1 3x2 4x2 5x4 6x5 7x8 8x8 9x23 10x11 11x20 12x36 13x38 14x48 15x50 16x37 17x46 18x32 19x43 20x35 21x24 22x20 23x17
24x13 25x12 26x18 27x7 28x3 29x4 30x6 31x4 32x2 33x3 34x6 37x1 38x1 40x3 41x1 44x1
24-27 37-39 1-16 8-20 1-13 1-16 8-26 1-13 4-32 4-35 4-23 1-11 25-26 1-16 15-35 7-16 1-16 14-23 4-16 16-37 1-15 1-23
2-19 4-27 7-42 6-24 2-25 1-15 1-15 6-16 2-25 3-32 1-21 16-22 4-21 11-29 1-13 6-30 1-17 3-12 1-18 19-37 9-23 9-15 10-29
1-19 8-18 1-24 18-25 5-20 6-20 8-32 1-25 1-20 2-20 7-23 22-32 2-18 2-16 6-19 1-15 12-19 1-15 1-25 5-23 7-21 8-16 2-28
1-29 11-20 11-28 6-12 9-24 4-26 6-19 7-22 10-19 4-21 13-25 7-24 5-22 3-29 6-23 1-20 1-22 6-17 20-28 4-27 3-11 1-11
14-20 2-18 4-18 11-22 4-22 5-21 10-22 6-21 2-38 9-20 12-40 2-24 14-23 1-13 1-10 2-24 1-4 1-13 13-23 1-15 10-22 10-22
10-23 1-20 3-27 10-15 0-26 3-21 10-20 10-16 7-18 9-23 4-25 4-20 11-18 9-21 5-19 8-22 3-15 8-18 3-28 12-23 5-19 5-18
6-16 16-24
"""

SKEWED = [10, 12, 12.5, 12.5, 13.9, 15, 21, 22, 23, 34, 50, 81, 89, 121, 134, 213]


def read(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper bounds of the times in a text."""
    lower, upper = [], []
    for word in text.split():
        value, _, times = word.partition("x")
        low, between, high = value.partition("-")
        for _ in range(int(times or 1)):
            lower.append(float(low))
            upper.append(float(high or math.inf) if between else float(low))
    return np.array(lower), np.array(upper)
