"""What a checkpoint needs of a compiled step."""

from collections.abc import Sequence
from typing import Any, Protocol


class Stateful(Protocol):
    """A compiled step."""

    @property
    def variables(self) -> Sequence[Any]:
        """All that steps read and change, in an order that follows from model and options: a checkpoint saves it."""

    def settle(self) -> None:
        """Bring what the steps changed into the variables."""
