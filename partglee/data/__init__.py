"""Data sets, and the vocabularies that ship with the library."""
