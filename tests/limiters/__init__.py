"""The pace in front of rate limiters that others wrote, as real servers on loopback."""
