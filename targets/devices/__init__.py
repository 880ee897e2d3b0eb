"""How an artifact gets to a device and runs there. Simulators of microcontrollers: simulator.py has the interface."""
