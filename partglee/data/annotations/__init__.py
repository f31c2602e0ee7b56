"""Annotation files: hierarchical COCO JSON and its column cache, categories, and files in shards."""
