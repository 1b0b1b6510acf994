"""Peers side by side, in one run: `make bench`. README.md says what is measured, and how."""
