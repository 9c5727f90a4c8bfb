"""Prepare the scans in a folder, which takes long enough to be killed on the way: SCANS STORE."""

import sys
import time
from pathlib import Path

from glmae.scans import store
from glmae.scans.cases import find_images
from glmae.scans.normalisation import Normalisation
from glmae.scans.preparation import Preparation

if __name__ == "__main__":
    prepare = store.prepare_image

    def slowly(*arguments):
        time.sleep(0.1)
        return prepare(*arguments)

    store.prepare_image = slowly
    plan = Preparation((1.0, 1.0, 1.0), (Normalisation("zscore"),))
    store.ScanStore.prepare(Path(sys.argv[2]), find_images([Path(sys.argv[1])]), plan)
