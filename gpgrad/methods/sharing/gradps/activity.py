"""Whether GradPS cloned anything in a run. No jax here."""

from gpgrad.methods.activity import ActivityCheck

CLONING = ActivityCheck(
    about="cloning",
    metric="cloned",
    words="neurons cloned",
    least=1,
    too_little="no neuron was cloned in any test",
    # One clone, a control, is the shared neuron, watched.
    intended=lambda options: options.get("k") != 1,
)
