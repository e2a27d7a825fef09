"""What a sweep would run and what it would reuse, arm by arm."""

from __future__ import annotations

from core.pipeline.naming import other_config, refusal
from core.stages import Stage
from core.sweep.arms import Arm, Sweep
from flows.planning import Planner, needed_keys
from flows.switches import switches

Promised = dict[tuple[str, str], str]
"""By stage and key, the arm that would make it."""


def describe_sweep(sweep: Sweep) -> str:
    """The plan of each arm as text, what an earlier arm will have made by then named as such."""
    promised: Promised = {}
    head = f"sweep {sweep.name} on {sweep.base}: {len(sweep.arms)} arms under {sweep.root}"
    lines = [head]
    for arm in sweep.arms:
        planner = ArmPlanner(arm, promised)
        planner.go()
        lines += ["", f"arm {arm.name}, run {arm.run}: {' '.join(arm.sets) or 'as the base'}"]
        if differing := other_config(planner.view, arm.resolved):
            lines.append(f"  `understudy sweep` would stop here: {refusal(planner.view, differing)}")
        described = (*needed_keys(planner.pipeline), *planner.stages(), *planner.estimated())
        lines += [f"  {line}" for line in described if line]
    return "\n".join(lines)


class ArmPlanner(Planner):
    """Plans one arm after those before it."""

    def __init__(self, arm: Arm, promised: Promised) -> None:
        super().__init__(arm.resolved, switches(arm.resolved.config.stages))
        self._arm, self._promised = arm.name, promised

    def why(self, stage: Stage) -> str:
        """Made by an earlier arm, or by this one."""
        maker = self._promised.setdefault((stage.name, stage.key), self._arm)
        return super().why(stage) if maker == self._arm else f"reuse, once arm {maker} has made it"
