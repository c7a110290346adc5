"""One switch for a folder of runs: while it is thrown no fault begins there, and the active ones are undone.

A file beside the runs. Every runner looks at it several times a second; so a second terminal, or a script, needs
nothing but the folder. It stays thrown until somebody allows faults again. The runs of a suite lie one folder deeper:
they obey the switch of the folder above as well.
"""

from __future__ import annotations

from pathlib import Path

_NAME = "faults-forbidden"
DEFAULT_REASON = "stopped by hand"


class Switch:
    """The switch of one folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / _NAME
        self._above = folder.parent / _NAME

    def forbid(self, reason: str = DEFAULT_REASON) -> None:
        """Throw it. The reason is what others are told."""
        draft = self.path.with_suffix(".draft")
        draft.write_text(f"{reason}\n", encoding="utf-8")
        draft.replace(self.path)

    def allow(self) -> bool:
        """Take it back; False when it was not thrown."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True

    @property
    def reason(self) -> str:
        """Why faults are forbidden; "": they are not."""
        return _reason(self.path) or _reason(self._above)


def _reason(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or DEFAULT_REASON
    except (FileNotFoundError, NotADirectoryError):
        return ""
