"""The environments that JaxMARL registers: which are offered as `jaxmarl_<name>`, and why the others are not.

A test compares the names with `jaxmarl.registered_envs` of the installed version.
"""

from __future__ import annotations

TRAINS = {  # JaxMARL's name: the function in gpgrad.envs.jaxmarl that makes it
    "MPE_simple_v3": "small:simple",
    "switch_riddle": "small:switch_riddle",
    "coin_game": "small:coin_game",
    "storm": "storm:storm",
    "storm_2p": "storm:storm_2p",
    "storm_np": "storm:storm_np",
    "hanabi": "hanabi:hanabi",
    "overcooked": "overcooked:overcooked",
    "overcooked_v2": "overcooked:overcooked_v2",
    "jaxnav": "jaxnav:jaxnav",
}

_COMPETITIVE = "its agents compete, and a team has one reward"
_CONTINUOUS = "its actions are continuous, and actions must be discrete"
_ROBOTARIUM = "it needs jaxrobotarium, a git submodule of JaxMARL that no package index has"
REFUSED = {  # JaxMARL's name: the reason
    "MPE_simple_tag_v3": _COMPETITIVE,
    "MPE_simple_world_comm_v3": _COMPETITIVE,
    "MPE_simple_crypto_v3": _COMPETITIVE,
    "MPE_simple_push_v3": _COMPETITIVE,
    "MPE_simple_adversary_v3": _COMPETITIVE,
    "MPE_simple_spread_v3": "it is mpe_simple_spread",
    "MPE_simple_reference_v3": "it is mpe_simple_reference",
    "MPE_simple_speaker_listener_v4": "it is mpe_simple_speaker_listener",
    "MPE_simple_facmac_v1": _CONTINUOUS,
    "MPE_simple_facmac_3a_v1": _CONTINUOUS,
    "MPE_simple_facmac_6a_v1": _CONTINUOUS,
    "MPE_simple_facmac_9a_v1": _CONTINUOUS,
    "SMAX": "its two teams compete; smax_<map> has the same battles against scripted enemies",
    "HeuristicEnemySMAX": "it is smax_<map>, for example smax_3m",
    "LearnedPolicyEnemySMAX": "its enemies need a trained policy; smax_<map> has scripted enemies",
    "ant_4x2": _CONTINUOUS,
    "halfcheetah_6x1": _CONTINUOUS,
    "hopper_3x1": _CONTINUOUS,
    "humanoid_9|8": _CONTINUOUS,
    "walker2d_2x3": _CONTINUOUS,
    "JaxRobotarium_navigation": _ROBOTARIUM,
    "JaxRobotarium_discovery": _ROBOTARIUM,
    "JaxRobotarium_material_transport": _ROBOTARIUM,
    "JaxRobotarium_warehouse": _ROBOTARIUM,
    "JaxRobotarium_arctic_transport": _ROBOTARIUM,
    "JaxRobotarium_foraging": _ROBOTARIUM,
    "JaxRobotarium_rware": _ROBOTARIUM,
    "JaxRobotarium_predator_prey": _ROBOTARIUM,
}
