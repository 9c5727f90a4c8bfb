"""Prepare the scans in a folder; the ninth and all further ones wait until the process is killed: SCANS STORE."""

import itertools
import sys
from pathlib import Path

from glmae.events import json_lines
from glmae.scans import store
from glmae.scans.cases import find_images
from glmae.scans.normalization import Normalization
from glmae.scans.preparation import Preparation

if __name__ == "__main__":
    prepare, calls = store.prepare_image, itertools.count(1)

    def waiting(*arguments):
        if next(calls) > 8:
            sys.stdin.read()
        return prepare(*arguments)

    store.prepare_image = waiting
    plan = Preparation((1.0, 1.0, 1.0), (Normalization("zscore"),))
    store.ScanStore.prepare(Path(sys.argv[2]), find_images([Path(sys.argv[1])]), plan, events=json_lines())
