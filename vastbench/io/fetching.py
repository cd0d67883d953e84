"""A process of its own that asks gpuhunt for its catalogue: that waits for a silent server without end, and logs as it likes.

``python -m vastbench.io.fetching`` prints a line of JSON for each offer with a GPU; :mod:`vastbench.io.catalogue` reads them.
"""

from __future__ import annotations

import json
import logging
import sys

FIELDS = ("instance_name", "location", "price", "cpu", "memory", "gpu_count", "gpu_name", "gpu_memory", "spot")
"""What of an offer is passed on, by its names in the catalogue."""


def main() -> int:
    """Print the offers, or why there are none on the last line of standard error."""
    from gpuhunt import Catalog

    logging.disable(logging.CRITICAL)
    catalogue = Catalog(auto_reload=False)
    try:
        catalogue.load()
        offers = catalogue.query(min_gpu_count=1)
        versions = {name: held.version for name, held in catalogue.catalog.items()}
    except Exception as error:  # noqa: BLE001 (whatever it is, the parent says it)
        sys.stderr.write(f"{type(error).__name__}: {' '.join(str(error).split())}\n")
        return 1
    for offer in offers:
        known = {name: getattr(offer, name) for name in FIELDS}
        row = known | {"provider": offer.provider, "version": versions[offer.provider]}
        sys.stdout.write(json.dumps(row, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
