"""`edgert tune`: tile sizes measured where a model will run: here, on a device, or on a farm of devices."""
