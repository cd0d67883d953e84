"""One run or one study as text, HTML and sentences. Importing it lets runs and studies show themselves."""

from vastbench.record.run import Run
from vastbench.record.shown import show
from vastbench.record.study import Study
from vastbench.render import checked, comparison, forecast, plan, reconciled  # noqa: F401 (each says how its answer is shown)
from vastbench.render.html import run_html, study_html
from vastbench.render.text import run_text, study_text

show(Run, run_text, run_html)
show(Study, study_text, study_html)
