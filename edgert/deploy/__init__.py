"""Artifacts on devices that commands are sent to: put there safely, run there."""
