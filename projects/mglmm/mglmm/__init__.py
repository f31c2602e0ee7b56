"""MGLMM (arXiv 2409.13407): images described in sentences whose phrases have masks, on partglee and transformers.

`mglmm.metrics` needs numpy alone; the model needs the extra `model`.
"""

from mglmm.plugin import register

register()
