"""Runs as web pages: one file each that opens from disk, asks no network, and needs no server."""
