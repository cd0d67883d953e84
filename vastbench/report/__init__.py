"""Runs as a report: a page, a text, data, charts and executed notebooks."""

import sys
from types import ModuleType

from vastbench.report.asked import report


class _CallableModule(ModuleType):
    # The package is called report, and so is what an analyst wants to write: vastbench.report(...). A module can be both only
    # if its class has a __call__.
    __call__ = staticmethod(report)


sys.modules[__name__].__class__ = _CallableModule
__doc__ = report.__doc__ or ""
