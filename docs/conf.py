import os
import sys
from pathlib import Path

import django

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testapp.settings")
django.setup()

import django_fsmworker  # noqa: E402  (after the path above)

project = "django-fsmworker"
author = "django-fsmworker contributors"
project_copyright = author
version = release = django_fsmworker.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "performance/*.md"]
nitpicky = True
# The types of Python and Django in signatures: their inventories would have to be downloaded.
nitpick_ignore_regex = [
    ("py:.*", r"(?!django_fsmworker\.).*"),
    # A type variable, and the callables that the functions of backoff return.
    ("py:class", r"django_fsmworker\.models\.querysets\.Row"),
    ("py:class", r"django_fsmworker\.graph\.backoff\.(Exponential|Linear|Constant)"),
    # A type variable, and what per_loop() returns.
    ("py:class", r"django_fsmworker\.async_resources\.(T|PerLoop)"),
    # What the runners of one process have in common.
    ("py:class", r"django_fsmworker\.runner\.stator_runner\.OneWorker"),
    # What a state knows a StateGraph as.
    ("py:class", r"django_fsmworker\.graph\.states\.Graph"),
]
# Options such as --once are quoted in sentences.
smartquotes = False

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 80

copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"django-fsmworker {release}"
