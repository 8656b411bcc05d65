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
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "performance/*.md"]
nitpicky = True
# Options such as --once are quoted in sentences.
smartquotes = False

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"django-fsmworker {release}"
