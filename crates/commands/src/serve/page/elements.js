// Functions that create elements and format numbers. Data is always set as text, and never parsed as HTML.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

function byId(id) {
  return document.getElementById(id);
}

/** Create an HTML element. Attributes that are `false`, `null` or `undefined` are omitted. */
function create(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function createSvg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG_NAMESPACE, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(key, value === true ? "" : value);
    }
  }
  element.append(...children);
  return element;
}

/** Set a text if it differs, so that selections are kept and screen readers do not repeat it. */
function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Show a text, or hide its element if there is none. */
function showText(element, text) {
  setText(element, text ?? "");
  element.hidden = !text;
}

/** Show a state in a pill, with the colour of its kind. */
function setPill(element, text, kind) {
  setText(element, text);
  element.dataset.kind = kind;
  element.hidden = false;
}

async function copyText(button, text) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => (button.textContent = label), 1500);
}

const WHOLE = new Intl.NumberFormat("en");

function formatCount(count) {
  return count >= 1e6 ? `${(count / 1e6).toPrecision(3)}M` : WHOLE.format(count);
}

/** Format a number per second. */
function formatRate(rate) {
  if (rate >= 10_000) {
    return `${(rate / 1000).toPrecision(3)}k`;
  }
  return rate >= 10 || rate === 0 ? WHOLE.format(Math.round(rate)) : rate.toFixed(1);
}

/** Format a duration in microseconds, in a suitable unit. */
function formatDuration(microseconds) {
  if (microseconds === null || microseconds === undefined) {
    return "–";
  }
  for (const [size, unit] of [
    [1e6, "s"],
    [1e3, "ms"],
  ]) {
    if (microseconds >= size) {
      return `${shorten(microseconds / size)} ${unit}`;
    }
  }
  return `${shorten(microseconds)} µs`;
}

function shorten(value) {
  return value >= 100 || Number.isInteger(value)
    ? String(Math.round(value))
    : String(Number(value.toPrecision(2)));
}

/** Format a number of seconds in its two largest units. */
function formatSpan(seconds) {
  const units = [
    ["d", 86_400],
    ["h", 3600],
    ["min", 60],
    ["s", 1],
  ];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first === -1) {
    return "0 s";
  }
  let rest = Math.floor(seconds);
  const parts = [];
  for (const [unit, size] of units.slice(first, first + 2)) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) {
      parts.push(`${count} ${unit}`);
    }
  }
  return parts.join(" ");
}

function formatFrequency(hertz) {
  return `${Number((hertz / 1000).toFixed(2))} kHz`;
}

function formatSize(bytes) {
  return bytes < 1000 ? plural(bytes, "byte") : `${shorten(bytes / 1000)} kB`;
}

function plural(count, word) {
  return `${formatCount(count)} ${word}${count === 1 ? "" : "s"}`;
}
