"""Pacing in virtual time: the library's own gate and pacers, and peers, before the same servers."""
