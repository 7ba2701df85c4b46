"""The paper: score, strategies, the cut, the profile, the plan and what it saves."""
