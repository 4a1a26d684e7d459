// The parts of Apache ECharts that the charts need, and no others.

import * as echarts from "echarts/core";
import { BarChart, LineChart, ParallelChart, SankeyChart, ScatterChart } from "echarts/charts";
import { AriaComponent, DataZoomInsideComponent, GeoComponent, GridComponent, LegendScrollComponent, LegendPlainComponent, ParallelComponent, TooltipComponent } from "echarts/components";
import { LabelLayout } from "echarts/features";
import { CanvasRenderer } from "echarts/renderers";

echarts.use([BarChart, LineChart, ParallelChart, SankeyChart, ScatterChart, AriaComponent, DataZoomInsideComponent, GeoComponent, GridComponent,
  LegendScrollComponent, LegendPlainComponent, ParallelComponent, TooltipComponent, LabelLayout, CanvasRenderer]);

export { echarts };
