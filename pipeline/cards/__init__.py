"""Cards of a run in Markdown: what its data, models and policy are, what they are for, how good, and what they are not."""
