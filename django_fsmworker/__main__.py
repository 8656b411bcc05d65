"""``python -m django_fsmworker``: ``manage.py runstator``, which hears SIGTERM from the start.

``DJANGO_SETTINGS_MODULE`` names the settings, as for ``django-admin``.
"""

from __future__ import annotations

import sys

from django_fsmworker.early_signals import end_on_sigterm

if __name__ == "__main__":
    end_on_sigterm()

    # Importing Django and the project takes most of the time until a runner is there.
    from django.core.management import execute_from_command_line

    execute_from_command_line([sys.argv[0], "runstator", *sys.argv[1:]])
