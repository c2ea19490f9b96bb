"""What a run shows while it trains: TensorBoard, trackers, and the names of charts."""
