"""What a person can do in the panel, by name; `PanelState.enabled` says what of it makes sense now."""

SUGGEST, LABEL, CHECK_LABELS, STATE_PART, END_DRAWING = "suggest", "label", "check labels", "state part", "end drawing"
NEXT, PREVIOUS, ACCEPT, CORRECT, SURFACES, VOLUMES = "next", "previous", "accept", "correct", "surfaces", "volumes"
START_TRAINING, PREVIEW, PAUSE, STOP = "train", "preview", "pause", "stop"
CONTINUE, KEEP, DISCARD = "continue", "keep", "discard"
START_SEGMENTING, CANCEL, CANCEL_SCAN, RETRY, UNDO = "segment", "cancel", "cancel scan", "retry", "undo"
IMPORT, EXPORT, RENAME, DELETE = "import model", "export model", "rename model", "delete model"
INSTALL, CANCEL_INSTALL, REMOVE_ENGINE = "install", "cancel install", "remove engine"
CHOOSE_ENGINE, CHECK_SET_UP, COPY_REPORT, COPY_LOG = "choose engine", "check set-up", "copy report", "copy log"

# These change the engine's Python.
OF_THE_ENGINE = (INSTALL, REMOVE_ENGINE, CHOOSE_ENGINE)
# These need the processor or the engine's Python for themselves.
HEAVY = (START_TRAINING, CONTINUE, KEEP, START_SEGMENTING, RETRY, *OF_THE_ENGINE)
