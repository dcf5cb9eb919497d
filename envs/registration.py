"""Gymnasium ids. Loaders are named by string, so registering imports neither torch nor the pipeline."""

import gymnasium as gym

FORM_SUFFIXES = {"Dict": "", "Box": "-Box", "Discrete": "-Discrete", "MultiDiscrete": "-MultiDiscrete"}
DYNAMICS = ("Trial", "Twin")


def register_all() -> None:
    """Register ``Mano/{Trial,Twin}[-Box|-Discrete|-MultiDiscrete]-v0``; a second call changes nothing."""
    for dynamics in DYNAMICS:
        for form, suffix in FORM_SUFFIXES.items():
            env_id, loader = f"Mano/{dynamics}{suffix}-v0", f"pipeline.environments:make_{dynamics.lower()}"
            if env_id not in gym.registry:
                gym.register(env_id, entry_point=loader, vector_entry_point=f"{loader}_vec", kwargs={"form": form})
