"""The files below a folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from testapp.demo.places import is_own

INSTALLED_BY_OTHERS = frozenset({"site-packages", "dist-packages"})


@dataclass
class Walk:
    """Goes through `folder`, without following links to other folders."""

    folder: Path
    leave_out: Collection[str] = ()
    unreadable: list[str] = field(default_factory=list)

    def files(self) -> Iterator[str]:
        """The path of everything that is not a folder: also what will turn out to be unreadable."""
        for place, folders, names in os.walk(self.folder, onerror=self._note):
            folders[:] = sorted(each for each in folders if not self._left_out(place, each))
            for name in sorted(names):
                path = os.path.join(place, name)
                if not is_own(Path(path)):
                    yield path

    def _left_out(self, place: str, name: str) -> bool:
        return name in self.leave_out or is_own(Path(place, name))

    def _note(self, error: OSError) -> None:
        self.unreadable.append(str(error.filename))
