"""Annotating images in bulk: recipes of stages, run on one machine or on a Ray cluster, that can be killed and go on.

>>> from partglee.annotate import Job, open_source, read_recipe, run_local
>>> recipe = read_recipe("mres")  # doctest: +SKIP
>>> source = open_source("photos")  # doctest: +SKIP
>>> recipe.check(source.columns)  # doctest: +SKIP
>>> job = Job(folder=Path("out"), recipe=recipe)  # doctest: +SKIP
>>> job.prepare(source.items); run_local(job, workers=4)  # doctest: +SKIP
"""

from partglee.annotate.columns import COLUMNS, Column, register_column
from partglee.annotate.item import Item
from partglee.annotate.job import Failure, Finished, Job, open_job
from partglee.annotate.local import JobStopped, Summary, run_local
from partglee.annotate.recipe import Recipe, list_recipes, read_recipe
from partglee.annotate.sample import Description, Region, Sample
from partglee.annotate.sources import Source, open_source
from partglee.annotate.stage import Resources, Stage, list_stages, register_stage
from partglee.annotate.stages import register_all

register_all()

__all__ = [
    "COLUMNS",
    "Column",
    "Description",
    "Failure",
    "Finished",
    "Item",
    "Job",
    "JobStopped",
    "Recipe",
    "Region",
    "Resources",
    "Sample",
    "Source",
    "Stage",
    "Summary",
    "list_recipes",
    "list_stages",
    "open_job",
    "open_source",
    "read_recipe",
    "register_column",
    "register_stage",
    "run_local",
]
