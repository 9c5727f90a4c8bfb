"""How the panel looks to others: large letters, the dark style, no mouse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from module_window import ModuleWindow
from panel_scene import give_result, load_scan, segment_with_stand_in
from PySide6.QtGui import QColor, QFont, QPalette
from PySide6.QtWidgets import QApplication, QLabel, QPushButton, QStyle, QTableWidget, QWidget
from standins.pythonqt import Wrapped, unwrap

DARK = {
    QPalette.ColorRole.Window: (50, 50, 50),
    QPalette.ColorRole.WindowText: (230, 230, 230),
    QPalette.ColorRole.Base: (30, 30, 30),
    QPalette.ColorRole.AlternateBase: (45, 45, 45),
    QPalette.ColorRole.Text: (230, 230, 230),
    QPalette.ColorRole.Button: (60, 60, 60),
    QPalette.ColorRole.ButtonText: (230, 230, 230),
    QPalette.ColorRole.Link: (90, 170, 250),
}


@pytest.fixture
def application(scene: Any, tmp_path: Path) -> Iterator[QApplication]:
    """As it is before Slicer's style is chosen; restored afterwards."""
    app = QApplication.instance() or QApplication(["Slicer"])
    assert isinstance(app, QApplication)
    font, palette = QFont(app.font()), QPalette(app.palette())
    yield app
    app.setFont(font)
    app.setPalette(palette)


def training(settings: Path) -> ModuleWindow:
    """A window in which a training is under way, with everything on it that can be."""
    window = ModuleWindow(settings)
    for number, name in enumerate(("hippocampus_003", "hippocampus_039", "hippocampus_057")):
        load_scan(name, labeled=number < 2)
    window.settle()
    window.click("trainButton")
    window.run(until=lambda: len(window.panel.state.loss) > 3)
    return window


def test_it_fits_into_700_pixels_and_440_of_width_at_slicers_9_points(
    application: QApplication, stand_in: Path, tmp_path: Path
) -> None:
    small = QFont(application.font())
    small.setPointSizeF(9)
    application.setFont(small)
    window = ModuleWindow(tmp_path / "settings", width=440)
    for number, name in enumerate(("hippocampus_003", "hippocampus_039", "hippocampus_057", "hippocampus_097")):
        load_scan(name, labeled=number < 2)
    window.settle()
    layout = unwrap(window.frame).layout()

    def least() -> tuple[int, int]:
        window.picture(tmp_path / "picture.png")
        return layout.totalMinimumSize().width(), layout.totalMinimumHeightForWidth(440)

    sizes = [least()]
    give_result(stand_in, remove=True)
    stand_in.write_text("flags", encoding="utf-8")
    segment_with_stand_in(window, tmp_path, ("hippocampus_207", "hippocampus_230"))
    window.click("nextButton")
    sizes.append(least())
    assert len(window.panel.state.review.splitlines()) == 3  # its doubts are shown
    assert max(width for width, _height in sizes) <= 440, sizes
    assert max(height for _width, height in sizes) <= 700, sizes
    header = unwrap(window.ui.scanTable).horizontalHeader()
    assert not header.highlightSections()  # bold, it would be cut off
    window.close()


def test_nothing_is_cut_off_with_letters_of_150_percent(
    application: QApplication, stand_in: Path, tmp_path: Path
) -> None:
    large = QFont(application.font())
    large.setPointSizeF(1.5 * large.pointSizeF())
    application.setFont(large)
    window = training(tmp_path / "settings")
    for section in (window.ui.advancedSection, window.ui.filesSection):
        section.collapsed = False
    window.settle(1)
    window.picture(tmp_path / "large.png")
    frame = unwrap(window.frame)
    for button in frame.findChildren(QPushButton):
        if button.isVisible():
            needed = button.fontMetrics().horizontalAdvance(button.text())
            assert button.width() >= needed + 2 * button.style().pixelMetric(QStyle.PixelMetric.PM_DefaultFrameWidth), (
                button.text()
            )
            assert button.height() >= button.fontMetrics().height(), button.text()
    for label in frame.findChildren(QLabel):
        if label.isVisible() and label.text() and label.wordWrap():
            assert label.height() >= label.heightForWidth(label.width()), label.text()
    for table in frame.findChildren(QTableWidget):
        if table.isVisible() and table.rowCount():
            assert table.rowHeight(0) >= table.fontMetrics().height(), table.objectName()
    assert frame.width() <= 1.5 * 480  # fits where a panel of Slicer's usual width does
    window.close()


def test_the_dark_style(application: QApplication, stand_in: Path, tmp_path: Path) -> None:
    dark = QPalette()
    for role, color in DARK.items():
        dark.setColor(role, QColor(*color))
    for role in (QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText, QPalette.ColorRole.WindowText):
        dark.setColor(QPalette.ColorGroup.Disabled, role, QColor(120, 120, 120))
    application.setPalette(dark)
    window = training(tmp_path / "settings")
    window.picture(tmp_path / "dark.png")
    curves = unwrap(window.ui.curveLabel).pixmap().toImage()
    seen = {curves.pixelColor(x, y).getRgb()[:3] for x in range(curves.width()) for y in range(curves.height())}
    assert {DARK[QPalette.ColorRole.Base], DARK[QPalette.ColorRole.Text]} <= seen
    ground = unwrap(window.frame).grab().toImage()
    assert ground.pixelColor(2, 2).lightness() < 80
    window.close()


def test_the_tab_key_goes_from_top_to_bottom_and_misses_nothing(window: ModuleWindow, stand_in: Path) -> None:
    for number, name in enumerate(("hippocampus_003", "hippocampus_039", "hippocampus_057")):
        load_scan(name, labeled=number < 2)
    window.settle()
    frame: QWidget = unwrap(window.frame)
    chain: list[QWidget] = []
    widget = frame.nextInFocusChain()
    while widget is not frame and len(chain) < 1000:
        chain.append(widget)
        widget = widget.nextInFocusChain()
    stops = [w for w in chain if w.focusPolicy().value & 1 and w.isVisible() and w.isEnabled()]
    for button in frame.findChildren(QPushButton):
        assert not (button.isVisible() and button.isEnabled()) or button in stops, button.text()
    named = {name: unwrap(widget) for name, widget in vars(window.ui).items() if isinstance(widget, Wrapped)}
    order = ["loadButton", "dicomButton", "suggestButton", "volumesButton", "budgetSelector", "modelButton"]
    places = [stops.index(named[name]) for name in order]
    assert places == sorted(places)
    heights = [named[name].mapTo(frame, named[name].rect().topLeft()).y() for name in order]
    assert heights == sorted(heights)
