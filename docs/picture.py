"""Draws the first picture of the README and of the site from data that come with vastbench. Usage: python docs/picture.py FILE.png"""

import sys

import vastbench

phases = vastbench.load("default-300")
two = phases[phases["region"].isin(["Vietnam, VN", "Spain, ES"])]
vastbench.boot_curves(two, by="region").figure.savefig(sys.argv[1], dpi=130)
