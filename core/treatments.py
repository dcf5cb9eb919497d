"""Treatments: the five choices a policy has each week, and their intensity.

What follows is all that names them in code; what they do and cost is in ``conf/trial.yaml`` and ``conf/env.yaml``. A run
belongs to the treatments it was made with: another list refuses its Twin and its policies.
"""

CONTROL = 0
TREATMENTS = ("control", "app", "cbt", "exercise", "medication")
LABELS = ("Control", "Wellness app", "CBT", "Exercise", "Medication")
SHORT_LABELS = ("none", "app", "CBT", "exercise", "medication")  # heads of narrow columns
# Told apart with any colour vision (Okabe & Ito's palette); Control is the absence of colour.
COLOURS = ("#C9C9C9", "#56B4E9", "#0072B2", "#009E73", "#E69F00")
MIN_INTENSITY = 0.1
MAX_INTENSITY = 1.0
