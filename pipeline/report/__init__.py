"""The report of a run: one page with figures that say what they found, and a patient to try treatments on."""
