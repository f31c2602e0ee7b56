"""What the project adds to the library when it is imported."""

from __future__ import annotations

from mglmm.data.check import check_uscdf
from mglmm.data.record import SUFFIX
from partglee.data.checks.forms import register_form


def register() -> None:
    """Make the form of data known to `partglee data check`."""
    register_form(SUFFIX, check_uscdf)
