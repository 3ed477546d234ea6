"""Settings for the whole suite: how hard the property tests look, and nothing else."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadline: two test workers share two cores, so the time of one example says nothing.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci",
    max_examples=200,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
