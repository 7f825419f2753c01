"""The guide: directions toward the feasible region, the guide, its safeguard, relaxations and optimizers."""

from cggd.guide.guide import Balance, Guide, GuideStep, Observation, allowed_by
from cggd.guide.safeguard import Safeguard, SafeguardState, SafeguardStep

__all__ = ["Balance", "Guide", "GuideStep", "Observation", "Safeguard", "SafeguardState", "SafeguardStep", "allowed_by"]
