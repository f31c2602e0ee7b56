"""Making MGSC data (arXiv 2409.13407): masks labelled, put into a tree, described; records of USCDF.

The tree, the descriptions and the job that can be killed and goes on are the annotation engine's (`partglee.annotate`);
here is what looks at one mask at a time, and the way from a job to records.
"""

from mglmm.mgsc.export import Exported, export_uscdf
from mglmm.mgsc.label import LABELLERS, Label, Labelled, highlighted, read_label

__all__ = ["LABELLERS", "Exported", "Label", "Labelled", "export_uscdf", "highlighted", "read_label"]
