"""The panel's widgets: they show `PanelState` and pass clicks on to `Panel`. The only code here that knows Qt."""
