"""Networks trained side by side, from the same start on the same batches."""
