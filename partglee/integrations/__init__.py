"""PartGLEE inside other programs; the core imports none of this."""
