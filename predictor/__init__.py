"""Risk: a dual-branch LSTM on profile and week, calibrated, explained, and compared with simple baselines."""
