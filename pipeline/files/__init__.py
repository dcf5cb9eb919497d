"""How a run's folder is kept: one process at a time, nothing parsed that is not whole, trainings that go on."""
