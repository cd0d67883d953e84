"""Draws the first picture of the README and the site. Usage: python docs/picture.py FILE.png"""

import sys

from matplotlib import pyplot as plt

import vastbench

phases = vastbench.load("default-300")
two = phases[phases["region"].isin(["Vietnam, VN", "Spain, ES"])]
figure, axes = plt.subplots(figsize=(6.8, 3.9), layout="constrained")
vastbench.boot_curves(two, axes, by="region")
figure.savefig(sys.argv[1], dpi=150)
