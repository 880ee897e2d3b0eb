"""Artifacts for a graphics processor: its library found, a device opened, models run on it."""
