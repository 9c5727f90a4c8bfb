"""What a person can do in the panel, by name; `PanelState.enabled` says what of it makes sense now."""

SUGGEST = "suggest"
LABEL, CHECK_LABELS, STATE_PART = ("label", "check labels", "state part")
END_DRAWING, NEXT, PREVIOUS, SURFACES, VOLUMES = ("end drawing", "next", "previous", "surfaces", "volumes")
INSTALL, CANCEL_INSTALL, REMOVE_ENGINE, CHOOSE_ENGINE, CHECK_SET_UP, COPY_REPORT = (
    "install",
    "cancel install",
    "remove engine",
    "choose engine",
    "check set-up",
    "copy report",
)
START_TRAINING, PREVIEW, PAUSE, STOP, CONTINUE, KEEP, DISCARD = (
    "train",
    "preview",
    "pause",
    "stop",
    "continue",
    "keep",
    "discard",
)
START_SEGMENTING, CANCEL, CANCEL_SCAN, RETRY, UNDO, ACCEPT, CORRECT, IMPORT, EXPORT, RENAME, DELETE, COPY_LOG = (
    "segment",
    "cancel",
    "cancel scan",
    "retry",
    "undo",
    "accept",
    "correct",
    "import model",
    "export model",
    "rename model",
    "delete model",
    "copy log",
)

# These change the engine's Python.
OF_THE_ENGINE = (INSTALL, REMOVE_ENGINE, CHOOSE_ENGINE)
# These need the processor or the engine's Python for themselves.
HEAVY = (START_TRAINING, CONTINUE, KEEP, START_SEGMENTING, RETRY, *OF_THE_ENGINE)
