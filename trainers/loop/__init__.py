"""What every training loop needs: batches, processes, signals, averages, precision."""
