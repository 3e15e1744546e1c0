"""The machine: cores, memory, load, what is installed, interrupts."""
