/**
 * Orders versions as https://semver.org/#spec-item-11 does: negative if `a` is older than `b`, 0 if neither is.
 * Build metadata doesn't count; what is no number is compared as text.
 */
export function compareVersions(a: string, b: string): number {
  const [release, preRelease] = split(a);
  const [otherRelease, otherPreRelease] = split(b);
  const order = compareParts(release, otherRelease);
  if (order !== 0) return order;
  if (preRelease === undefined || otherPreRelease === undefined) {
    return Number(preRelease === undefined) - Number(otherPreRelease === undefined);
  }
  return compareParts(preRelease, otherPreRelease);
}

function split(version: string): [release: string, preRelease: string | undefined] {
  const core = version.split('+', 1)[0]!;
  const dash = core.indexOf('-');
  return dash < 0 ? [core, undefined] : [core.slice(0, dash), core.slice(dash + 1)];
}

function compareParts(a: string, b: string): number {
  const others = b.split('.');
  for (const [index, part] of a.split('.').entries()) {
    const other = others[index];
    if (other === undefined) return 1;
    const order = comparePart(part, other);
    if (order !== 0) return order;
  }
  return others.length > a.split('.').length ? -1 : 0;
}

function comparePart(a: string, b: string): number {
  const numeric = /^\d+$/.test(a);
  const otherNumeric = /^\d+$/.test(b);
  if (numeric && otherNumeric) return Number(a) - Number(b);
  if (numeric !== otherNumeric) return numeric ? -1 : 1;
  return a < b ? -1 : Number(a > b);
}
