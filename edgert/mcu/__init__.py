"""What becomes of a model compiled for a microcontroller: firmware, libraries, packages; and whether it fits."""
