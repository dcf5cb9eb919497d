"""Treatments: the five choices a policy has each week, and their intensity."""

CONTROL = 0
TREATMENTS = ("control", "app", "cbt", "exercise", "medication")
LABELS = ("Control", "Wellness app", "CBT", "Exercise", "Medication")
MIN_INTENSITY = 0.1
MAX_INTENSITY = 1.0
