"""A template calls what takes no argument: a verb that writes has to say so."""

from __future__ import annotations

import pytest
from django.template import Context, Template

from tests.app.models import Purchase


@pytest.mark.parametrize(
    "verb",
    [
        "state_cancel",
        "state_do_deletes",
        "state_retry",
        "state_touch",
        "state_transition_check",
        "state_unpark",
    ],
)
def test_that_a_template_names_one_writes_nothing(verb: str) -> None:
    """It would fail here, where no database may be used."""
    page = Template(f"<p>{{{{ row.{verb} }}}}</p>")

    assert page.render(Context({"row": Purchase(pk=1)})) == "<p></p>"
