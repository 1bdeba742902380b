/** How Grafana shows numbers; its own names for them. */
type Unit = 'short' | 's' | 'bytes' | 'Bps' | 'percentunit' | 'reqps' | 'ops';

/** One line, or one for each series that the query gives. */
export interface Query {
  /** PromQL; `$rate` stands for the interval of rates, and `$of` for the matchers of the dashboard's variables. */
  readonly expr: string;
  /** Labels in braces: `{{instance}}`. */
  readonly legend: string;
}

/** One picture. */
export interface Panel {
  readonly title: string;
  /** What a high or a low value means; for people. */
  readonly about: string;
  readonly unit: Unit;
  readonly queries: readonly Query[];
  /** `stat` shows the last value only. Default: lines over time. */
  readonly kind?: 'stat';
  /** It is 0 unless something is wrong that a test can't bring about. */
  readonly mayBeZero?: true;
}

/** A part of a dashboard, with a heading. */
export interface Row {
  readonly title: string;
  readonly panels: readonly Panel[];
}

/** A dashboard as it is described here. */
export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly about: string;
  /** What can be chosen at its top, each from the values of a label; its matchers are what `$of` stands for. */
  readonly variables: readonly Variable[];
  readonly rows: readonly Row[];
}

/** A choice among the values of a label. */
export interface Variable {
  readonly label: string;
  /** The metric that has the label. */
  readonly metric: string;
  /** Whether several can be chosen, and are at first. */
  readonly many: boolean;
}

/** The brokers of a cluster. A job of Prometheus is a cluster, on Kubernetes together with its namespace. */
export const CLUSTER: readonly Variable[] = [
  { label: 'namespace', metric: 'agenthub_shards_owned', many: true },
  { label: 'job', metric: 'agenthub_shards_owned', many: true },
];

/** A panel of lines. */
export function lines(title: string, unit: Unit, about: string, ...queries: Query[]): Panel {
  return { title, unit, about, queries };
}

/** A panel of one number. */
export function stat(title: string, unit: Unit, about: string, expr: string): Panel {
  return { title, unit, about, queries: [{ expr, legend: title }], kind: 'stat' };
}

/** The same panel, of something that a test can't break. */
export function quiet(panel: Panel): Panel {
  return { ...panel, mayBeZero: true };
}

/** Median and 99th percentile of a histogram. */
export function percentiles(metric: string, by = ''): Query[] {
  const labels = by === '' ? 'le' : `le, ${by}`;
  const suffix = by === '' ? '' : ` {{${by}}}`;
  return [0.5, 0.99].map((quantile) => ({
    expr: `histogram_quantile(${quantile}, sum by (${labels}) (rate(${metric}_bucket{$of}[$rate])))`,
    legend: `p${quantile * 100}${suffix}`,
  }));
}

/** The query with what its placeholders stand for. */
export function filled({ expr }: Query, of: string, rate: string): string {
  return expr
    .replaceAll(/\{\$of(,?)([^}]*)\}/g, (_, comma: string, more: string) => {
      const all = [of, more].filter((each) => each !== '').join(comma === '' ? '' : ',');
      return all === '' ? '' : `{${all}}`;
    })
    .replaceAll('$rate', rate);
}

const PANEL = { stat: { w: 6, h: 4 }, lines: { w: 12, h: 8 } } as const;
const WIDTH = 24;

/** The dashboard as Grafana imports it. */
export function grafana({ uid, title, about, variables, rows }: Dashboard): object {
  const of = variables.map(({ label }) => `${label}=~"$${label}"`).join(',');
  const panels: object[] = [];
  let id = 0;
  let y = 0;
  for (const row of rows) {
    panels.push({ id: ++id, type: 'row', title: row.title, gridPos: { x: 0, y: y++, w: WIDTH, h: 1 } });
    let x = 0;
    let height = 0;
    for (const panel of row.panels) {
      const { w, h } = PANEL[panel.kind ?? 'lines'];
      if (x + w > WIDTH) {
        x = 0;
        y += height;
        height = 0;
      }
      panels.push(panelOf(panel, ++id, of, { x, y, w, h }));
      x += w;
      height = Math.max(height, h);
    }
    y += height;
  }
  return {
    uid,
    title,
    description: about,
    tags: ['agenthub'],
    schemaVersion: 39,
    version: 1,
    editable: true,
    graphTooltip: 1,
    refresh: '30s',
    time: { from: 'now-1h', to: 'now' },
    templating: { list: [DATASOURCE, ...variables.map(variableOf)] },
    links: [
      {
        type: 'dashboards',
        title: 'AgentHub',
        tags: ['agenthub'],
        asDropdown: true,
        keepTime: true,
        includeVars: true,
      },
    ],
    panels,
  };
}

const SOURCE = { type: 'prometheus', uid: '${datasource}' } as const;
const DATASOURCE = { name: 'datasource', type: 'datasource', query: 'prometheus', label: 'Prometheus' };

function variableOf({ label, metric, many }: Variable): object {
  const query = `label_values(${metric}, ${label})`;
  return {
    name: label,
    label,
    type: 'query',
    datasource: SOURCE,
    query: { query, refId: label },
    definition: query,
    refresh: 2,
    sort: 1,
    multi: many,
    includeAll: many,
    // Without Kubernetes there is no namespace, and no label matches that.
    ...(many ? { allValue: '.*', current: { text: 'All', value: '$__all' } } : {}),
  };
}

function panelOf(
  { title, about, unit, kind, queries }: Panel,
  id: number,
  of: string,
  gridPos: object,
): object {
  return {
    id,
    type: kind ?? 'timeseries',
    title,
    description: about,
    datasource: SOURCE,
    gridPos,
    fieldConfig: {
      defaults: {
        unit,
        min: 0,
        ...(kind === 'stat' ? {} : { custom: { fillOpacity: 10, showPoints: 'never', lineWidth: 1 } }),
      },
      overrides: [],
    },
    options:
      kind === 'stat'
        ? { reduceOptions: { calcs: ['lastNotNull'] }, graphMode: 'area', colorMode: 'value' }
        : { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi', sort: 'desc' } },
    targets: queries.map((query, index) => ({
      refId: String.fromCharCode(65 + index),
      datasource: SOURCE,
      expr: filled(query, of, '$__rate_interval'),
      legendFormat: query.legend,
    })),
  };
}
