"""How Sphinx builds the site: `make docs` calls it with warnings as errors."""

import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

from sphinx.errors import ExtensionError

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import generated  # noqa: E402 (it lies beside this file)

project = "vastbench"
author = "The vastbench authors"
project_copyright = author
release = metadata.version("vastbench")

extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["schedules"]
myst_heading_anchors = 3
highlight_language = "none"
smartquotes = False  # they would make one dash of the two before an option

# Sphinx reads nothing outside its folder. Copies keep their dates, so that only what has changed is built again.
shutil.rmtree(HERE / "notebooks", ignore_errors=True)
shutil.copytree(HERE.parent / "notebooks", HERE / "notebooks", ignore=shutil.ignore_patterns(".*"))

# Notebooks are shown as they are committed. A page with code cells is run when the site is built: its own first lines say so.
nb_execution_mode = "off"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # they would come from a CDN

autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = f"vastbench {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "vastbench"},
    "navigation_with_keys": False,
    "show_prev_next": False,
    "footer_start": [],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": [], "tutorial": [], "gallery": []}


def no_address_in_heads(app, exception):
    """Refuse a site whose pages load anything from elsewhere: it must open offline."""
    if exception or app.builder.name != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^\"]*", page.read_text("utf-8"))
        if loaded:
            raise ExtensionError(f"{page.name} loads what lies elsewhere: {loaded[0]}")


def setup(app):
    """Fill in the generated parts of pages as they are read, and look at what was built."""
    app.connect("source-read", generated.fill_in)
    app.connect("build-finished", no_address_in_heads)
