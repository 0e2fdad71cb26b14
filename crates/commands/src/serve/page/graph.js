// Draws the graph: nodes with their metrics, and edges with their throughput.

const INPUT = "\u0000input";
const OUTPUT = "\u0000output";
const END_SIZE = { width: 66, height: 34 };
const NODE_HEIGHT = 118;
const SIZES = [
  { node: 224, gap: 84 },
  { node: 206, gap: 64 },
  { node: 186, gap: 54 },
];
const LEAST_SCALE = 0.72;
const NARROW_PX = 700;
const MARGIN = 18;
const INSET = 16;
const BAR_HEIGHT = 4;

class GraphView {
  constructor(container) {
    this.container = container;
    this.status = null;
    this.drawn = "";
    new ResizeObserver(() => this.status && this.show(this.status, this.flow)).observe(container);
  }

  /** Show the metrics of a status. Draw the graph again if its structure or the width of the page has changed. */
  show(status, flow) {
    this.status = status;
    this.flow = flow;
    const width = this.container.clientWidth;
    const shape = JSON.stringify([
      status.nodes.map(({ id, type, placement, stage }) => [id, type, placement, stage]),
      status.edges,
      width,
    ]);
    if (shape !== this.drawn && width > 0) {
      this.draw(status, width);
      this.drawn = shape;
    }
    status.nodes.forEach((node) => this.updateNode(node));
    this.links.forEach((link) => updateLink(link, this.flow.ofEdge(link.from, link.to)));
  }

  draw(status, width) {
    const edges = withEnds(status);
    const plan = fit(status, edges, width);
    const svg = createSvg("svg", {
      role: "img",
      "aria-label": describe(status),
      viewBox: `0 0 ${plan.width} ${plan.height}`,
      width: Math.round(plan.width * plan.scale),
      height: Math.round(plan.height * plan.scale),
    });
    this.container.replaceChildren(svg);
    this.container.scrollLeft = plan.isDown ? (plan.width * plan.scale - width) / 2 : 0;
    this.links = edges.map(([from, to], index) => ({ from, to, ...drawLink(svg, plan, plan.routes[index]) }));
    drawStages(svg, status, plan);
    drawEnd(svg, plan, INPUT, "input");
    drawEnd(svg, plan, OUTPUT, "output");
    this.nodes = new Map(status.nodes.map((node) => [node.id, drawNode(svg, plan, node)]));
  }

  updateNode(node) {
    const parts = this.nodes.get(node.id);
    setText(parts.p50, formatDuration(node.p50_us));
    setText(parts.p99, formatDuration(node.p99_us));
    setText(parts.items, plural(node.items_in, "item"));
    parts.queue.setAttribute("visibility", node.queue_capacity ? "visible" : "hidden");
    if (node.queue_capacity) {
      const share = Math.min(1, node.queue_len / node.queue_capacity);
      parts.fill.style.transform = `scaleX(${share})`;
      parts.fill.dataset.level = share >= 0.9 ? "full" : share >= 0.5 ? "high" : "low";
      const word = parts.width === SIZES.at(-1).node ? "" : "queue ";
      setText(parts.length, `${word}${node.queue_len}/${node.queue_capacity}`);
    }
    updateChips(parts, [
      ["error", node.errors, "error"],
      ["restart", node.restarts, "warning"],
      ["retry", node.retries, "warning"],
      ["drop", node.dropped, "warning"],
    ]);
  }
}

/** Return the edges, including those from the input to the first nodes and from the last nodes to the output. */
function withEnds({ nodes, edges }) {
  const targets = new Set(edges.map(([, to]) => to));
  const sources = new Set(edges.map(([from]) => from));
  return [
    ...nodes.filter(({ id }) => !targets.has(id)).map(({ id }) => [INPUT, id]),
    ...edges,
    ...nodes.filter(({ id }) => !sources.has(id)).map(({ id }) => [id, OUTPUT]),
  ];
}

function describe({ pipeline, nodes, edges }) {
  const names = nodes.map(({ id }) => id).join(", ");
  const pairs = edges.map(([from, to]) => `${from} to ${to}`).join(", ");
  const parts = [`Graph of the pipeline ${pipeline}. ${plural(nodes.length, "node")}: ${names}.`];
  if (pairs) {
    parts.push(`Edges: ${pairs}.`);
  }
  return [...parts, "The table below has the figures."].join(" ");
}

