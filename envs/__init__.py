"""Environments: the mechanistic Trial, one batched simulation, and its Gymnasium and SB3 faces.

Importing this package registers the ``Mano/...`` ids with Gymnasium: ``import envs`` or ``gym.make("envs:Mano/Trial-v0")``.
"""

from envs.registration import register_all

register_all()
