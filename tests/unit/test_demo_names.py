"""File names as text."""

from __future__ import annotations

import os

import pytest

from testapp.demo.names import for_people, from_text, to_text


class TestNames:
    @pytest.mark.parametrize(
        "name", [b"plain", "ü €".encode(), b"\xff\xfe", b"a\\b", b"\\xff", b"\\\\xff\xff", b"a\nb"]
    )
    def test_every_name_comes_back(self, name: bytes) -> None:
        text = to_text(os.fsdecode(name))

        assert os.fsencode(from_text(text)) == name
        assert text.encode().decode() == text

    def test_what_is_printed_moves_no_cursor(self) -> None:
        assert for_people("a\n\x1b[2Jü") == "a\\n\\x1b[2Jü"
