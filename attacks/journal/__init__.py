"""What an evaluation has found so far, on the disk, and whether it may go on."""
