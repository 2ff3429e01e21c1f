"""Why a run does not learn, in plain sentences, each with its evidence and the field to change."""
