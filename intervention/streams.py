"""What the streams of random numbers of this package are for.

A purpose is folded into its keys right after the seed, so that no two purposes meet the same noise whatever courses,
persons and weeks they count. The numbers lie beyond any episode of a simulation, which folds its own counters there.
"""

(
    TRIALS,
    FORECAST,
    FORECAST_TWIN,
    FORECAST_TRIAL,
    EFFECTS,
    PERSONS,
    FUTURES,
    SPEED,
    ACTIONS,
    HISTORIES,
    DEMONSTRATIONS,
) = range(1 << 40, (1 << 40) + 11)
