"""What the process imports that workers are forked from; see `runner.warm_up`."""

from alexnet_tf import door

door.quiet_tensorflow()

import data_prep.writer  # noqa: E402, F401
