"""Whether GPVD weakened any transition in a run. No jax here."""

from gpgrad.methods.activity import ActivityCheck

PROTECTION = ActivityCheck(
    about="protection",
    metric="share_downweighted",
    words="share down-weighted",
    least=0.01,
    too_little="less than 1 percent of transitions were down-weighted in every test",
    # With weights of one, a control, nothing is protected by intent.
    intended=lambda options: options.get("alpha") != 1,
)
