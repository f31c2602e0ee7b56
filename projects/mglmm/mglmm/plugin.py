"""What the project adds to the library when it is imported."""

from __future__ import annotations

from mglmm.data.check import check_uscdf
from mglmm.data.published import register_published
from mglmm.data.record import SUFFIX
from mglmm.mgsc.label import Label
from mglmm.recipe import MGLMM_RECIPE
from mglmm.toy.scenes import register_toy
from partglee.annotate import register_stage
from partglee.data.checks.forms import register_form
from partglee.engine.recipe import register_recipe


def _label() -> type[Label]:
    return Label


def register() -> None:
    """The recipe `mglmm`, toy scenes with captions, published data, and how `partglee data check` looks at USCDF."""
    register_form(SUFFIX, check_uscdf)
    register_recipe(MGLMM_RECIPE)
    register_stage("mgsc_label", _label, replace=True)
    register_toy()
    register_published()
