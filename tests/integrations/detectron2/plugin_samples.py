"""What the tests of the plug-in share."""

NAMES = "dog: head, tail; person: arm, lower leg; cat"
