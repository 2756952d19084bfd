"""Why a step or a cluster failed, from its states and logs."""
