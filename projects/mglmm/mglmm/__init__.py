"""MGLMM (multi-granularity segmentation and captioning) on partglee. So far its metrics alone: `mglmm.metrics`."""