/** Choose direction, size and scale: left to right, or downwards on a narrow screen. */
function fit(status, edges, width) {
  const isDown = width < NARROW_PX;
  for (const size of SIZES) {
    const plan = arrange(status, edges, size, isDown);
    plan.scale = Math.max(LEAST_SCALE, Math.min(1, width / plan.width));
    if (plan.width * plan.scale <= width + 1 && (plan.scale === 1 || size === SIZES.at(-1))) {
      return plan;
    }
  }
  return { ...arrange(status, edges, SIZES.at(-1), isDown), scale: LEAST_SCALE };
}

function arrange({ nodes }, edges, { node: nodeWidth, gap }, isDown) {
  const boxes = [
    { id: INPUT, ...END_SIZE },
    ...nodes.map(({ id }) => ({ id, width: nodeWidth, height: NODE_HEIGHT })),
    { id: OUTPUT, ...END_SIZE },
  ];
  const vertices = boxes.map(({ id, width, height }) =>
    isDown ? { id, along: height, across: width } : { id, along: width, across: height },
  );
  const laid = layOut(vertices, edges, isDown ? { along: 52, across: 24 } : { along: gap, across: 34 });
  const point = ({ along, across }) =>
    isDown ? { x: across + MARGIN, y: along + MARGIN } : { x: along + MARGIN, y: across + MARGIN };
  const [width, height] = isDown ? [laid.across, laid.along] : [laid.along, laid.across];
  return {
    isDown,
    nodeWidth,
    places: new Map([...laid.places].map(([id, place]) => [id, point(place)])),
    routes: laid.routes.map((route) => route.map(point)),
    width: width + 2 * MARGIN,
    height: height + 2 * MARGIN,
  };
}

function drawLink(svg, { isDown }, route) {
  const path = route.slice(1).reduce((text, { x, y }, index) => {
    const from = route[index];
    const [half, across] = isDown ? [(y - from.y) / 2, 0] : [0, (x - from.x) / 2];
    return `${text} C${from.x + across} ${from.y + half} ${x - across} ${y - half} ${x} ${y}`;
  }, `M${route[0].x} ${route[0].y}`);
  const tip = route.at(-1);
  const arrow = isDown
    ? `M${tip.x - 4.5} ${tip.y - 8} L${tip.x} ${tip.y} L${tip.x + 4.5} ${tip.y - 8} Z`
    : `M${tip.x - 8} ${tip.y - 4.5} L${tip.x} ${tip.y} L${tip.x - 8} ${tip.y + 4.5} Z`;
  const middle = 2 * Math.floor((route.length / 2 - 1) / 2);
  const [x, y] = [(route[middle].x + route[middle + 1].x) / 2, (route[middle].y + route[middle + 1].y) / 2];
  const label = createSvg("text", {
    class: "rate",
    x: isDown ? x + 10 : x,
    y: isDown ? y + 4 : y - 9,
    "text-anchor": isDown ? "start" : "middle",
  });
  const group = createSvg(
    "g",
    { class: "link" },
    createSvg("path", { class: "line", d: path }),
    createSvg("path", { class: "flow", d: path }),
    createSvg("path", { class: "arrow", d: arrow }),
    label,
  );
  svg.append(group);
  return { group, label };
}

function updateLink({ group, label }, rate) {
  setText(label, rate > 0 ? `${formatRate(rate)}/s` : "");
  // In few steps, because an animation jumps when its duration changes.
  group.dataset.speed = rate > 0 ? Math.min(4, 1 + Math.floor(Math.log10(1 + rate))) : 0;
}

function drawEnd(svg, { places }, id, text) {
  const { x, y } = places.get(id);
  svg.append(
    createSvg(
      "g",
      { class: "end", transform: `translate(${x} ${y})` },
      createSvg("rect", { ...END_SIZE, rx: END_SIZE.height / 2 }),
      createSvg(
        "text",
        { x: END_SIZE.width / 2, y: END_SIZE.height / 2 + 4.5, "text-anchor": "middle" },
        text,
      ),
    ),
  );
}

