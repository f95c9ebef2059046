"""The figures that this project promises: measured, judged, and written to figures.csv."""
