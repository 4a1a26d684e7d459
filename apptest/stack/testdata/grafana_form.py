"""Reads rendered dashboards with Grafana's SDK, and their expressions with promql-parser. Fails at the first fault."""

import json
import pathlib
import re
import sys

import promql_parser
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.models import dashboard as models

plugins.register_default_plugins()
panels = expressions = 0
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    read = models.Dashboard.from_json(json.loads(path.read_text()))
    assert read.uid and read.title and read.panels, path
    for panel in read.panels:
        if isinstance(panel, models.RowPanel) or panel.type_val == "row":
            continue
        panels += 1
        assert panel.title and panel.grid_pos.w and panel.targets, (path, panel.title)
        assert panel.field_config.defaults.unit, (path, panel.title)
        for target in panel.targets:
            expr = re.sub(r"\$__rate_interval|\$__range", "1m", target.expr)
            promql_parser.parse(expr)
            expressions += 1
print(f"{panels} panels, {expressions} expressions")
