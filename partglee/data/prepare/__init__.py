"""Raw downloads -> hierarchical COCO JSON. The scripts in `datasets/` are thin doors to these functions."""
