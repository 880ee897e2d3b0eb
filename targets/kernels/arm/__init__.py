"""Products on 64-bit Arm whose inner loops are written for the registers they fill."""
