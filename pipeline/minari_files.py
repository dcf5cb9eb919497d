"""A Minari dataset's files, written a batch of episodes at a time, in Minari's ``arrow`` format.

Minari writes one episode after the other, and counts the whole folder after each: 2,000 episodes take minutes. The
same files are written here from whole batches; the folder's head (spaces, environment, metadata) is Minari's own work.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from gymnasium import Space
from gymnasium.envs.registration import EnvSpec

from core.errors import ConfigError
from pipeline.recording import Recording

FORMAT = "arrow"
INSTALL = 'pip install -e ".[minari]"'


def require_minari() -> str:
    """Minari's version.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import minari
    except ImportError as error:
        raise ConfigError(
            f"stage=dataset needs Minari, which cannot be imported ({error}); install it with `{INSTALL}`"
        ) from error
    return minari.__version__


class MinariWriter:
    """Adds episodes to a new dataset in ``folder`` (Minari's ``NAME/data``)."""

    def __init__(self, folder: Path, observation: Space[Any], action: Space[Any], env: EnvSpec) -> None:
        from minari.dataset.minari_storage import MinariStorage

        self.folder, self.episodes, self.steps = folder, 0, 0
        self._storage = MinariStorage.new(folder, observation, action, env, data_format=FORMAT, jpeg_encoding=False)

    def add(self, recording: Recording) -> None:
        """Append the episodes of a batch; their ids go on counting."""
        table, starts = as_table(recording)
        for place, start in enumerate(starts):
            length, episode = int(recording.length[place]), self.episodes + place
            folder = self.folder / str(episode)
            folder.mkdir()
            with pa.OSFile(str(folder / "part-0.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_batch(table.slice(start, length + 1))
            facts = {"id": episode, "total_steps": length, "seed": int(recording.seed[place])}
            (folder / "metadata.json").write_text(json.dumps(facts))
        self.episodes += len(starts)
        self.steps += int(recording.length.sum())

    def finish(self, facts: dict[str, Any]) -> float:
        """Write the metadata and return the size in MB; without it Minari does not know the episodes."""
        size = float(self._storage.get_size())
        counts = {"total_episodes": self.episodes, "total_steps": self.steps, "dataset_size": size}
        self._storage.update_metadata(facts | counts)
        return size


def as_table(recording: Recording) -> tuple[pa.RecordBatch, np.ndarray]:
    """One row for each observation, episode after episode, and the row each episode starts at.

    A step's row holds the observation before it; the last row of an episode has none after it, and zeros in their place.
    """
    step = np.arange(recording.rewards.shape[1] + 1)
    kept = step <= recording.length[:, None]  # (B, T + 1)
    done = (step < recording.length[:, None])[kept]

    def rows(values: np.ndarray) -> pa.Array:
        padded = np.concatenate([values, np.zeros_like(values[:, :1])], axis=1)[kept]
        padded[~done] = 0
        return column(padded)

    actions = recording.actions
    infos = {name: values[kept] for name, values in recording.infos.items()}
    columns = {
        "observations": column(recording.observations[kept]),
        "actions": struct({k: rows(v) for k, v in actions.items()}) if isinstance(actions, dict) else rows(actions),
        "rewards": rows(recording.rewards),
        "terminations": rows(recording.terminations),
        "truncations": rows(recording.truncations),
        "infos": struct({name: column(v) for name, v in infos.items()}, {n: v.shape[1:] for n, v in infos.items()}),
    }
    starts = np.concatenate([[0], np.cumsum(recording.length + 1)[:-1]])
    return pa.RecordBatch.from_pydict(columns), starts


def column(values: np.ndarray) -> pa.Array:
    """``[R]`` as it is, ``[R, K]`` as lists of K."""
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def struct(columns: dict[str, pa.Array], shapes: dict[str, tuple[int, ...]] | None = None) -> pa.StructArray:
    """Columns under one name; the shape of one that holds lists is noted as Minari notes an info's."""
    fields = []
    for name, values in columns.items():
        shape = (shapes or {}).get(name)
        fields.append(pa.field(name, values.type, metadata={"shape": ",".join(map(str, shape))} if shape else None))
    return pa.StructArray.from_arrays(list(columns.values()), fields=fields)