/** Draw a frame around nodes that share a stage. */
function drawStages(svg, { nodes }, { places, nodeWidth }) {
  for (const stage of new Set(nodes.map((node) => node.stage))) {
    const here = nodes.filter((node) => node.stage === stage).map(({ id }) => places.get(id));
    if (here.length < 2) {
      continue;
    }
    const [left, top] = [Math.min(...here.map(({ x }) => x)) - 9, Math.min(...here.map(({ y }) => y)) - 14];
    const [right, bottom] = [
      Math.max(...here.map(({ x }) => x)) + nodeWidth + 9,
      Math.max(...here.map(({ y }) => y)) + NODE_HEIGHT + 9,
    ];
    const isInside = ({ id }) => {
      const { x, y } = places.get(id);
      return x > left && x < right && y > top && y < bottom;
    };
    if (nodes.filter(isInside).length === here.length) {
      const title = createSvg(
        "title",
        {},
        "One stage: these nodes run together, without queues between them.",
      );
      svg.append(
        createSvg(
          "rect",
          { class: "stage", x: left, y: top, width: right - left, height: bottom - top, rx: 14 },
          title,
        ),
      );
    }
  }
}

function drawNode(svg, { places, nodeWidth }, node) {
  const { x, y } = places.get(node.id);
  const text = (kind, left, top, content = "", anchor = "start") =>
    createSvg("text", { class: kind, x: left, y: top, "text-anchor": anchor }, content);
  const right = nodeWidth - INSET;
  const parts = {
    width: nodeWidth,
    p50: text("figure", 44, 77),
    p99: text("figure", nodeWidth / 2 + 34, 77),
    items: text("figure", INSET, 98),
    length: text("label", right, 98, "", "end"),
    fill: createSvg("rect", { class: "fill", width: right - INSET, height: BAR_HEIGHT, rx: 2 }),
    chips: createSvg("g", { class: "chips" }),
  };
  const bar = createSvg(
    "g",
    { transform: `translate(${INSET} ${NODE_HEIGHT - 12})` },
    createSvg("rect", { class: "bar", width: right - INSET, height: BAR_HEIGHT, rx: 2 }),
    parts.fill,
  );
  parts.queue = createSvg(
    "g",
    { class: "queue" },
    createSvg("title", {}, "Items that wait in the queue of this node"),
    bar,
    parts.length,
  );
  const [name, type] = [text("name", INSET, 28, node.id), text("label", INSET, 46, node.type)];
  const placement = text("placement", right, 46, node.placement, "end");
  svg.append(
    createSvg(
      "g",
      { class: "node", "data-placement": node.placement, transform: `translate(${x} ${y})` },
      createSvg("rect", { class: "box", width: nodeWidth, height: NODE_HEIGHT, rx: 10 }),
      createSvg("rect", { class: "stripe", x: 5, y: 12, width: 3, height: NODE_HEIGHT - 24, rx: 1.5 }),
      name,
      type,
      placement,
      createSvg("path", { class: "rule", d: `M${INSET} 57H${right}` }),
      text("label", INSET, 77, "p50"),
      text("label", nodeWidth / 2 + 6, 77, "p99"),
      parts.p50,
      parts.p99,
      parts.items,
      parts.queue,
      parts.chips,
    ),
  );
  shortenToFit(name, node.id, right - INSET);
  shortenToFit(type, node.type, right - INSET - placement.getComputedTextLength() - 8);
  return parts;
}

function shortenToFit(element, text, width) {
  for (let length = text.length; length > 1 && element.getComputedTextLength() > width; length -= 1) {
    element.textContent = `${text.slice(0, length - 1)}…`;
  }
  if (element.textContent !== text) {
    element.append(createSvg("title", {}, text));
  }
}

/** Show the problems of a node as chips on its upper edge: the most serious ones, as many as fit. */
function updateChips({ chips, width }, counts) {
  const shown = counts.filter(([, count]) => count > 0);
  const key = JSON.stringify(shown);
  if (chips.dataset.key === key) {
    return;
  }
  chips.dataset.key = key;
  let right = width - 10;
  chips.replaceChildren(
    ...shown.flatMap(([word, count, kind]) => {
      const text = word === "retry" && count !== 1 ? `${formatCount(count)} retries` : plural(count, word);
      const size = text.length * 6.3 + 16;
      if (right < size) {
        return [];
      }
      right -= size + 5;
      return createSvg(
        "g",
        { class: `chip ${kind}`, transform: `translate(${right + 5} -9)` },
        createSvg("rect", { width: size, height: 18, rx: 9 }),
        createSvg("text", { x: size / 2, y: 12.7, "text-anchor": "middle" }, text),
      );
    }),
  );
}
